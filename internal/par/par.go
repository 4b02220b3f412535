// Package par spreads work that needs no tracer over the CPUs.
package par

import (
	"errors"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Do calls f for 0…n-1 from as many goroutines as there are CPUs. It
// is for what needs no tracer: reading /proc, which is most of a dump's work,
// while the CPUs that the tree ran on stand idle.
func Do(n int, f func(i int) error) error { return do(n, few, n >= many, f) }

// Long is Do for calls that take long, so that it pays for few of them, too, to have a CPU
// each.
func Long(n int, f func(i int) error) error { return do(n, 1, true, f) }

// do is Do, with some calls at a time, by goroutines on CPUs of their own or wherever they
// are. The caller is one of them: to wait for others would take its thread's place from it.
func do(n, some int, seated bool, f func(i int) error) error {
	workers := min(runtime.GOMAXPROCS(0), (n+some-1)/some)
	if workers <= 1 {
		return inTurn(n, f)
	}
	var next atomic.Int64
	work := func() error {
		for {
			end := int(next.Add(int64(some)))
			for i := end - some; i < min(end, n); i++ {
				if err := f(i); err != nil {
					return err
				}
			}
			if end >= n {
				return nil
			}
		}
	}
	var g errgroup.Group
	var apart Seats
	var left atomic.Int64
	left.Store(int64(workers - 1))
	sit := func() {
		if seated {
			apart.Sit()
		}
	}
	sit()
	for range workers - 1 {
		g.Go(func() error {
			defer left.Add(-1)
			sit()
			return work()
		})
	}
	if seated {
		apart.Spread()
	}
	err := work()
	stayAwake(awakeThen, func() bool { return left.Load() == 0 })
	if other := g.Wait(); err == nil {
		err = other
	}
	return err
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

const (
	// few is how many calls a goroutine takes at a time.
	few = 4
	// many is from how many calls on it pays to have each goroutine on a CPU of its own.
	many = 256
)

// Besides runs f on another goroutine while the caller does g. On one CPU f
// comes first, and last if no thread was found for it by the end of g.
func Besides(f, g func() error) error {
	if runtime.GOMAXPROCS(0) == 1 {
		if err := f(); err != nil {
			return err
		}
		return g()
	}
	a := Later(f)
	var apart Seats
	apart.Sit()
	go func() {
		apart.Sit()
		a.run()
	}()
	apart.Spread()
	err := g()
	if other := a.after(awakeThen); err == nil {
		err = other
	}
	return err
}

// Coming is what is got on another goroutine ahead of its use: some of it, not all, so
// that no more than that is in memory.
type Coming[T any] struct {
	each   func(func(T) error) error
	pieces chan []T // nil: nobody gets it ahead
	stop   chan struct{}
	done   chan error
	over   bool
}

// Begin begins to get all that each gives, while its caller has something else to do.
// Each, or Stop, must follow. On one CPU nothing is got before it is wanted.
func Begin[T any](each func(func(T) error) error) *Coming[T] {
	c := &Coming[T]{each: each}
	if runtime.GOMAXPROCS(0) == 1 {
		return c
	}
	c.pieces, c.stop, c.done = make(chan []T, piecesAhead), make(chan struct{}), make(chan error, 1)
	var apart Seats
	apart.Sit()
	go func() {
		apart.Sit()
		c.done <- inPieces(each, c.pieces, c.stop)
		close(c.pieces)
	}()
	apart.Spread()
	return c
}

// Each calls f, in order, for all that comes, until it fails. It is called once.
func (c *Coming[T]) Each(f func(T) error) error {
	if c.pieces == nil {
		return c.each(f)
	}
	var failed error
	for p := range c.pieces {
		for i := 0; i < len(p) && failed == nil; i++ {
			if failed = f(p[i]); failed != nil {
				close(c.stop)
			}
		}
	}
	c.over = true
	if err := <-c.done; failed == nil {
		failed = err
	}
	return failed
}

// Stop ends what Begin began, unless Each has come to its end.
func (c *Coming[T]) Stop() {
	if c.pieces == nil || c.over {
		return
	}
	c.over = true
	close(c.stop)
	<-c.done
}

const (
	piecesAhead = 12
	// The first piece is small, so that both have something to do soon. The larger the
	// others are the less often one waits for the other, which takes 50 µs each time.
	firstPiece   = 64
	largestPiece = 512
)

// errStopped ends what each gives.
var errStopped = errors.New("nobody wants any more")

// inPieces sends what each gives, many at a time: to hand over a single one would
// take longer than to make it.
func inPieces[T any](each func(func(T) error) error, pieces chan<- []T, stop <-chan struct{}) error {
	var piece []T
	size := firstPiece
	send := func() error {
		select {
		case pieces <- piece:
			size = min(2*size, largestPiece)
			piece = make([]T, 0, size)
			return nil
		case <-stop:
			return errStopped
		}
	}
	err := each(func(v T) error {
		if piece = append(piece, v); len(piece) < size {
			return nil
		}
		return send()
	})
	if err == nil && len(piece) > 0 {
		err = send()
	}
	return err
}
