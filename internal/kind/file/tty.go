package file

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// TTY is terminals: pseudo-terminals whose master is in the tree, and, with
// --shell-job, the one that the tree was started from. The terminal of whoever
// restores takes that one's place.
type TTY struct {
	pts     *scan.File             // of a dump: the one terminal from outside there may be
	masters map[uint32]*scan.File  // of a dump: masters in the tree, by number
	among   int                    // of so many files
	lones   map[uint32]*loneMaster // of a dump: masters that are only in messages, by the number of what stands for them
	memory  *sockmem.Memory        // of a dump: the kernel's, of masters whose slaves nobody has opened
	pairs   map[uint32]*scan.File  // of a dump: those that are written down
	infos   map[uint32]*tty.TtyInfoEntry
	vt      *scan.File                 // of a dump: the one virtual terminal there may be
	hung    map[uint32]*hungSet        // of a restore: slaves without a master, by number
	group   uint32                     // of a restore: the tree's own process group, 0 if it has none
	sets    map[uint32]*ptySet         // of a restore, by number
	outside map[device]uint32          // of a dump: those that the user has named
	handed  map[*tty.TtyInfoEntry]bool // of a restore: those that are handed in
	plan    *plan.Plan                 // of a restore
}

// Device numbers from include/uapi/linux/major.h.
const (
	vtMajor     = 4 // TTY_MAJOR
	auxMajor    = 5 // TTYAUX_MAJOR: /dev/tty, /dev/console, /dev/ptmx
	masterMajor = 128
	slaveMajor  = 136
	ptyMajors   = 8
	serialMajor = 204
	usbMajor    = 188
	minorCTTY   = 0
)

// criu's numbers for terminals that have none of their own. An entry in
// tty-info.img has twice the number as its id, and one more for a master.
const indexCTTY = 1006

// Type implements kind.File.
func (*TTY) Type() fdinfo.FdTypes { return fdinfo.FdTypes_TTY }

// Match implements kind.File.
func (*TTY) Match(f *scan.File) bool {
	return f.FD >= 0 && f.Flags&unix.O_PATH == 0 && f.Stat.Mode&unix.S_IFMT == unix.S_IFCHR && isTTY(f.Stat.Rdev)
}

// isTTY tells whether a character device is a terminal.
func isTTY(rdev uint64) bool {
	switch major := unix.Major(rdev); major {
	case vtMajor, auxMajor, serialMajor, usbMajor:
		return true
	default:
		return major >= masterMajor && major < slaveMajor+ptyMajors
	}
}

func isSlave(rdev uint64) bool {
	major := unix.Major(rdev)
	return major >= slaveMajor && major < slaveMajor+ptyMajors
}

func isCTTY(rdev uint64) bool {
	return unix.Major(rdev) == auxMajor && unix.Minor(rdev) == minorCTTY
}

// Dump implements kind.File.
func (k *TTY) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	master, index, err := k.pair(env, f, d)
	if err != nil {
		return nil, err
	}
	if isSlave(f.Stat.Rdev) && isHungUp(d) {
		if master != nil {
			return nil, kind.Unsupported(f, "the terminal was hung up (vhangup), and its master is there; let the program close it")
		}
		return k.dumpHungUp(env, f, d)
	}
	if master != nil {
		return k.dumpPair(env, f, master, index, d)
	}
	if which, ok := given(env, f); ok && !isHungUp(d) {
		return k.dumpOutside(env, f, d, which)
	}
	if err := k.supported(env, f, d); err != nil {
		return nil, err
	}
	own, err := readOwner(env, f, d)
	if err != nil {
		return nil, err
	}
	id, err := k.dumpInfo(env, f, d)
	if err != nil {
		return nil, err
	}
	reg, err := env.Files.Linked(f.Task, f.Path(), f.Flags)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", f, err)
	}
	return &fdinfo.FileEntry{Tty: &tty.TtyFileEntry{Id: proto.Uint32(f.ID), TtyInfoId: proto.Uint32(id), Flags: proto.Uint32(f.Flags), Fown: own, RegfId: proto.Uint32(reg.ID)}}, nil
}

