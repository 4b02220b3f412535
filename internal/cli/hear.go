package cli

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
)

// hearing is what hears of signals by a pipe, into which a handler of our own writes
// (arch.Tell): no thread waits for that, as one does for package os/signal, which takes
// 0.5 ms of a small dump or restore to begin with.
type hearing struct {
	ends [2]int // of the pipe
	came func(os.Signal)

	mu    sync.Mutex
	file  *os.File  // the first end, once somebody listens
	first os.Signal // that came
	over  bool      // signals do again what they did before
}

// hear is notify without the Go runtime. It fails, and nothing has changed, if that can't
// be: on other CPUs, or if a signal is blocked, which the runtime has a thread get
// nevertheless.
func hear(stops []syscall.Signal, came func(os.Signal)) (stop func() os.Signal, err error) {
	if blocked(stops) {
		return nil, errors.ErrUnsupported
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	h := &hearing{ends: ends, came: came}
	was, err := handle(stops, ends[1])
	if err != nil {
		tellNobody()
		return nil, errors.Join(err, unix.Close(ends[0]), unix.Close(ends[1]))
	}
	go h.listen()
	return func() os.Signal {
		was.set(stops)
		return h.end()
	}, nil
}

// blocked tells whether this thread doesn't get one of these signals: the others have
// the same mask, that of the start.
func blocked(stops []syscall.Signal) bool {
	var set unix.Sigset_t
	if unix.PthreadSigmask(unix.SIG_BLOCK, nil, &set) != nil {
		return true
	}
	for _, sig := range stops {
		if set.Val[0]>>(sig-1)&1 != 0 {
			return true
		}
	}
	return false
}

// actions are what signals did before.
type actions []linux.Sigaction

// handle has signals be told of in a pipe.
func handle(stops []syscall.Signal, pipe int) (was actions, err error) {
	handler := arch.Tell(pipe)
	if handler == 0 {
		return nil, errors.ErrUnsupported
	}
	tell := linux.Sigaction{Handler: handler, Restorer: arch.Restorer(), Flags: linux.SA_RESTORER | linux.SA_ONSTACK | linux.SA_RESTART, Mask: ^uint64(0)}
	for _, sig := range stops {
		var a linux.Sigaction
		if err := tell.Set(sig, &a); err != nil {
			was.set(stops)
			return nil, err
		}
		was = append(was, a)
	}
	return was, nil
}

// set gives signals back, as many as there are actions. It can't fail: each was like that.
func (a actions) set(stops []syscall.Signal) {
	for i := range a {
		_ = a[i].Set(stops[i], nil)
	}
}

// listen hears of signals until the end.
func (h *hearing) listen() {
	h.mu.Lock()
	if h.over {
		h.mu.Unlock()
		return
	}
	h.file = os.NewFile(uintptr(h.ends[0]), "signals")
	h.mu.Unlock()
	c, err := h.file.SyscallConn()
	if err != nil {
		return // never: it is open
	}
	_ = c.Read(func(uintptr) bool {
		h.take()
		return false
	})
}

// take takes what is in the pipe.
func (h *hearing) take() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.takeAll()
}

// takeAll is take for who has the lock.
func (h *hearing) takeAll() {
	var b [8]byte
	for {
		n, err := unix.Read(h.ends[0], b[:])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
		if sig := syscall.Signal(b[0]); h.over {
			endBy(sig)
		} else if h.first == nil {
			h.first = sig
			h.came(sig)
		}
	}
}

// tellNobody returns when no handler writes into a pipe any more, which ours, on this thread,
// can't be about to. Signals must do again what they did before.
func tellNobody() {
	arch.Tell(-1)
	for arch.Telling() {
		runtime.Gosched()
	}
}

// end returns the first signal that came, when signals do again what they did before. What
// comes behind that ends the program: what a handler is about to tell of it still does, and
// what it has not begun to tell comes again.
func (h *hearing) end() os.Signal {
	h.take()
	tellNobody()
	h.mu.Lock()
	h.over = true
	h.takeAll()
	file, first := h.file, h.first
	h.mu.Unlock()
	_ = unix.Close(h.ends[1]) // never fails
	if file == nil {
		_ = unix.Close(h.ends[0])
	} else {
		_ = file.Close() // when it is read no more
	}
	return first
}
