package par

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// TestAside: whoever waits, and how often, it is done once, and all hear of its error.
func TestAside(t *testing.T) {
	for _, cpus := range []int{1, max(2, runtime.NumCPU())} {
		before := runtime.GOMAXPROCS(cpus)
		for _, begin := range []func(func() error) *Errand{Aside, Later} {
			var calls atomic.Int32
			want := errors.New("as it ended")
			errand := begin(func() error {
				calls.Add(1)
				return want
			})
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					if err := errors.Join(errand.Wait(), errand.Wait()); !errors.Is(err, want) {
						t.Errorf("on %d CPUs: %v", cpus, err)
					}
				})
			}
			all.Wait()
			errand.End()
			if n := calls.Load(); n != 1 {
				t.Errorf("on %d CPUs: done %d times", cpus, n)
			}
		}
		runtime.GOMAXPROCS(before)
	}
}

// TestAsideWaits: who waits longer than it stays awake is told all the same.
func TestAsideWaits(t *testing.T) {
	before := runtime.GOMAXPROCS(max(2, runtime.NumCPU()))
	defer runtime.GOMAXPROCS(before)
	begun, end := make(chan bool), make(chan bool)
	a := Later(func() error { close(begun); <-end; return nil })
	go a.run()
	<-begun
	told := make(chan error)
	for range 2 {
		go func() { told <- a.Wait() }()
	}
	close(end)
	for range 2 {
		if err := <-told; err != nil {
			t.Error(err)
		}
	}
}

// TestEnd: what nobody has begun with isn't done any more; what somebody has is.
func TestEnd(t *testing.T) {
	a := Later(func() error { t.Error("done"); return nil })
	a.End()
	if err := a.Wait(); err != nil {
		t.Error(err)
	}
	begun, done := make(chan bool), false
	b := Later(func() error { close(begun); done = true; return nil })
	go b.run()
	<-begun
	if b.End(); !done {
		t.Error("not done")
	}
}

// TestPatient: a thread is as before when it is done.
func TestPatient(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, _ := slice()
	testkit.Require(t, testkit.Feature{Name: "a slice of time in sched_setattr(2)", Since: testkit.Version{Major: 6, Minor: 12}, Probe: func() error {
		if _, ok := slice(); !ok {
			return unix.ENODATA
		}
		return nil
	}})
	undo := patient()
	during, err := unix.SchedGetAttr(0, 0)
	if err != nil || during.Runtime != longSlice {
		t.Errorf("slice of %d ns: %v", during.Runtime, err)
	}
	undo()
	if after, err := unix.SchedGetAttr(0, 0); err != nil || *after != before {
		t.Errorf("%+v, before %+v: %v", after, before, err)
	}
}
