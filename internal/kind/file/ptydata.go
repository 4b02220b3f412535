package file

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/scan"
)

// What is on the way in a terminal can't be looked at, only taken out. It is
// put back at once; an engine that is killed in these microseconds loses it.

// mostOnWay is how much the kernel lets be on the way, in bytes: what its
// buffers hold (TTYB_DEFAULT_MEM_LIMIT of drivers/tty/tty_buffer.c), and the
// line discipline.
const mostOnWay = 64<<10 + 4096

// putTTYData writes what is on the way to each end, and says how output is held
// back.
func putTTYData(env *kind.DumpEnv, file *scan.File, master *fd.FD, index uint32, packets bool) (ttyFlow, error) {
	slave, err := peer(master)
	if err != nil {
		return 0, err
	}
	defer slave.Close()
	excl, err := isExclusive(slave)
	if err == nil {
		err = plainDiscipline(file, slave)
	}
	if err != nil {
		return 0, err
	}
	in, err := takeInput(slave)
	if err != nil {
		return 0, fmt.Errorf("what was typed: %w", err)
	}
	typing, err := letMaster(master)
	if err == nil && len(in) > 0 {
		err = giveInput(master, slave, in)
	}
	if err != nil {
		return 0, fmt.Errorf("what was typed: %w", errors.Join(err, typing.stopMaster(master)))
	}
	out, held, err := lookAtOutput(master, slave, packets)
	if err = errors.Join(err, typing.stopMaster(master)); err != nil {
		return 0, fmt.Errorf("what was shown: %w", err)
	}
	for id, data := range map[uint32][]byte{index << 1: in, index<<1 | 1: out} {
		if len(data) == 0 {
			continue
		}
		if err := env.Images.Put(image.TTYData, &tty.TtyDataEntry{TtyId: &id, Data: data}, nil); err != nil {
			return 0, err
		}
	}
	return held | excl | typing, nil
}

// lookAtOutput tells what the master has not read yet, and how output is held
// back, and leaves both so.
func lookAtOutput(master, slave *fd.FD, packets bool) ([]byte, ttyFlow, error) {
	out, err := takeOutput(master, packets)
	if err != nil {
		return nil, 0, err
	}
	held, err := flow(slave)
	if len(out) > 0 {
		if held == byKey {
			err = errors.Join(err, held.letGo(master, slave))
		}
		err = errors.Join(err, giveOutput(master, slave, out))
	}
	if held == byCall || len(out) > 0 {
		err = errors.Join(err, held.hold(master, slave))
	}
	return out, held, err
}

// peer opens the slave of a master (TIOCGPTPEER, Linux 4.13).
func peer(master *fd.FD) (*fd.FD, error) {
	return peerAs(master, unix.O_RDWR|unix.O_NONBLOCK)
}

// peerAs opens it with these flags and no others. open(2) would add O_LARGEFILE, which
// the slave of openpty(3) doesn't have; here O_CLOEXEC would stay among them.
func peerAs(master *fd.FD, flags uint32) (*fd.FD, error) {
	return closedOnExec(func() (int, error) {
		n, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(master.Int()), unix.TIOCGPTPEER, uintptr(flags|unix.O_NOCTTY))
		if e != 0 {
			return -1, fmt.Errorf("open the slave: %w", e)
		}
		return int(n), nil
	})
}

// settleTTY lets the kernel hand on what was written to the other end: poll(2)
// waits for that.
func settleTTY(d *fd.FD) (int, error) {
	fds := []unix.PollFd{{Fd: int32(d.Int()), Events: unix.POLLIN}}
	if _, err := linux.PollNow(fds); err != nil {
		return 0, err
	}
	return unix.IoctlGetInt(d.Int(), unix.TIOCINQ)
}

// takeAll reads all that an end has got.
func takeAll(d *fd.FD) ([]byte, error) {
	var out []byte
	for {
		n, err := settleTTY(d)
		if err != nil || n == 0 {
			return out, err
		}
		if len(out)+n > mostOnWay {
			return out, fmt.Errorf("more than %d bytes are on the way", mostOnWay)
		}
		b := make([]byte, n)
		if n, err = unix.Read(d.Int(), b); err != nil {
			return out, err
		}
		out = append(out, b[:n]...)
	}
}

