package file

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// The console and a virtual terminal are the machine's: a restore opens the one
// that has the path, and gives it its settings. A virtual terminal controls the
// session again that it did. See console(4), vcs(4), ioctl_tty(2).

// Numbers from include/uapi/linux/major.h and vt.h, and criu's for terminals
// that have none of their own.
const (
	minorConsole = 1
	lastVT       = 63
	indexConsole = 1002
	indexVT      = 1004
)

// ofMachine returns criu's number and type for a terminal of the machine's.
func ofMachine(rdev uint64) (index uint32, typ tty.TtyType, ok bool) {
	switch minor := unix.Minor(rdev); {
	case unix.Major(rdev) == auxMajor && minor == minorConsole:
		return indexConsole, tty.TtyType_CONSOLE, true
	case unix.Major(rdev) == vtMajor && minor >= 1 && minor <= lastVT:
		return indexVT, tty.TtyType_VT, true
	}
	return 0, 0, false
}

// isControl tells whether a virtual terminal is the one that controls the
// session of a task.
func isControl(f *scan.File, lead *scan.Task) bool {
	_, typ, _ := ofMachine(f.Stat.Rdev)
	return typ == tty.TtyType_VT && lead.Stat.TTY == uint32(f.Stat.Rdev)
}

// machineTerminal refuses a console or virtual terminal that would lose
// something.
func (k *TTY) machineTerminal(t *scan.Tree, f *scan.File, d *fd.FD) error {
	if _, typ, _ := ofMachine(f.Stat.Rdev); typ == tty.TtyType_VT {
		for _, task := range t.Tasks {
			if lead := t.Task(task.Stat.Session); !task.Zombie && lead != nil && isControl(f, lead) && task.Stat.TTY != lead.Stat.TTY && (task.Stat.TTY != 0 || task.Ended != nil) {
				return kind.Unsupported(task, "it has not the terminal that its session has (TIOCNOTTY, or it was there before that had one), and its first thread has ended, by which alone it could have none again; end that process first")
			}
		}
		if k.vt != nil && k.vt.Stat.Rdev != f.Stat.Rdev {
			return kind.Unsupported(f, "the tree has another virtual terminal, too (%s), and images have a word for one only; redirect one of them to a file", k.vt.Link)
		}
		k.vt = f
	}
	n, err := unix.IoctlGetInt(d.Int(), unix.TIOCINQ)
	if err != nil {
		return fmt.Errorf("%v: ask for what waits in it: %w", f, err)
	}
	if n > 0 {
		return kind.Unsupported(f, "%d bytes wait to be read from it, which can't be looked at without taking them; let the program read them", n)
	}
	return nil
}

// machineNode is a console or virtual terminal.
type machineNode struct {
	base
	info *tty.TtyInfoEntry
	path plan.ID
	hold *fd.FD // until all sessions have their terminals
}

// planMachine plans a console or virtual terminal; nil if it is none.
func (k *TTY) planMachine(e *fdinfo.FileEntry, b base, info *tty.TtyInfoEntry) (plan.Node, error) {
	if t := info.GetType(); t != tty.TtyType_CONSOLE && t != tty.TtyType_VT {
		return nil, nil
	}
	_, typ, ok := ofMachine(uint64(info.GetRdev()))
	if !ok || typ != info.GetType() {
		return nil, fmt.Errorf("a terminal of type %v that is device %d:%d: it can't be", info.GetType(), unix.Major(uint64(info.GetRdev())), unix.Minor(uint64(info.GetRdev())))
	}
	return &machineNode{base: b, info: info, path: plan.ID(e.GetTty().GetRegfId())}, nil
}

// String implements plan.Node.
func (n *machineNode) String() string {
	return fmt.Sprintf("terminal %#x: %v, device %d:%d", n.id, n.info.GetType(), unix.Major(uint64(n.info.GetRdev())), unix.Minor(uint64(n.info.GetRdev())))
}

// Session implements plan.Terminal.
func (n *machineNode) Session() (sid, group uint32) {
	if n.info.GetType() != tty.TtyType_VT {
		return 0, 0
	}
	return n.info.GetSid(), n.info.GetPgrp()
}

// Slave implements plan.Terminal.
func (n *machineNode) Slave(env *plan.Env) (_ *fd.FD, err error) {
	if n.hold == nil {
		if n.hold, err = n.device(env); err != nil {
			return nil, fmt.Errorf("%v: %w", n, err)
		}
	}
	return reopen(n.hold, unix.O_RDWR|unix.O_NONBLOCK)
}

// Late implements plan.Later: all have taken their terminals.
func (n *machineNode) Late(context.Context, *plan.Env) error {
	n.Drop()
	return nil
}

// Drop implements plan.Dropper.
func (n *machineNode) Drop() {
	if n.hold != nil {
		n.hold.Close()
		n.hold = nil
	}
}

// Needs implements plan.Node: the file that its path leads to.
func (n *machineNode) Needs() []plan.ID { return []plan.ID{n.path} }

// Create implements plan.Node.
func (n *machineNode) Create(_ context.Context, env *plan.Env) (*fd.FD, error) {
	d, err := n.device(env)
	if err != nil {
		return nil, err
	}
	if err := n.set(d); err != nil {
		return nil, errors.Join(fmt.Errorf("%v: give it its settings: %w", n, err), d.Close())
	}
	return d, nil
}

// device opens the terminal.
func (n *machineNode) device(env *plan.Env) (*fd.FD, error) {
	there, err := env.File(n.path)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(there.Int(), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != uint64(n.info.GetRdev()) {
		return nil, fmt.Errorf("%v: what has its path by now is device %d:%d; put it back", n, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	return reopen(there, n.flags&^(notForOpen|unix.O_NOFOLLOW))
}

// set gives the terminal its settings, if it has others.
func (n *machineNode) set(d *fd.FD) error {
	want := unpackTermios(n.info.GetTermios())
	now, err := unix.IoctlGetTermios(d.Int(), unix.TCGETS)
	if err != nil {
		return err
	}
	want.Ispeed, want.Ospeed = now.Ispeed, now.Ospeed
	if *now == *want {
		return nil
	}
	return withoutTTOU(func() error { return unix.IoctlSetTermios(d.Int(), unix.TCSETS, want) })
}
