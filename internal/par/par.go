// Package par spreads work that needs no tracer over the CPUs.
package par

import (
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Do calls f for 0…n-1 from as many goroutines as there are CPUs. It
// is for what needs no tracer: reading /proc, which is most of a dump's work,
// while the CPUs that the tree ran on stand idle.
func Do(n int, f func(i int) error) error {
	workers := min(runtime.GOMAXPROCS(0), (n+few-1)/few)
	if workers <= 1 {
		return inTurn(n, f)
	}
	var g errgroup.Group
	var next atomic.Int64
	for range workers {
		g.Go(func() error {
			for {
				end := int(next.Add(few))
				for i := end - few; i < min(end, n); i++ {
					if err := f(i); err != nil {
						return err
					}
				}
				if end >= n {
					return nil
				}
			}
		})
	}
	return g.Wait()
}

// inTurn is Do by the caller itself: to wake another thread takes longer than
// few calls.
func inTurn(n int, f func(i int) error) error {
	for i := range n {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// few is how many calls a goroutine takes at a time.
const few = 4

// Besides runs f on another goroutine while the caller does g. On one CPU f
// comes first.
func Besides(f, g func() error) error {
	if runtime.GOMAXPROCS(0) == 1 {
		if err := f(); err != nil {
			return err
		}
		return g()
	}
	done := make(chan error, 1)
	go func() { done <- f() }()
	err := g()
	if other := <-done; err == nil {
		err = other
	}
	return err
}
