package pages

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// Chunk is how much is copied at a time at most, in bytes. Whether ctx has ended is
// looked at between chunks.
const Chunk = 1 << 20

// writeSize is how much is written at a time, in bytes. The page cache takes
// memory in blocks of that size: larger ones are often such as nobody has used
// for long, which a virtual machine's host first has to provide.
const writeSize = 128 << 10

// mostSpans is how many pieces one vectored call takes (UIO_MAXIOV).
const mostSpans = 1024

// mostWorkers is enough to be limited by memory instead of a CPU.
const mostWorkers = 4

// workers returns how many goroutines copy n bytes.
func workers(n uint64) int {
	return max(1, min(runtime.GOMAXPROCS(0), mostWorkers, int(n/(4*Chunk))))
}

// chunkOf is how much is copied at a time of n bytes. Where there is little,
// most of the time goes into touching the buffer: it is a small one then.
func chunkOf(n uint64) uint64 {
	if workers(n) == 1 {
		return writeSize
	}
	return Chunk
}

// parallel runs work, on total bytes in all, in several goroutines with a
// buffer each, until next has no more to give or one of them fails. next is
// called by one at a time. room is memory for a buffer, if there is some.
func parallel[T any](ctx context.Context, total uint64, room []byte, next func() (T, bool), work func(job T, buf []byte) error) error {
	n := workers(total)
	if n == 1 {
		buf := room
		if size := min(chunkOf(total), total); uint64(len(buf)) < size {
			buf = make([]byte, size)
		}
		for job, ok := next(); ok; job, ok = next() {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if err := work(job, buf); err != nil {
				return err
			}
		}
		return nil
	}
	turn := make(chan struct{}, 1)
	turn <- struct{}{}
	g, ctx := errgroup.WithContext(ctx)
	for range n {
		g.Go(func() error {
			buf := make([]byte, Chunk)
			for {
				<-turn
				job, ok := next()
				turn <- struct{}{}
				if !ok {
					return nil
				}
				if err := context.Cause(ctx); err != nil {
					return err
				}
				if err := work(job, buf); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// write writes a chunk.
func write(to Output, b []byte, off int64) error {
	for len(b) > 0 {
		n := min(len(b), writeSize)
		if _, err := to.WriteAt(b[:n], off); err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
