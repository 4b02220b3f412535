// Package guardian is the process that outlives the engine. It is started
// before the first task is touched, as one page of code that sleeps. When the
// engine has died, by whatever, it executes the engine's program again, reads in
// a journal how far the work had come, and either takes everything back or
// brings it to its end.
package guardian

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/stub"
)

// Role is what the guardian guards.
type Role string

// The two roles.
const (
	Dump    Role = "dump"
	Restore Role = "restore"
)

// argument is what the guardian's process is called; the role follows.
const argument = "glis-guardian"

// What the descriptors of the guardian's process are.
const (
	fdLine    = 3 // its end tells that the engine is gone
	fdJournal = 4
	fdLock    = 5 // keeps packets back until all is taken back
	fdImages  = 6 // the directory of the checkpoint
	fdProgram = 7 // what becomes the guardian
	fdHands   = 8 // where descriptors of processes come over
)

// ready says that Main was called: that this program, started again, becomes
// the guardian.
var ready atomic.Bool

// ErrNotReady says that the program does not call Init.
var ErrNotReady = errors.New("the program must call glis.Init() first thing in main: Glis starts it again as the guardian of its dumps and restores")

// Guard is the engine's side.
type Guard struct {
	*journal
	line  *fd.FD // a byte, or its end, tells the guardian what to do
	hands *fd.FD
	birth *stub.Birth
	lock  *netlock.Lock
	loans []loan
	once  sync.Once
	err   error
}

// Start starts the guardian of one dump or restore whose images are in dir.
// The lock it gets a copy of holds until it has died, too, and so does what else it is to
// keep open.
func Start(role Role, dir int, lock *netlock.Lock, keep ...int) (*Guard, error) {
	if !ready.Load() {
		return nil, ErrNotReady
	}
	g := &Guard{lock: lock}
	if err := g.start(role, dir, keep); err != nil {
		return nil, errors.Join(fmt.Errorf("guardian: %w", err), g.release())
	}
	return g, nil
}

func (g *Guard) start(role Role, dir int, keep []int) error {
	var err error
	if g.journal, err = newJournal(); err != nil {
		return err
	}
	line, err := socketpair(&g.line)
	if err != nil {
		return err
	}
	defer line.Close()
	hands, err := socketpair(&g.hands)
	if err != nil {
		return err
	}
	defer hands.Close()
	g.birth, err = spawn(role, append([]int{line.Int(), g.file.Int(), g.lock.Int(), dir, hands.Int()}, keep...))
	return err
}

// socketpair makes two sockets: one is ours, the other is returned.
func socketpair(ours **fd.FD) (*fd.FD, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	*ours = fd.New(ends[0])
	return fd.New(ends[1]), nil
}

// spawn starts a process of one page that executes this program again when the
// engine has died: nearly always it need not, and starting a Go program takes
// longer than all the rest of a small dump.
// Its descriptors are those from fdLine on, but for the program.
func spawn(role Role, files []int) (*stub.Birth, error) {
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w%s", os.DevNull, err, nullAdvice(err))
	}
	defer unix.Close(null)
	program, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the running program: %w", err)
	}
	defer unix.Close(program)
	said := null
	if _, err := unix.FcntlInt(2, unix.F_GETFD, 0); err == nil {
		said = 2 // to say what it could not take back
	}
	w := stub.Watch{
		Files: slices.Concat([]int{null, null, said}, slices.Insert(files, fdProgram-fdLine, program)), Line: fdLine,
		Exe: fdProgram, Argv: []string{argument, string(role)}, Env: []string{"GOMAXPROCS=1"},
	}
	return w.Begin()
}

// nullAdvice is what to do where /dev/null is missing, as in a bare chroot, or can't
// be opened for writing.
func nullAdvice(err error) string {
	if errors.Is(err, unix.EMFILE) {
		return ""
	}
	return "; make it (mknod -m 666 " + os.DevNull + " c 1 3)"
}

// PID is the guardian's process.
func (g *Guard) PID() int { return g.birth.PID }

// Ready waits until the guardian is there: before the first task is touched or
// made. Until then it has begun, and takes its time beside us.
func (g *Guard) Ready() error {
	if err := g.birth.Wait(); err != nil {
		return fmt.Errorf("guardian: %w", err)
	}
	return nil
}

// Owns tells whether a thread number is the guardian's, which has one thread.
func (g *Guard) Owns(tid uint32) bool { return int(tid) == g.PID() }

// Alive fails if the guardian has died: nothing must be begun then that it
// would have to end.
func (g *Guard) Alive() error {
	p := []unix.PollFd{{Fd: int32(g.line.Int()), Events: unix.POLLIN}}
	n, err := linux.PollNow(p)
	switch {
	case err != nil:
		return fmt.Errorf("ask whether the guardian (process %d) is alive: %w", g.PID(), err)
	case n == 0:
		return nil
	}
	return fmt.Errorf("the guardian (process %d) was killed", g.PID())
}

// Lock is what holds packets back until the guardian has died as well.
func (g *Guard) Lock() *netlock.Lock { return g.lock }

// Task makes a process known.
func (g *Guard) Task(t Task) error { return g.put(recordTask, t.append) }

// Option makes known what a socket gets: of a dump if it is taken back, of a
// restore when the tree is released.
func (g *Guard) Option(o Option) error { return g.put(recordOption, o.append) }

// Options is Option for many, in one write.
func (g *Guard) Options(all []Option) error {
	return g.write(func(b []byte) []byte {
		b = slices.Grow(b, len(all)*(recordHead+optionSize))
		for i := range all {
			b = le.AppendUint16(append(b, recordOption), optionSize)
			b = all[i].append(b)
		}
		return b
	})
}