// takeInput takes what a program has not read yet, lines that are not complete
// included: those are seen only while the terminal knows no lines.
func takeInput(slave *fd.FD) ([]byte, error) {
	t, err := unix.IoctlGetTermios(slave.Int(), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	data, err := takeLines(slave, t)
	if err != nil {
		return data, err
	}
	raw := *t
	raw.Iflag, raw.Lflag = t.Iflag&unix.IXON, 0 // without IXON, what Ctrl-S has stopped goes on
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(slave.Int(), unix.TCSETS, &raw); err != nil {
		return data, err
	}
	begun, err := takeAll(slave)
	return append(data, begun...), errors.Join(err, unix.IoctlSetTermios(slave.Int(), unix.TCSETS, t))
}

// takeLines takes what a program could read, with the settings that it has:
// what was typed in this moment is still about to arrive, and means what it
// means by them. Only a read(2) that finds nothing waits for that. A line that
// an end of file has ended gets a NUL, as it has in the kernel.
func takeLines(slave *fd.FD, t *unix.Termios) ([]byte, error) {
	lines := knowsLines(t)
	room := roomOnWay.Get().(*[mostOnWay]byte)
	defer roomOnWay.Put(room)
	var out []byte
	for b := room[:]; ; {
		n, err := unix.Read(slave.Int(), b)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0 && !lines: // VMIN is 0
			return out, nil
		case err != nil:
			return out, err
		}
		out = append(out, b[:n]...)
		if lines && !endsLine(b[:n], t) {
			out = append(out, 0)
		}
		if len(out) > mostOnWay {
			return out, fmt.Errorf("more than %d bytes are on the way", mostOnWay)
		}
	}
}

// roomOnWay is for what is read: to have it cleared for each terminal takes ten times as long
// as to find that nothing is there.
var roomOnWay = sync.Pool{New: func() any { return new([mostOnWay]byte) }}

// knowsLines tells whether what is typed can be read line by line only. With EXTPROC
// whoever has the master makes lines, as telnetd does.
func knowsLines(t *unix.Termios) bool { return t.Lflag&(unix.ICANON|unix.EXTPROC) == unix.ICANON }

func endsLine(b []byte, t *unix.Termios) bool {
	if len(b) == 0 {
		return false
	}
	last := b[len(b)-1]
	return last == '\n' || last != 0 && (last == t.Cc[unix.VEOL] || last == t.Cc[unix.VEOL2])
}

// giveInput has the master type what was typed, without any effect but that
// the program can read it. A line that was ended by an end of file reads as a
// NUL.
func giveInput(master, slave *fd.FD, data []byte) error {
	t, err := unix.IoctlGetTermios(slave.Int(), unix.TCGETS)
	if err != nil {
		return err
	}
	quiet := *t
	quiet.Iflag, quiet.Lflag = t.Iflag&unix.IXON, t.Lflag&(unix.ICANON|unix.EXTPROC)
	quiet.Cc[unix.VSTART], quiet.Cc[unix.VSTOP] = 0, 0 // off
	for i := range quiet.Cc {
		if knowsLines(t) && i != unix.VEOL && i != unix.VEOL2 {
			quiet.Cc[i] = 0 // off
		}
	}
	data = slices.Clone(data)
	if knowsLines(t) {
		if eof, ok := unused(data); ok {
			quiet.Cc[unix.VEOF] = eof
			for i, c := range data {
				if c == 0 {
					data[i] = eof
				}
			}
		}
	}
	if err := unix.IoctlSetTermios(slave.Int(), unix.TCSETS, &quiet); err != nil {
		return err
	}
	err = writeAll(master, slave, data)
	return errors.Join(err, unix.IoctlSetTermios(slave.Int(), unix.TCSETS, t))
}

// unused returns a control character that is not in data.
func unused(data []byte) (byte, bool) {
	for c := byte(1); c < 32; c++ {
		if c != '\n' && !slices.Contains(data, c) {
			return c, true
		}
	}
	return 0, false
}

// takeOutput takes what the master has not read yet.
func takeOutput(master *fd.FD, packets bool) ([]byte, error) {
	if packets {
		if err := unix.IoctlSetPointerInt(master.Int(), unix.TIOCPKT, 0); err != nil {
			return nil, err
		}
	}
	data, err := takeAll(master)
	if packets {
		err = errors.Join(err, unix.IoctlSetPointerInt(master.Int(), unix.TIOCPKT, 1))
	}
	return data, err
}

// giveOutput has the slave show what was shown, as it is.
func giveOutput(master, slave *fd.FD, data []byte) error {
	t, err := unix.IoctlGetTermios(slave.Int(), unix.TCGETS)
	if err != nil {
		return err
	}
	raw := *t
	raw.Oflag = 0
	if err := unix.IoctlSetTermios(slave.Int(), unix.TCSETS, &raw); err != nil {
		return err
	}
	err = writeAll(slave, master, data)
	return errors.Join(err, unix.IoctlSetTermios(slave.Int(), unix.TCSETS, t))
}
