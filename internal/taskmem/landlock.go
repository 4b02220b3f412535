package taskmem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
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

// learn compares the engine's threads before one restricts itself and then. What
// other modules keep is copied, and what is behind the blob may be anything: so the
// first word counts that was 0 for all and has become an address.
func (l *Landlock) learn() error {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(self) //nolint:errcheck // nothing was written
	var before, then []byte
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		var err error
		if before, err = l.look(self, mostOwn); err == nil {
			err = restrict()
		}
		if err == nil {
			then, err = l.look(self, mostOwn)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return err
	}
	for l.word = 0; l.word < blob; l.word += word64 {
		if !l.any(before) && l.any(then) {
			return nil
		}
	}
	return errors.New("a thread's Landlock domain is not found, or Glis is in one")
}

// mostOwn is more threads than the engine has then.
const mostOwn = 1024

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

// any tells whether any thread has an address of the kernel's there.
func (l *Landlock) any(b []byte) bool {
	for ; len(b) > 0; b = b[blob:] {
		if int64(binary.NativeEndian.Uint64(b[l.word:])) < 0 {
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

// Close unloads the program. It does nothing for nil.
func (l *Landlock) Close() error {
	if l == nil {
		return nil
	}
	return unix.Close(l.program)
}