// supported refuses terminals that no other can take the place of.
func (k *TTY) supported(env *kind.DumpEnv, f *scan.File, d *fd.FD) error {
	_, _, machine := ofMachine(f.Stat.Rdev)
	switch {
	case isHungUp(d):
		return kind.Unsupported(f, "the terminal was hung up, and Glis can't carry over one that is gone yet; redirect it to a file")
	case machine:
	case !isSlave(f.Stat.Rdev) && !isCTTY(f.Stat.Rdev):
		return kind.Unsupported(f, "Glis can't carry over this sort of terminal (device %d:%d) yet; have the program close it", unix.Major(f.Stat.Rdev), unix.Minor(f.Stat.Rdev))
	case !env.Options.ShellJob:
		return kind.Unsupported(f, "it is a terminal, and what is at its other end is not dumped; use --shell-job on dump and restore to let the terminal of whoever restores take its place, or name it by --external '%s' and hand in another one at the restore (--inherit-fd)", device{f.Stat.Rdev, f.Stat.Dev}.key())
	}
	for _, u := range f.Users {
		if lead := env.Tree.Task(u.Task.Stat.Session); lead != nil && lead.Stat.TTY != 0 && !isControl(f, lead) {
			return kind.Unsupported(f, "%v, the leader of the session that the terminal controls, is in the tree, and the terminal of whoever restores can't control that session; dump what was started in it instead, or name it by --external '%s' and hand in another one at the restore (--inherit-fd)", lead, device{f.Stat.Rdev, f.Stat.Dev}.key())
		}
	}
	if machine {
		return k.machineTerminal(env.Tree, f, d)
	}
	if !isSlave(f.Stat.Rdev) {
		return nil
	}
	if k.pts != nil && k.pts.Stat.Rdev != f.Stat.Rdev {
		return kind.Unsupported(f, "the tree has another terminal, too (%s), and there is one only to take their place; redirect one of them to a file", k.pts.Link)
	}
	k.pts = f
	return nil
}

// dumpInfo writes the terminal's entry when it is met first, and returns its
// id.
func (k *TTY) dumpInfo(env *kind.DumpEnv, f *scan.File, d *fd.FD) (uint32, error) {
	index, typ := uint32(indexCTTY), tty.TtyType_CTTY
	if n, t, ok := ofMachine(f.Stat.Rdev); ok {
		index, typ = n, t
	}
	if isSlave(f.Stat.Rdev) {
		n, err := strconv.ParseUint(path.Base(f.Link), 10, 20)
		if err != nil {
			return 0, kind.Unsupported(f, "its name does not end in the number of a terminal; it was hung up, or comes from another /dev/pts")
		}
		index, typ = uint32(n), tty.TtyType_PTY
	}
	id := index << 1
	if k.infos[id] != nil {
		return id, nil
	}
	e, err := ttyInfo(f, d)
	if err != nil {
		return 0, err
	}
	e.Id, e.Type = proto.Uint32(id), typ.Enum()
	if typ == tty.TtyType_PTY {
		e.Pty = &tty.TtyPtyEntry{Index: proto.Uint32(index)}
	}
	if k.infos == nil {
		k.infos = map[uint32]*tty.TtyInfoEntry{}
	}
	k.infos[id] = e
	return id, env.Images.Put(image.TTYInfo, e, nil)
}

// ttyInfo reads the settings of a terminal.
func ttyInfo(f *scan.File, d *fd.FD) (*tty.TtyInfoEntry, error) {
	if err := plainDiscipline(f, d); err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(d.Int(), unix.TCGETS)
	if errors.Is(err, unix.EIO) {
		return nil, kind.Unsupported(f, "the terminal was hung up, and Glis can't carry over one that is gone yet; redirect it to a file")
	}
	if err != nil {
		return nil, fmt.Errorf("%v: read its settings: %w", f, err)
	}
	locked, err := unix.IoctlGetTermios(d.Int(), unix.TIOCGLCKTRMIOS)
	if err != nil {
		return nil, fmt.Errorf("%v: read its locked settings: %w", f, err)
	}
	win, err := unix.IoctlGetWinsize(d.Int(), unix.TIOCGWINSZ)
	if err != nil {
		return nil, fmt.Errorf("%v: read its size: %w", f, err)
	}
	e := &tty.TtyInfoEntry{
		Locked: proto.Bool(false), Exclusive: proto.Bool(false), PacketMode: proto.Bool(false),
		Sid: proto.Uint32(0), Pgrp: proto.Uint32(0), Rdev: proto.Uint32(uint32(f.Stat.Rdev)), Dev: proto.Uint32(uint32(f.Stat.Dev)),
		Uid: proto.Uint32(f.Stat.UID), Gid: proto.Uint32(f.Stat.GID),
		Termios: packTermios(t), TermiosLocked: packTermios(locked),
		Winsize: &tty.WinsizeEntry{WsRow: proto.Uint32(uint32(win.Row)), WsCol: proto.Uint32(uint32(win.Col)), WsXpixel: proto.Uint32(uint32(win.Xpixel)), WsYpixel: proto.Uint32(uint32(win.Ypixel))},
	}
	for _, u := range f.Users {
		if s := &u.Task.Stat; s.TTY == uint32(f.Stat.Rdev) || isCTTY(f.Stat.Rdev) && s.TTY != 0 {
			*e.Sid, *e.Pgrp = uint32(s.Session), uint32(max(s.Tpgid, 0))
		}
	}
	return e, nil
}
