package taskmem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
)

// Landlock is a loaded program that tells which threads are in a Landlock
// sandbox: no system call does, and no file.
type Landlock struct {
	program int
	word    int // of what security modules keep with credentials: a thread's domain
	mine    uint64
	shared  bool // whether somebody else is in it
}

// blob is as many bytes of that as are looked at.
const blob = 128

// HasLandlock tells whether the kernel has it, and it is in use.
func HasLandlock() bool {
	_, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return e == 0
}

// OpenLandlock loads the program, see Open, and finds out by a thread that
// restricts itself what it changes.
func OpenLandlock() (*Landlock, error) {
	x, err := bpf.Kernel()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	found, err := x.Find(bpf.Name{Kind: bpf.KindFunc, Name: "bpf_iter_task"},
		bpf.Name{Kind: bpf.KindStruct, Name: "task_struct"}, bpf.Name{Kind: bpf.KindStruct, Name: "cred"})
	cred, security := -1, -1
	if err == nil && found[0].ID != 0 && found[1].ID != 0 && found[2].ID != 0 {
		cred, security = x.Member(&found[1], "cred"), x.Member(&found[2], "security")
	}
	if err = errors.Join(err, x.Close()); err != nil || cred < 0 || cred > maxStruct || security < 0 || security > maxStruct {
		return nil, fmt.Errorf("%w: credentials: %w", ErrUnavailable, errors.Join(errLayout, err))
	}
	l := &Landlock{}
	if l.program, err = linux.BPFLoadIterator(blobs(cred, security), bpf.License, found[0].ID); err != nil {
		return nil, fmt.Errorf("%w: bpf(BPF_PROG_LOAD): %w", ErrUnavailable, err)
	}
	if err := l.learn(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(err, l.Close()))
	}
	return l, nil
}

// blobs is a program that writes the blob of every thread.
func blobs(cred, security int) []bpf.Insn {
	a := assembler{out: []bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Load64, 7, 6, ctxTask, 0),
		bpf.In(bpf.JumpEq, 7, 0, 0, 0), // to the end
	}}
	a.follow([]int{cred, security})
	a.read(a.take(blob), blob, 8, 0)
	a.flush()
	return bpf.Finish(a.out)
}

// learn compares a thread of the engine's before it restricts itself, and then, twice.
// What other modules keep is copied, and what is behind the blob may be anything: so the
// first word counts that becomes another address each time.
func (l *Landlock) learn() error {
	const steps = 3
	var seen [steps][]byte
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		done <- func() (err error) {
			for i := range seen {
				if i > 0 {
					err = restrict()
				}
				if err == nil {
					seen[i], err = l.own()
				}
				if err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	if err := <-done; err != nil {
		return err
	}
	at := func(i int) uint64 { return binary.NativeEndian.Uint64(seen[i][l.word:]) }
	for l.word = 0; l.word < blob; l.word += word64 {
		if l.mine = at(0); (l.mine == 0 || isAddress(l.mine)) && isAddress(at(1)) && isAddress(at(2)) && at(1) != l.mine && at(2) != l.mine && at(1) != at(2) {
			return nil
		}
	}
	return errors.New("a thread's Landlock domain is not found")
}

func isAddress(word uint64) bool { return int64(word) < 0 }

// own looks at the calling thread.
func (l *Landlock) own() ([]byte, error) {
	it, err := linux.BPFThreadIterator(l.program, unix.Gettid())
	if err != nil {
		return nil, fmt.Errorf("bpf iterator over a thread: %w", err)
	}
	defer unix.Close(it) //nolint:errcheck // nothing was written
	b, err := read(it, blob, blob)
	if err == nil && len(b) != blob {
		err = fmt.Errorf("%d bytes of a thread's credentials", len(b))
	}
	return b, err
}

// restrict puts the calling thread into a sandbox.
func restrict() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	handled := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK) // the engine's thread does nothing with it
	n, err := linux.LandlockRuleset(handled)
	if err != nil {
		return err
	}
	defer unix.Close(n) //nolint:errcheck // nothing was written
	if _, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(n), 0, 0); e != 0 {
		return e
	}
	return nil
}

func (l *Landlock) look(pidfd, n int) ([]byte, error) {
	it, err := linux.BPFTaskIterator(l.program, pidfd)
	if err != nil {
		return nil, fmt.Errorf("%w: bpf iterator over threads: %w", ErrUnavailable, err)
	}
	defer unix.Close(it) //nolint:errcheck // nothing was written
	b, err := read(it, n*blob, blob)
	if err != nil || len(b)%blob != 0 {
		return nil, errors.Join(ErrUnavailable, err)
	}
	return b, nil
}

// any tells whether any thread is in a domain that is not the engine's, which a restored
// one would get.
func (l *Landlock) any(b []byte) bool {
	for ; len(b) > 0; b = b[blob:] {
		switch d := binary.NativeEndian.Uint64(b[l.word:]); {
		case d == l.mine:
			l.shared = l.shared || isAddress(d)
		case isAddress(d):
			return true
		}
	}
	return false
}

// Any tells whether any thread of the process of a pidfd, of at most n threads, is
// in a sandbox.
func (l *Landlock) Any(pidfd, n int) (bool, error) {
	b, err := l.look(pidfd, n)
	return err == nil && l.any(b), err
}

// Shared tells whether any thread that was looked at is in the sandbox that the engine is
// in, too.
func (l *Landlock) Shared() bool { return l.shared }

// Close unloads the program. It does nothing for nil.
func (l *Landlock) Close() error {
	if l == nil {
		return nil
	}
	return unix.Close(l.program)
}
