package tcp

import (
	"testing"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

func TestParseCame(t *testing.T) {
	n := proto.Uint32
	for _, e := range []*extra.Came{
		{}, {Hops: n(0)}, {Hops: n(freshHops)}, {Hops: n(256)}, {Hops: n(64), FlowInfo: n(mostFlow + 1)},
	} {
		if c, err := ParseCame(e); err == nil {
			t.Errorf("%v: got %v", e, c)
		}
	}
	for _, want := range []Came{{}, {Flow: mostFlow, Hops: 255, By: true}, {Hops: 64}, {Flow: 1, Hops: freshHops}} {
		if got, err := ParseCame(want.Entry()); err != nil || got != want {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
}
