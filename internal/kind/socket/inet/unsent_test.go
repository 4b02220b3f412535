package inet

import (
	"net/netip"
	"testing"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

// What isn't sent yet may have an interface to leave by, an address of its own that it
// comes from, or both.
func TestUnsentFrom(t *testing.T) {
	for _, u := range []unsent{
		{data: []byte("x"), via: "d0"},
		{data: []byte("x"), from: netip.MustParseAddr("fe80::1")},
		{data: []byte("x"), from: netip.MustParseAddr("10.0.0.1"), via: "d0"},
		{data: []byte("x")},
		{}, // an empty beginning
	} {
		b, err := proto.Marshal(u.entry())
		must(t, err)
		e, got := &extra.Unsent{}, unsent{}
		must(t, proto.Unmarshal(b, e))
		must(t, got.plan(e))
		if got.via != u.via || got.from != u.from {
			t.Errorf("from %v by %q, want %v by %q", got.from, got.via, u.from, u.via)
		}
	}
}
