package proc

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrGone marks the failure of reading about a process or thread that has been
// reaped. The error beneath is the ESRCH or ENOENT that told so.
var ErrGone = errors.New("the task is gone")

// ParseError is text that is not of the form the kernel is known to print.
type ParseError struct {
	File string // name below /proc/PID
	Line int    // from 1
	Want string // what was expected
	Got  string // the text that is there instead, shortened
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("%s, line %d: expected %s, found %q", e.File, e.Line, e.Want, e.Got)
}

// excerpt shortens text for a message.
func excerpt(b []byte) string {
	const most = 40
	if len(b) > most {
		return string(b[:most]) + "…"
	}
	return string(b)
}

// fail describes an error of a call on a file of d. prefix is "" or the
// thread's "task/TID/".
func (d *Dir) fail(prefix, name string, err error) error {
	path := d.path + "/" + prefix + name
	if d.gone(prefix, err) {
		return fmt.Errorf("%s: %w: %w", path, ErrGone, err)
	}
	return fmt.Errorf("%s: %w", path, err)
}

// gone tells a task that vanished from a file that is not there: the kernel
// says ENOENT for both, so ask for a file that every task has.
func (d *Dir) gone(prefix string, err error) bool {
	switch {
	case errors.Is(err, unix.ESRCH):
		return true
	case errors.Is(err, unix.ENOENT):
		return unix.Faccessat(d.fd, prefix+"stat", unix.F_OK, 0) != nil
	}
	return false
}
