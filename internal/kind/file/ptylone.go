package file

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/standin"
)

// A master that is only in messages which nobody can receive can't be asked. The kernel's
// memory tells what it is of; another terminal is given all of that, and dumped in its
// place, under the number of the first. What is on the way in the first is left alone.

// loneMaster is a master that another one stands for.
type loneMaster struct {
	was   *standin.Terminal
	slave *fd.FD // of the other one, unless that is to be hung up
}

// Lone implements kind.Loner.
func (k *TTY) Lone(m *sockmem.Memory, x *sockmem.Lone) (*fd.FD, string, error) {
	if is, err := standin.IsMaster(m, x); err != nil || !is {
		return nil, "", err
	}
	t, err := standin.ReadTerminal(m, x.At)
	if errors.Is(err, standin.ErrUnlike) {
		return nil, err.Error(), nil
	}
	if err != nil {
		return nil, "", err
	}
	if why, err := belongs(m, t); why != "" || err != nil {
		return nil, why, err
	}
	num, err := unix.Open(x.Path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Sprintf("it is the master of a pseudo-terminal, and no other one can be made by its path, %q (%v)", x.Path, err), nil
	}
	master := fd.New(num)
	l := &loneMaster{was: t}
	why, err := l.make(m, master)
	if err == nil && why == "" {
		err = k.note(master, l)
	}
	if err != nil || why != "" {
		return nil, why, errors.Join(err, l.close(), master.Close())
	}
	return master, "", nil
}

// belongs refuses a terminal that is of another devpts than the one that is seen here, or
// has another line discipline than a terminal's.
func belongs(m *sockmem.Memory, t *standin.Terminal) (string, error) {
	if t.Settings.Line != 0 { // N_TTY
		return "it is the master of a pseudo-terminal with a line discipline of its own (TIOCSETD)", nil
	}
	name := fmt.Sprintf("/dev/pts/%d", t.Index)
	n, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Sprintf("it is the master of a pseudo-terminal, and its slave, %s, is not there (%v)", name, err), nil
	}
	own := fd.New(n)
	defer own.Close()
	is, err := t.IsSlave(m, n)
	if err == nil && !is {
		return fmt.Sprintf("it is the master of a pseudo-terminal, and %s is another one's slave", name), nil
	}
	return "", err
}

// make gives a new terminal what the other one has.
func (l *loneMaster) make(m *sockmem.Memory, master *fd.FD) (why string, err error) {
	t := l.was
	if err := unix.IoctlSetPointerInt(master.Int(), unix.TIOCSPTLCK, 0); err != nil {
		return "", fmt.Errorf("unlock a new terminal: %w", err)
	}
	if l.slave, err = peer(master); err != nil {
		return "", err
	}
	if err := l.fill(master); err != nil {
		return "", fmt.Errorf("give a new terminal what is on the way in another one: %w", err)
	}
	if err := l.modes(m, master); err != nil {
		return "", fmt.Errorf("give a new terminal the modes of another one: %w", err)
	}
	if t.HungUp {
		err := l.slave.Close()
		if l.slave = nil; err != nil {
			return "", err
		}
	}
	if t.Locked {
		if err := unix.IoctlSetPointerInt(master.Int(), unix.TIOCSPTLCK, 1); err != nil {
			return "", fmt.Errorf("lock a new terminal: %w", err)
		}
	}
	return l.compare(m, master)
}

// fill has the ends of a new terminal write what waits at the others. What the slave had no
// room for means what it means by the settings.
func (l *loneMaster) fill(master *fd.FD) error {
	t := l.was
	if err := unix.IoctlSetTermios(master.Int(), unix.TCSETS, &t.Settings); err != nil {
		return err
	}
	if len(t.Typed) > 0 {
		if err := giveInput(master, l.slave, t.Typed); err != nil {
			return err
		}
	}
	if len(t.Shown) > 0 {
		if err := giveOutput(master, l.slave, t.Shown); err != nil {
			return err
		}
	}
	if len(t.Arriving) > 0 {
		return writeAll(master, l.slave, t.Arriving)
	}
	return nil
}

