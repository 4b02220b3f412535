package event

import (
	"context"
	"errors"
	"slices"
	"testing"
)

type recorder struct {
	got  []string
	fail Point
}

var errNo = errors.New("no")

func (r *recorder) Stage(name string) { r.got = append(r.got, name) }
func (r *recorder) Notify(_ context.Context, p Point, _ int) error {
	r.got = append(r.got, string(p))
	if p == r.fail {
		return errNo
	}
	return nil
}

func TestAll(t *testing.T) {
	a, b := &recorder{fail: PostDump}, &recorder{}
	all := All{a, b}
	all.Stage("freeze")
	if err := all.Notify(t.Context(), PreDump, 1); err != nil {
		t.Error(err)
	}
	if err := all.Notify(t.Context(), PostDump, 1); !errors.Is(err, errNo) {
		t.Errorf("got %v", err)
	}
	if want := []string{"freeze", "pre-dump", "post-dump"}; !slices.Equal(a.got, want) || !slices.Equal(b.got, want[:2]) {
		t.Errorf("%v, %v", a.got, b.got)
	}
}
