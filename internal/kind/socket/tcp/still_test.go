package tcp

import (
	"errors"
	"fmt"
	"testing"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
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

// So is one that only a message has.
func TestHeldUntilStill(t *testing.T) {
	r, err := kmem.Open("tcp_sock")
	testkit.KernelMemory(t, err)
	defer r.Close()
	calls := 0
	look := func(*sockmem.Picture) error {
		calls++
		return nil
	}
	if _, err := NewQueues(r).Held(0, look); !errors.Is(err, kmem.ErrUnavailable) || calls != attempts {
		t.Errorf("what makes no sense is read %d times, %v", calls, err)
	}
}