// modes sets what is no settings. How output is held back, and whether there are packets,
// is found by trying: the kernel's structures have no names for it.
func (l *loneMaster) modes(m *sockmem.Memory, master *fd.FD) error {
	t := l.was
	errs := []error{
		unix.IoctlSetTermios(master.Int(), unix.TIOCSLCKTRMIOS, &t.Fixed), unix.IoctlSetWinsize(master.Int(), unix.TIOCSWINSZ, &t.Size),
	}
	if t.SlaveExclusive {
		errs = append(errs, unix.IoctlSetInt(l.slave.Int(), unix.TIOCEXCL, 0))
	}
	if t.Exclusive {
		errs = append(errs, unix.IoctlSetInt(master.Int(), unix.TIOCEXCL, 0))
	}
	is, err := reread(m, master)
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	if !bytes.Equal(is.Modes, t.Modes) {
		if err := unix.IoctlSetPointerInt(master.Int(), unix.TIOCPKT, 1); err != nil {
			return err
		}
	}
	for _, how := range []ttyFlow{byCall, byKey} {
		if bytes.Equal(is.Flow, t.Flow) {
			return nil
		}
		if err := how.hold(master, l.slave); err != nil {
			return err
		}
		if is, err = reread(m, master); err != nil {
			return err
		}
		if !bytes.Equal(is.Flow, t.Flow) {
			if err := how.letGo(master, l.slave); err != nil {
				return err
			}
		}
	}
	return nil
}

func reread(m *sockmem.Memory, master *fd.FD) (*standin.Terminal, error) {
	if _, err := settleTTY(master); err != nil {
		return nil, err
	}
	at, err := m.File(master.Int())
	if err != nil {
		return nil, err
	}
	return standin.ReadTerminal(m, at)
}

// compare makes sure that the new terminal is like the other one, as soon as it has taken all.
func (l *loneMaster) compare(m *sockmem.Memory, master *fd.FD) (why string, err error) {
	for end := time.Now().Add(soon); ; time.Sleep(100 * time.Microsecond) {
		is, err := reread(m, master)
		if err != nil || l.same(is) {
			return "", err
		}
		if time.Now().After(end) {
			return "it is the master of a pseudo-terminal, and another one can't be made like it", nil
		}
	}
}

func (l *loneMaster) same(is *standin.Terminal) bool {
	t := l.was
	return is.Settings == t.Settings && is.Fixed == t.Fixed && is.Size == t.Size && is.Locked == t.Locked && is.HungUp == t.HungUp &&
		is.Exclusive == t.Exclusive && (is.SlaveExclusive == t.SlaveExclusive || t.HungUp) &&
		bytes.Equal(is.Modes, t.Modes) && (bytes.Equal(is.Flow, t.Flow) || t.HungUp) &&
		bytes.Equal(is.Shown, t.Shown) && (t.HungUp || sameInput(is, t))
}

// sameInput tells whether the same waits at the slave. Of what it had no room for it may have
// taken a part by now: what that means the settings say.
func sameInput(is, was *standin.Terminal) bool {
	if len(is.Arriving) == len(was.Arriving) {
		return bytes.Equal(is.Typed, was.Typed) && bytes.Equal(is.Arriving, was.Arriving)
	}
	return bytes.HasPrefix(is.Typed, was.Typed) && bytes.HasSuffix(was.Arriving, is.Arriving)
}

func (l *loneMaster) close() error {
	if l.slave == nil {
		return nil
	}
	return l.slave.Close()
}

// note notes whom a new terminal stands for.
func (k *TTY) note(master *fd.FD, l *loneMaster) error {
	index, err := unix.IoctlGetUint32(master.Int(), unix.TIOCGPTN)
	if err != nil {
		return fmt.Errorf("TIOCGPTN: %w", err)
	}
	if k.lones == nil {
		k.lones = map[uint32]*loneMaster{}
	}
	k.lones[index] = l
	return nil
}

// loneOf returns what is known of a master that is only in messages; nil of others.
func (k *TTY) loneOf(f *scan.File) *loneMaster {
	if f.Within == nil || f.Info().TTYIndex == nil {
		return nil
	}
	return k.lones[uint32(*f.Info().TTYIndex)]
}

// indexOf returns the number of a master's terminal.
func (k *TTY) indexOf(f *scan.File) uint32 {
	if l := k.loneOf(f); l != nil {
		return l.was.Index
	}
	return uint32(*f.Info().TTYIndex)
}

// Close implements kind.Closer.
func (k *TTY) Close() error {
	var errs []error
	for _, l := range k.lones {
		errs = append(errs, l.close())
	}
	if k.memory != nil {
		errs = append(errs, k.memory.Close())
		k.memory = nil
	}
	return errors.Join(errs...)
}

var (
	_ kind.Loner  = (*TTY)(nil)
	_ kind.Closer = (*TTY)(nil)
)
