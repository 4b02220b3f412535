package stub

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/fd"
)

// deadAt is where a process that is to end has its page.
const deadAt = 0x400000

// Dead makes a process that has ended in this way and was waited for, and
// returns a pidfd of it. Of what ended by a signal it can be told only that;
// it leaves no core file.
func Dead(status unix.WaitStatus) (*fd.FD, error) {
	code := arch.StubCode()
	if status.Exited() {
		code = arch.ExitCode(uint8(status.ExitStatus()))
	}
	line, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("process that has ended: socketpair: %w", err)
	}
	defer unix.Close(line[0])
	defer unix.Close(line[1])
	exe, err := memfd(elf(deadAt, code), line[1])
	if err != nil {
		return nil, fmt.Errorf("process that has ended: %w", err)
	}
	defer unix.Close(exe)
	num := -1
	attr := &syscall.ProcAttr{Env: []string{}, Files: []uintptr{uintptr(line[1])}, Sys: &syscall.SysProcAttr{PidFD: &num}}
	pid, err := syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", exe), []string{"glis"}, attr)
	if err != nil {
		return nil, fmt.Errorf("process that has ended: start: %w", err)
	}
	d := fd.New(num)
	if err := end(pid, d, status); err != nil {
		return nil, errors.Join(fmt.Errorf("process that has ended: %w", err), d.Close())
	}
	return d, nil
}

// end sees to it that a process ends as it should.
func end(pid int, d *fd.FD, status unix.WaitStatus) error {
	if !status.Exited() {
		// No core file, not even for a program that takes them: see core(5).
		limit := &unix.Rlimit{Cur: 1, Max: 1}
		err := unix.Prlimit(pid, unix.RLIMIT_CORE, limit, nil)
		if err == nil {
			err = unix.Kill(pid, status.Signal())
		}
		if err != nil {
			return errors.Join(err, unix.Kill(pid, unix.SIGKILL))
		}
	}
	return reap(pid, d)
}

// patience is how long a signal may take to end a process, in ms. One that
// whoever started the engine has it ignore never does.
const patience = 200

// reap waits for the end of a process.
func reap(pid int, d *fd.FD) error {
	fds := []unix.PollFd{{Fd: int32(d.Int()), Events: unix.POLLIN}}
	if n, _ := unix.Poll(fds, patience); n == 0 {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return err
		}
	}
	for {
		_, err := unix.Wait4(pid, nil, unix.WALL, nil)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