// Kept makes known which table holds packets back: of a dump, it goes if the
// dump is taken back; of a restore, when the tree is released.
func (g *Guard) Kept(name string) error {
	return g.put(recordKept, func(b []byte) []byte { return append(b, name...) })
}

// Arena makes known where memory of the engine's is about to be in a process.
func (g *Guard) Arena(pid proc.PID, base remote.Addr, size uint64) error {
	return g.put(recordArena, func(b []byte) []byte {
		return le.AppendUint64(le.AppendUint64(le.AppendUint32(b, uint32(pid)), uint64(base)), size)
	})
}

// Name makes known a name that a file is about to get, to be taken away again
// if the dump is taken back.
func (g *Guard) Name(path string, dev, ino uint64) error {
	return g.put(recordName, func(b []byte) []byte {
		return append(le.AppendUint64(le.AppendUint64(b, dev), ino), path...)
	})
}

// Segment makes known the id of System V shared memory that the engine is about
// to make, to be removed again if the restore is taken back.
func (g *Guard) Segment(id uint32) error {
	return g.put(recordShm, func(b []byte) []byte {
		return le.AppendUint32(le.AppendUint32(b, id), uint32(os.Getpid()))
	})
}

// Brake makes known that processes are about to be braked: that they are to go on
// only after their sockets have got their options.
func (g *Guard) Brake(pids ...proc.PID) error {
	return g.write(func(b []byte) []byte {
		for _, pid := range pids {
			b = le.AppendUint32(append(b, recordBrake, 4, 0), uint32(pid))
		}
		return b
	})
}

// BrakeMasked is Brake of one that tracee.Unbrake will let go on with a signal mask.
func (g *Guard) BrakeMasked(pid proc.PID, mask uint64) error {
	return g.put(recordMasked, func(b []byte) []byte {
		return le.AppendUint64(le.AppendUint32(b, uint32(pid)), mask)
	})
}

// Unbraked says that no process is braked any more.
func (g *Guard) Unbraked() error { return g.put(recordLoose, func(b []byte) []byte { return b }) }

// Hand gives the guardian descriptors of processes (pidfds), at most
// fd.MaxRights, which it ends should the engine die before the tree is
// released.
func (g *Guard) Hand(pidfds []int) error { return fd.Send(g.hands.Int(), pidfds) }

// Phase says how far the work has come.
func (g *Guard) Phase(p Phase) error {
	return g.put(recordPhase, func(b []byte) []byte { return append(b, byte(p)) })
}

// Close ends the guardian: everything is done, or taken back by the engine
// itself. A second Close does nothing. It waits for the process's end, which comes
// at once: where nobody else does so when the engine has ended (in containers), or
// another program is executed in its place, it would keep its number.
func (g *Guard) Close() error {
	g.once.Do(func() {
		g.err = errors.Join(g.Phase(Done), g.lock.Release())
		if _, err := unix.Write(g.line.Int(), []byte{1}); err != nil && err != unix.EPIPE {
			g.err = errors.Join(g.err, fmt.Errorf("tell the guardian that all is done: %w", err))
		}
		// The guardian ends first: the last who has the lock's socket open waits, in the
		// end of a process too, and only Leave does not.
		reap(g.PID())
		g.err = errors.Join(g.err, g.release())
	})
	return g.err
}

// GiveUp has the guardian do what it would if the engine had died: something
// could not be taken back, or brought to its end. It waits for it. A later Close
// does nothing.
//
// Tasks that are still traced are let go when the tracer's thread ends: call it
// behind that, or for what needs no tracer.
func (g *Guard) GiveUp() error {
	g.once.Do(func() { g.err = errors.Join(g.release(), g.awaitEnd()) })
	return g.err
}

// mostWork is how long the guardian may take.
const mostWork = 30 * time.Second

// awaitEnd waits for the end of the guardian's process, and asks how it went.
func (g *Guard) awaitEnd() error {
	var st unix.WaitStatus
	for end := time.Now().Add(mostWork); time.Now().Before(end); time.Sleep(time.Millisecond) {
		switch got, err := unix.Wait4(g.PID(), &st, linux.WALL|unix.WNOHANG, nil); {
		case err == unix.ECHILD: // somebody else has waited for it
			return nil
		case got == g.PID() && st.Exited() && st.ExitStatus() == 0:
			return nil
		case got == g.PID():
			return fmt.Errorf("the guardian (process %d) could not put it right either, see what it says (wait status %#x)", g.PID(), int(st))
		}
	}
	return fmt.Errorf("the guardian (process %d) has not put it right within %v", g.PID(), mostWork)
}

// release closes what the engine has.
func (g *Guard) release() error {
	errs := []error{g.lock.Close()}
	if g.birth != nil {
		errs = append(errs, g.birth.Wait())
	}
	all := []*fd.FD{g.line, g.hands}
	for _, l := range g.loans {
		all = append(all, l.to, l.from)
	}
	for _, f := range all {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if g.journal != nil {
		errs = append(errs, g.file.Close())
	}
	return errors.Join(errs...)
}

// reap waits for the guardian's end, but not for long if somebody has stopped it.
func reap(pid int) {
	n, err := unix.PidfdOpen(pid, 0)
	if err != nil { // somebody else has waited for it
		return
	}
	defer unix.Close(n)
	end := []unix.PollFd{{Fd: int32(n), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(end, 1000); err != unix.EINTR {
			break
		}
	}
	_, _ = unix.Wait4(pid, nil, linux.WALL|unix.WNOHANG, nil)
}
