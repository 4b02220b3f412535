// Package guardian is the process that outlives the engine. It is started
// before the first task is touched and sleeps. When the engine has died, by
// whatever, it reads in a journal how far the work had come, and either takes
// everything back or brings it to its end.
package guardian

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
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
)

// ready says that Main was called: that this program, started again, becomes
// the guardian.
var ready atomic.Bool

// ErrNotReady says that the program does not call Init.
var ErrNotReady = errors.New("the program must call glis.Init() first thing in main: Glis starts it again as the guardian of its dumps and restores")

// Guard is the engine's side.
type Guard struct {
	*journal
	line *fd.FD
	pid  int
	lock *netlock.Lock
	once sync.Once
	err  error
}

// Start starts the guardian of one dump or restore whose images are in dir.
// The lock it gets a copy of holds until it has died, too.
func Start(role Role, dir int, lock *netlock.Lock) (*Guard, error) {
	if !ready.Load() {
		return nil, ErrNotReady
	}
	j, err := newJournal()
	if err != nil {
		return nil, fmt.Errorf("guardian: %w", err)
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("guardian: socketpair: %w", err), j.file.Close())
	}
	ours, theirs := fd.New(ends[0]), fd.New(ends[1])
	defer theirs.Close()
	g := &Guard{journal: j, line: ours, lock: lock}
	if g.pid, err = spawn(role, theirs.Int(), j.file.Int(), lock.Int(), dir); err != nil {
		return nil, errors.Join(fmt.Errorf("guardian: start %s again: %w", executable, err), ours.Close(), j.file.Close())
	}
	return g, nil
}

const executable = "/proc/self/exe"

// spawn starts this program as a guardian. It is in a session of its own, so
// that what ends the engine's terminal or group does not end it. When this
// returns the program is executed: from then on nothing that happens to the
// engine keeps the guardian from its work.
func spawn(role Role, fds ...int) (int, error) {
	files := make([]uintptr, 3)
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	for i := range files {
		files[i] = null.Fd()
	}
	if _, err := unix.FcntlInt(2, unix.F_GETFD, 0); err == nil {
		files[2] = 2 // to say what it could not take back
	}
	for _, n := range fds {
		files = append(files, uintptr(n))
	}
	return syscall.ForkExec(executable, []string{argument, string(role)}, &syscall.ProcAttr{
		Dir: "/", Env: environment(os.Environ()), Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
}

// environment is the engine's without what makes a Go program noisy or large.
func environment(env []string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, "GODEBUG=") && !strings.HasPrefix(e, "GOTRACEBACK=") {
			out = append(out, e)
		}
	}
	return append(out, "GOMAXPROCS=1")
}

// PID is the guardian's process.
func (g *Guard) PID() int { return g.pid }

// Owns tells whether a thread number is one of the guardian's.
func (g *Guard) Owns(tid uint32) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", g.pid, tid))
	return err == nil
}

// Alive fails if the guardian has died: nothing must be begun then that it
// would have to end.
func (g *Guard) Alive() error {
	p := []unix.PollFd{{Fd: int32(g.line.Int()), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 0); err == nil && n == 0 {
		return nil
	}
	return fmt.Errorf("the guardian (process %d) was killed", g.pid)
}

// Lock is what holds packets back until the guardian has died as well.
func (g *Guard) Lock() *netlock.Lock { return g.lock }

// Task makes a process known.
func (g *Guard) Task(t Task) error { return g.put(recordTask, t.append) }

// Option makes known what a socket gets: of a dump if it is taken back, of a
// restore when the tree is released.
func (g *Guard) Option(o Option) error { return g.put(recordOption, o.append) }

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

// Brake makes known that a process is about to be braked: that it is to go on
// only after its sockets have got their options.
func (g *Guard) Brake(pid proc.PID) error {
	return g.put(recordBrake, func(b []byte) []byte { return le.AppendUint32(b, uint32(pid)) })
}

// Unbraked says that no process is braked any more.
func (g *Guard) Unbraked() error { return g.put(recordLoose, func(b []byte) []byte { return b }) }

// Hand gives the guardian descriptors of processes (pidfds), at most
// fd.MaxRights, which it ends should the engine die before the tree is
// released.
func (g *Guard) Hand(pidfds []int) error { return fd.Send(g.line.Int(), pidfds) }

// Phase says how far the work has come.
func (g *Guard) Phase(p Phase) error {
	return g.put(recordPhase, func(b []byte) []byte { return append(b, byte(p)) })
}

// Close ends the guardian: everything is done, or taken back by the engine
// itself. A second Close does nothing.
func (g *Guard) Close() error {
	g.once.Do(func() {
		g.err = errors.Join(g.Phase(Done), g.line.Close(), g.lock.Close(), g.file.Close())
		go reap(g.pid)
	})
	return g.err
}

// reap takes the guardian's end off the engine's hands, unless the engine ends
// first.
func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, linux.WALL, nil); err != unix.EINTR {
			return
		}
	}
}
