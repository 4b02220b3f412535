package file

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
)

// Who reads /dev/kmsg (journald, what watches for the kernel's out-of-memory killer) has a
// place in the kernel's log, the number of a message, which only the kernel's memory tells.
// A new reader gets there by reading.

// logNames are the members of the kernel's structures that tell it (kernel/printk/printk.c).
var logNames = []string{"devkmsg_user.seq"}

// mostOfMessage is more bytes than any message has (PRINTKRB_RECORD_MAX, CONSOLE_EXT_LOG_MAX).
const mostOfMessage = 16 << 10

// isLog tells whether it is /dev/kmsg.
func isLog(mode uint32, rdev uint64) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR && unix.Major(rdev) == memMajor && unix.Minor(rdev) == minorKmsg
}

// readsLog tells whether who opens /dev/kmsg so has a place in it.
func readsLog(flags uint32) bool { return access(flags) != unix.O_WRONLY && flags&unix.O_PATH == 0 }

// dumpLog notes which message of the kernel's log is read next.
func (k *Regular) dumpLog(f *scan.File, e *regfile.RegFileEntry) error {
	if !isLog(f.Stat.Mode, f.Stat.Rdev) || !readsLog(f.Flags) {
		return nil
	}
	d, err := f.Borrow()
	if err != nil {
		return err
	}
	defer d.Close()
	if k.log == nil {
		k.log = kmem.Share(logNames...)
	}
	next, err := nextMessage(k.log, d)
	if err != nil {
		return kind.Unsupported(f, "it is read from, and nobody tells how far it was: %v; close it", err)
	}
	putVarint(e, regLog, next)
	return nil
}

// nextMessage returns the number of the message that a reader gets next.
func nextMessage(memory *kmem.Shared, d *fd.FD) (uint64, error) {
	r, err := memory.Reader()
	if err != nil {
		return 0, err
	}
	at, err := r.PrivateOf(d.Int())
	if err == nil && at == 0 {
		err = errors.New("the kernel has no place of it")
	}
	if err != nil {
		return 0, err
	}
	next, err := r.Pointer(at + r.Off(logNames[0]))
	return uint64(next), err
}

// readLog reads from an entry which message of the kernel's log comes next.
func readLog(e *regfile.RegFileEntry) (next uint64, ok bool, err error) {
	next, _, ok = extra(e, regLog)
	if ok && (e.GetMode()&unix.S_IFMT != unix.S_IFCHR || !readsLog(e.GetFlags())) {
		err = fmt.Errorf("%s is no log of the kernel's that is read from", e.GetName())
	}
	return next, ok, err
}

// readOn reads up to the message that comes next. If there are not that many the log is
// another one, as after a reboot, and nothing of it was read.
func (n *regularNode) readOn(d *fd.FD) error {
	next := n.has().message
	if next == nil {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(d.Int(), &st); err != nil {
		return err
	}
	if !isLog(st.Mode, st.Rdev) {
		return errors.New("it is no /dev/kmsg any more")
	}
	first, err := reopen(d, unix.O_RDONLY|unix.O_NONBLOCK) // to read one is to be behind it
	if err != nil {
		return err
	}
	defer first.Close()
	number, err := readMessage(first)
	if errors.Is(err, unix.EAGAIN) || err == nil && number >= *next {
		return nil
	}
	if err == nil {
		err = unix.SetNonblock(d.Int(), true) // ready sets it as it was
	}
	for err == nil {
		if number, err = readMessage(d); number+1 >= *next {
			break
		}
	}
	if errors.Is(err, unix.EAGAIN) {
		_, err = unix.Seek(d.Int(), 0, unix.SEEK_SET)
	}
	return err
}

// readMessage reads a message and returns its number. Older ones may go meanwhile, which
// is told once (EPIPE).
func readMessage(d *fd.FD) (uint64, error) {
	b := make([]byte, mostOfMessage)
	n, err := unix.Read(d.Int(), b)
	for errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR) {
		n, err = unix.Read(d.Int(), b)
	}
	if err != nil {
		return 0, fmt.Errorf("read a message of the kernel's log: %w", err)
	}
	parts := bytes.SplitN(b[:n], []byte(","), 3)
	if len(parts) < 3 {
		return 0, fmt.Errorf("a message of the kernel's log begins with %.40q", b[:n])
	}
	return strconv.ParseUint(string(parts[1]), 10, 64)
}
