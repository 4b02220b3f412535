package file

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
)

// Output of a terminal can be held back: by tcflow(3), or by who types Ctrl-S.
// No call tells; but it takes nothing though there is room.

// ttyFlow is how a slave's output is held back, and by whom it may be opened.
type ttyFlow uint64

const (
	flowing   ttyFlow = 0
	byCall    ttyFlow = 1 // tcflow(TCOOFF)
	byKey     ttyFlow = 2 // the STOP character
	exclusive ttyFlow = 4 // TIOCEXCL, beside one of the others
	ofMaster  ttyFlow = 8 // what the master types, by tcflow(TCOOFF) of it, beside them, too
)

// letMaster lets the master type if tcflow(3) has stopped that, and tells whether it had.
// There is room for what it types, or it isn't known.
func letMaster(master *fd.FD) (ttyFlow, error) {
	ok, err := takesOutput(master)
	if err != nil || ok {
		return flowing, err
	}
	if err := tcflow(master, unix.TCOON); err != nil {
		return flowing, err
	}
	if ok, err = takesOutput(master); err != nil || ok {
		return ofMaster, err
	}
	return flowing, nil
}

// stopMaster stops what letMaster has let.
func (f ttyFlow) stopMaster(master *fd.FD) error {
	if f&ofMaster == 0 {
		return nil
	}
	return tcflow(master, unix.TCOOFF)
}

// flow tells how the output of a slave is held back of which the master has
// read everything. What tcflow(3) has stopped goes on.
func flow(slave *fd.FD) (ttyFlow, error) {
	ok, err := takesOutput(slave)
	if err != nil || ok {
		return flowing, err
	}
	if err := tcflow(slave, unix.TCOON); err != nil {
		return flowing, err
	}
	if ok, err = takesOutput(slave); err != nil || ok {
		return byCall, err
	}
	return byKey, nil
}

func takesOutput(slave *fd.FD) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(slave.Int()), Events: unix.POLLOUT}}
	_, err := linux.PollNow(fds)
	return fds[0].Revents&unix.POLLOUT != 0, err
}

func tcflow(slave *fd.FD, action int) error {
	if err := unix.IoctlSetInt(slave.Int(), unix.TCXONC, action); err != nil {
		return fmt.Errorf("tcflow: %w", err)
	}
	return nil
}

// hold stops output.
func (f ttyFlow) hold(master, slave *fd.FD) error {
	switch f &^ (exclusive | ofMaster) {
	case byCall:
		return tcflow(slave, unix.TCOOFF)
	case byKey:
		return typeKey(master, slave, unix.VSTOP)
	}
	return nil
}

// letGo lets output flow that was held back.
func (f ttyFlow) letGo(master, slave *fd.FD) error {
	switch f &^ (exclusive | ofMaster) {
	case byCall:
		return tcflow(slave, unix.TCOON)
	case byKey:
		return typeKey(master, slave, unix.VSTART)
	}
	return nil
}

// typeKey has the master type a character that starts or stops output, which
// nobody reads.
func typeKey(master, slave *fd.FD, key int) error {
	t, err := unix.IoctlGetTermios(slave.Int(), unix.TCGETS)
	if err != nil {
		return err
	}
	if t.Iflag&unix.IXON == 0 || t.Cc[key] == 0 {
		return errors.New("its output was stopped by a key that has no such meaning any more")
	}
	plain := *t
	plain.Iflag, plain.Lflag = unix.IXON, 0
	if err := unix.IoctlSetTermios(slave.Int(), unix.TCSETS, &plain); err != nil {
		return err
	}
	err = writeAll(master, slave, t.Cc[key:key+1])
	return errors.Join(err, unix.IoctlSetTermios(slave.Int(), unix.TCSETS, t))
}

// isExclusive tells whether a terminal may be opened once more by root only.
func isExclusive(d *fd.FD) (ttyFlow, error) {
	on, err := unix.IoctlGetInt(d.Int(), unix.TIOCGEXCL)
	if err != nil || on == 0 {
		return 0, err
	}
	return exclusive, nil
}
