package tracee

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// Seizing seizes threads until it is told to end. To seize a thread of which a process
// another one executes a program lasts until that has been done, be it that its file
// is on a server that does not answer: the kernel has only one of the two go on
// (cred_guard_mutex). It lasts, too, for a thread that is stopped in a frozen cgroup of
// version 1, until that is thawed; that can't be ended. Go is told of the calls, so other
// goroutines go on.
type Seizing struct {
	thread int           // that seizes
	waits  atomic.Bool   // it may be in such a call
	over   atomic.Bool   // End was called
	sent   chan struct{} // closed when End sends no more signals
}

// NewSeizing is to be called on the tracer's thread, as Seize is.
func NewSeizing() *Seizing {
	unblock(endSignal)
	return &Seizing{thread: unix.Gettid(), sent: make(chan struct{})}
}

// Seize is the function Seize, but fails with EINTR once End was called.
//
// If a thread executes a program the call lasts until it has, for which it waits for
// the ends of those that are traced to be heard of: see ReapOthers.
func (s *Seizing) Seize(tid proc.TID, options uintptr) error {
	s.waits.Store(true)
	err := error(unix.EINTR)
	if !s.over.Load() {
		err = seizeSlowly(tid, options, &s.over)
	}
	s.waits.Store(false)
	if s.over.Load() {
		s.giveBack()
	}
	return wrap("seize", tid, err)
}

// End ends the call that is under way, if one is, and those to come. Any goroutine may
// call it, once. Who waits for another one's execve(2) is woken by a signal, but waits
// again as soon as that was handled, unless the handler has it not: so for this while the
// last of the signals, which hardly anybody uses, is handled by a few instructions of
// ours (arch.EndSeize). Whoever else gets one then does not notice.
func (s *Seizing) End() {
	defer close(s.sent)
	s.over.Store(true)
	const most = 5 * time.Millisecond // signals of this kind add up where nobody gets them
	for pause := 200 * time.Microsecond; s.waits.Load(); pause = min(2*pause, most) {
		if ending.borrow(s) {
			_ = unix.Tgkill(unix.Getpid(), s.thread, endSignal) // no room for a signal now: the next time
		}
		sleep(pause)
	}
}

// giveBack gives the signal back to whose it was. It is the thread that got ours that
// does: when all were sent, and it has come out of the kernel, there is none that
// somebody else would have to handle.
func (s *Seizing) giveBack() {
	<-s.sent
	getTIDAgain()
	ending.giveBack(s)
}

// endSignal is SIGRTMAX.
const endSignal = unix.Signal(64)

// ending is who handles endSignal, which is one for the whole program, while several
// dumps may end.
var ending borrowed

type borrowed struct {
	mu  sync.Mutex
	by  map[*Seizing]bool
	was linux.Sigaction // before the first
}

// borrow has endSignal be handled by us, also if somebody else took it meanwhile, and
// tells whether it is.
func (b *borrowed) borrow(s *Seizing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ours, was := endingAction(), linux.Sigaction{}
	if ours.Handler == 0 || ours.Set(endSignal, &was) != nil {
		return false
	}
	if was.Handler != ours.Handler {
		b.was = was
	}
	if b.by == nil {
		b.by = map[*Seizing]bool{}
	}
	b.by[s] = true
	return true
}

// giveBack has endSignal be handled as before, when nobody needs it any more.
func (b *borrowed) giveBack(s *Seizing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.by[s] {
		return
	}
	if delete(b.by, s); len(b.by) == 0 {
		_ = b.was.Set(endSignal, nil) // it can't fail: it was there
	}
}
