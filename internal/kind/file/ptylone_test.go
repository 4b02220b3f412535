package file

import (
	"testing"

	"glis.dev/glis/internal/standin"
)

// What waits at a slave is the same, or a part has come that there was no room for.
func TestSameInput(t *testing.T) {
	was := &standin.Terminal{Typed: []byte("typed"), Arriving: []byte("arriving")}
	for _, x := range []struct {
		typed, arriving string
		want            bool
	}{
		{"typed", "arriving", true}, {"typedarr", "iving", true}, {"typed", "iving", true}, // which was "arr" may mean something else
		{"typedarriving", "", true}, {"type", "arriving", false}, {"type", "darriving", false}, {"typos", "iving", false}, {"typed", "other", false}, {"", "", false},
	} {
		if got := sameInput(&standin.Terminal{Typed: []byte(x.typed), Arriving: []byte(x.arriving)}, was); got != x.want {
			t.Errorf("%q and %q: %v", x.typed, x.arriving, got)
		}
	}
}
