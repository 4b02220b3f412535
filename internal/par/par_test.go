package par

import (
	"errors"
	"sync/atomic"
	"testing"
)

func TestDo(t *testing.T) {
	for _, n := range []int{0, 1, few - 1, few, few + 1, 10*few - 1, 1000} {
		calls := make([]atomic.Int32, n)
		if err := Do(n, func(i int) error { calls[i].Add(1); return nil }); err != nil {
			t.Fatal(err)
		}
		for i := range calls {
			if c := calls[i].Load(); c != 1 {
				t.Errorf("of %d: call %d was made %d times", n, i, c)
			}
		}
	}
}

func TestDoError(t *testing.T) {
	bad := errors.New("bad")
	for _, n := range []int{1, 5, 100} {
		err := Do(n, func(i int) error {
			if i == n-1 {
				return bad
			}
			return nil
		})
		if err != bad {
			t.Errorf("of %d: %v", n, err)
		}
	}
	if err := Do(100, func(int) error { return bad }); err != bad {
		t.Errorf("all fail: %v", err)
	}
}

func TestBesides(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	for _, c := range []struct{ f, g, want error }{{nil, nil, nil}, {one, nil, one}, {nil, two, two}, {one, two, two}} {
		var ran [2]bool
		err := Besides(func() error { ran[0] = true; return c.f }, func() error { ran[1] = true; return c.g })
		if err != c.want || ran != [2]bool{true, true} {
			t.Errorf("%v beside %v: %v, ran %v", c.f, c.g, err, ran)
		}
	}
}

// The two must be able to wait for each other.
func TestBesidesTogether(t *testing.T) {
	a, b := make(chan struct{}), make(chan struct{})
	err := Besides(func() error { close(a); <-b; return nil }, func() error { <-a; close(b); return nil })
	if err != nil {
		t.Fatal(err)
	}
}
