package par

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDo(t *testing.T) {
	for _, do := range []func(int, func(int) error) error{Do, Long} {
		testDo(t, do)
	}
}

func testDo(t *testing.T, do func(int, func(int) error) error) {
	t.Helper()
	for _, n := range []int{0, 1, few - 1, few, few + 1, 10*few - 1, 1000} {
		calls := make([]atomic.Int32, n)
		if err := do(n, func(i int) error { calls[i].Add(1); return nil }); err != nil {
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
	for _, do := range []func(int, func(int) error) error{Do, Long} {
		if err := do(100, func(int) error { return bad }); err != bad {
			t.Errorf("all fail: %v", err)
		}
	}
}

func TestBesides(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // on one they come in turn
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
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	a, b := make(chan struct{}), make(chan struct{})
	err := Besides(func() error { close(a); <-b; return nil }, func() error { <-a; close(b); return nil })
	if err != nil {
		t.Fatal(err)
	}
}

// TestComing: all comes, in order; what fails on either side ends both.
func TestComing(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	bad := errors.New("bad")
	each := func(n int, end error) func(func(int) error) error {
		return func(f func(int) error) error {
			for i := range n {
				if err := f(i); err != nil {
					return err
				}
			}
			return end
		}
	}
	for _, n := range []int{0, 1, 63, 64, 65, 50000} {
		for _, end := range []error{nil, bad} {
			next := 0
			err := Begin(each(n, end)).Each(func(i int) error {
				if i != next {
					t.Errorf("%d instead of %d", i, next)
				}
				next++
				return nil
			})
			if err != end || end == nil && next != n {
				t.Errorf("%d of %d, error %v, want %v", next, n, err, end)
			}
		}
		if n == 0 {
			continue
		}
		calls := 0
		if err := Begin(each(n, nil)).Each(func(int) error { calls++; return bad }); err != bad || calls != 1 {
			t.Errorf("%d calls, error %v", calls, err)
		}
	}
}

// TestBegin: what was begun with is there when somebody wants it, and ends if nobody does.
func TestBegin(t *testing.T) {
	for _, cpus := range []int{1, 2} {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cpus))
		given := 0
		begin := func() *Coming[int] {
			given = 0
			return Begin(func(f func(int) error) error {
				for ; given < 1<<20; given++ {
					if err := f(given); err != nil {
						return err
					}
				}
				return nil
			})
		}
		c := begin()
		sum := 0
		if err := c.Each(func(i int) error { sum += i; return nil }); err != nil || sum != (1<<20-1)<<19 {
			t.Errorf("sum %d, error %v", sum, err)
		}
		c.Stop()
		c = begin()
		c.Stop()
		if given == 1<<20 {
			t.Error("all is got though nobody wants it")
		}
		c.Stop()
	}
}

// The caller makes calls itself, and all at once with the others, if there are enough.
func TestDoCaller(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, met := unix.Gettid(), make(chan struct{})
	var mine atomic.Bool
	err := Long(2, func(int) error {
		mine.CompareAndSwap(false, unix.Gettid() == own)
		select { // each waits for the other
		case met <- struct{}{}:
		case <-met:
		}
		return nil
	})
	if err != nil || !mine.Load() {
		t.Errorf("by the caller: %v, %v", mine.Load(), err)
	}
}
