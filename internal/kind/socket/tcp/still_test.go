package tcp

import (
	"errors"
	"fmt"
	"testing"

	"glis.dev/glis/internal/kmem"
)

// TestUntilStill: a connection that changes while it is read is read again, also if what was
// read made no sense; all else is told at once.
func TestUntilStill(t *testing.T) {
	torn := fmt.Errorf("%w: a piece is too much for its buffer", kmem.ErrUnavailable)
	other := errors.New("other")
	want := &Waiting{}
	for _, c := range []struct {
		name  string
		says  []error // the last one ever after
		calls int
		err   error // nil: it is read
	}{
		{"still", []error{nil}, 1, nil},
		{"it changed twice", []error{errMoved, torn, nil}, 3, nil},
		{"refused", []error{torn, other}, 2, other},
		{"memory that can't be read", []error{torn}, attempts, kmem.ErrUnavailable},
	} {
		calls := 0
		w, err := untilStill(func() (*Waiting, error) {
			err := c.says[min(calls, len(c.says)-1)]
			calls++
			return want, err
		})
		if calls != c.calls || !errors.Is(err, c.err) || c.err == nil && (err != nil || w != want) {
			t.Errorf("%s: %d calls, %v", c.name, calls, err)
		}
	}
	if _, err := untilStill(func() (*Waiting, error) { return nil, errMoved }); err == nil || errors.Is(err, errMoved) {
		t.Errorf("it never stands still: %v", err)
	}
}
