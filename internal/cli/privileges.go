package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Privileges is what this process may do.
type Privileges struct {
	Root         bool   // effective user ID 0
	Capabilities uint64 // effective capabilities, one bit each
}

// has reports whether a capability is there.
func (p Privileges) has(capability uint) bool { return p.Capabilities&(1<<capability) != 0 }

// ownPrivileges reads the privileges of this process (capget(2)).
func ownPrivileges() (Privileges, error) {
	var data [2]unix.CapUserData
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return Privileges{}, fmt.Errorf("reading own capabilities: %w", err)
	}
	return Privileges{
		Root:         os.Geteuid() == 0,
		Capabilities: uint64(data[1].Effective)<<32 | uint64(data[0].Effective),
	}, nil
}

// checkPrivileges says which privileges a verb lacks. With unprivileged it asks
// for no more than criu does at least.
func (a *App) checkPrivileges(verb string, unprivileged bool) error {
	p, err := a.System.Privileges()
	if err != nil {
		return err
	}
	admin := p.has(unix.CAP_SYS_ADMIN)
	var missing []string
	if !admin && !p.has(unix.CAP_CHECKPOINT_RESTORE) {
		missing = append(missing, "CAP_CHECKPOINT_RESTORE")
	}
	if !unprivileged && !p.has(unix.CAP_SYS_PTRACE) {
		missing = append(missing, "CAP_SYS_PTRACE")
	}
	if !unprivileged && !admin {
		missing = append(missing, "CAP_SYS_ADMIN")
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s needs %s; run it as root", verb, strings.Join(missing, " and "))
	}
	if !p.Root && !unprivileged {
		return fmt.Errorf("%s needs root; with --unprivileged it tries with what privileges there are", verb)
	}
	return nil
}

// become replaces this process by another program, found in PATH, in a
// directory. The signals are as they were, so that nothing of Glis remains.
func become(dir string, argv []string) error {
	if len(argv) == 0 {
		return errors.New("there is no program to become")
	}
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("entering the working directory: %w", err)
	}
	path, err := exec.LookPath(argv[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return fmt.Errorf("finding the program of --exec-cmd: %w", err)
	}
	signal.Reset(syscall.SIGPIPE)
	if err := syscall.Exec(path, argv, os.Environ()); err != nil {
		return fmt.Errorf("executing %s: %w", path, err)
	}
	return nil
}
