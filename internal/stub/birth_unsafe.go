package stub

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
)

// Birth is a process that is about to execute a program of one page. Whoever
// began it need not wait for that, which takes 2 ms: it is on its way whatever
// happens to us. syscall.ForkExec waits.
type Birth struct {
	PID    int
	report *arch.Report
	told   int // descriptor that ends when it has executed
	kept   [][]byte
	lists  [][]uint64
	calls  []arch.Call
}

// begin begins a process with these descriptors, from 0 on, that executes what
// the descriptor exe is of. Its number must be behind that of all files and behind 2,
// and a few more must be free. The process has all signals blocked.
// It has the flags of clone(2), and does what first adds to its calls.
func begin(exe int, argv string, files []int, flags uint64, first func(*Birth)) (*Birth, error) {
	var line [2]int
	if err := unix.Pipe2(line[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(line[1])
	say, err := unix.FcntlInt(uintptr(line[1]), unix.F_DUPFD_CLOEXEC, exe+1)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pipe: %w", tooMany(err)), unix.Close(line[0]))
	}
	defer unix.Close(say)
	b := &Birth{told: line[0], report: &arch.Report{FD: uint64(say)}}
	first(b)
	for i, n := range files { // out of the way first: they may be each other's numbers
		b.call(unix.SYS_DUP3, uint64(n), uint64(say+1+i), unix.O_CLOEXEC)
	}
	for i := range files {
		b.call(unix.SYS_DUP3, uint64(say+1+i), uint64(i), 0)
	}
	if n := uint64(len(files)); n < 3 { // what our own maker gave us, which is not closed by itself
		b.call(unix.SYS_CLOSE_RANGE, n, 2, 0)
	}
	b.call(unix.SYS_EXECVE, b.text(fmt.Sprintf("/proc/self/fd/%d", exe)), b.list(b.text(argv), 0), b.list(0))
	if err := b.spawn(flags); err != nil {
		return nil, errors.Join(fmt.Errorf("clone: %w", err), unix.Close(line[0]))
	}
	return b, nil
}

func (b *Birth) call(nr, x, y, z uint64) {
	b.calls = append(b.calls, arch.Call{Nr: nr, A: x, B: y, C: z})
}

// text returns the address of a string with its NUL.
func (b *Birth) text(s string) uint64 {
	t := append([]byte(s), 0)
	b.kept = append(b.kept, t)
	return uint64(uintptr(unsafe.Pointer(&t[0])))
}

// list returns the address of an array of words.
func (b *Birth) list(words ...uint64) uint64 {
	l := slices.Clone(words)
	b.lists = append(b.lists, l)
	return uint64(uintptr(unsafe.Pointer(&l[0])))
}

// spawn makes the process. Descriptors that another goroutine is about to mark
// as closed on execution would be in it: see syscall.ForkLock.
func (b *Birth) spawn(flags uint64) error {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return err
	}
	// A tracer of ours that follows our children (strace -f) would be its tracer, too,
	// which of a stub we have to be.
	pid := arch.Spawn(flags|unix.CLONE_UNTRACED|uint64(unix.SIGCHLD), b.calls, b.report)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); err != nil {
		return err
	}
	if pid < 0 {
		return unix.Errno(-pid)
	}
	b.PID = int(pid)
	return nil
}

// Wait waits until it has executed, and fails if it could not: then it has
// ended, and has been waited for. A second Wait does nothing.
func (b *Birth) Wait() error {
	if b.told < 0 {
		return nil
	}
	var result [8]byte
	n, err := read(b.told, result[:])
	err = errors.Join(err, unix.Close(b.told))
	b.told = -1
	if err == nil && n == 0 {
		b.kept, b.lists, b.calls = nil, nil, nil
		return nil
	}
	if err == nil {
		err = tooMany(unix.Errno(-b.report.Result))
	}
	return errors.Join(fmt.Errorf("start a process: %w", err), discard(b.PID))
}

// read is read(2), again if a signal came.
func read(n int, b []byte) (int, error) {
	for {
		if got, err := unix.Read(n, b); err != unix.EINTR {
			return got, err
		}
	}
}
