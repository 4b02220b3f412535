package file

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/options"
)

// A terminal whose other end is outside of the tree, as that of a container, can be
// named by its device and its file system (--external tty[RDEV:DEV], in hexadecimal
// digits). Another one that the user hands in takes its place at the restore
// (--inherit-fd fd[N]:tty[RDEV:DEV]), with its settings and size, also as the one that
// controls a session.

// criu's numbers for them are those behind firstOutside.
const (
	firstOutside = 1012
	mostOutside  = 64
)

// device is a terminal, and the file system that it was opened on.
type device struct{ rdev, dev uint64 }

// key is what criu calls it.
func (d device) key() string { return fmt.Sprintf("tty[%x:%x]", d.rdev, d.dev) }

// given tells whether the user has named a terminal, and which it is: a descriptor of
// /dev/tty is the one that controls who has it.
func given(env *kind.DumpEnv, f *scan.File) (device, bool) {
	for _, e := range env.Options.External {
		if e.Kind != "tty" {
			continue
		}
		rdev, dev, _ := strings.Cut(e.ID, ":")
		r, err1 := strconv.ParseUint(rdev, 16, 32)
		v, err2 := strconv.ParseUint(dev, 16, 32)
		if err1 != nil || err2 != nil {
			continue // what it means is refused as if it had not been named
		}
		controls := func(u scan.User) bool { return u.Task.Stat.TTY == uint32(r) }
		if f.Stat.Rdev == r && f.Stat.Dev == v || isCTTY(f.Stat.Rdev) && slices.ContainsFunc(f.Users, controls) {
			return device{r, v}, true
		}
	}
	return device{}, false
}

// dumpOutside dumps a file of such a terminal.
func (k *TTY) dumpOutside(env *kind.DumpEnv, f *scan.File, d *fd.FD, which device) (*fdinfo.FileEntry, error) {
	own, err := readOwner(env, f, d)
	if err != nil {
		return nil, err
	}
	id := k.outside[which]
	if id == 0 {
		if len(k.outside) == mostOutside {
			return nil, kind.Unsupported(f, "criu's format has room for %d terminals from outside; redirect some to files", mostOutside)
		}
		id = uint32(firstOutside+1+len(k.outside)) << 1
		if err := k.outsideInfo(env, f, d, which, id); err != nil {
			return nil, err
		}
	}
	return &fdinfo.FileEntry{Tty: &tty.TtyFileEntry{Id: proto.Uint32(f.ID), TtyInfoId: proto.Uint32(id), Flags: proto.Uint32(f.Flags), Fown: own}}, nil
}

// outsideInfo writes the terminal's own entry.
func (k *TTY) outsideInfo(env *kind.DumpEnv, f *scan.File, d *fd.FD, which device, id uint32) error {
	e, err := ttyInfo(f, d)
	if err != nil {
		return err
	}
	e.Id, e.Type = proto.Uint32(id), tty.TtyType_EXT_TTY.Enum()
	*e.Rdev, *e.Dev = uint32(which.rdev), uint32(which.dev)
	*e.Sid, *e.Pgrp = 0, 0
	for _, t := range env.Tree.Tasks {
		if t.Stat.TTY == uint32(which.rdev) {
			*e.Sid = uint32(t.Stat.Session)
			if t.Stat.Tpgid == int32(t.Stat.Pgrp) {
				*e.Pgrp = uint32(t.Stat.Pgrp)
			}
		}
	}
	if k.outside == nil {
		k.outside = map[device]uint32{}
	}
	k.outside[which] = id
	return env.Images.Put(image.TTYInfo, e, nil)
}

// planOutside plans a terminal that the user hands in; nil if it is none.
func (k *TTY) planOutside(p *plan.Plan, b base, info *tty.TtyInfoEntry) (plan.Node, error) {
	if info.GetType() == tty.TtyType_CTTY {
		info = k.outsideOf(info)
	}
	if info.GetType() != tty.TtyType_EXT_TTY {
		return nil, nil
	}
	key := device{uint64(info.GetRdev()), uint64(info.GetDev())}.key()
	g := p.Inherited(key)
	if g == nil {
		return nil, fmt.Errorf("the terminal was outside of the checkpoint (--external); hand in another one: --inherit-fd 'fd[N]:%s'", key)
	}
	n := &outsideTTY{base: b, info: info, given: *g, first: !k.handed[info]}
	if k.handed == nil {
		k.handed = map[*tty.TtyInfoEntry]bool{}
	}
	k.handed[info] = true
	return n, nil
}

// outsideOf returns which of them /dev/tty was, nil: none.
func (k *TTY) outsideOf(ctty *tty.TtyInfoEntry) *tty.TtyInfoEntry {
	for _, info := range k.infos {
		if info.GetType() == tty.TtyType_EXT_TTY && info.GetSid() != 0 && info.GetSid() == ctty.GetSid() && len(info.GetTermios().GetCCc()) == controlChars {
			return info
		}
	}
	return nil
}

// outsideTTY is a file of such a terminal.
type outsideTTY struct {
	base
	info  *tty.TtyInfoEntry
	given options.InheritFD
	first bool // it sets the terminal up for all
}

// String implements plan.Node.
func (n *outsideTTY) String() string {
	return fmt.Sprintf("terminal %#x: %s, which is descriptor %d of Glis (--inherit-fd), controls session %d", n.id, n.given.Key, n.given.FD, n.info.GetSid())
}

// Check implements plan.Checked.
func (n *outsideTTY) Check(*plan.CheckEnv) error {
	_, err := unix.IoctlGetTermios(n.given.FD, unix.TCGETS)
	switch {
	case errors.Is(err, unix.EBADF):
		return fmt.Errorf("--inherit-fd fd[%d]:%s: Glis was started without descriptor %d: %w", n.given.FD, n.given.Key, n.given.FD, err)
	case err != nil:
		return fmt.Errorf("--inherit-fd fd[%d]:%s: descriptor %d is no terminal: %w", n.given.FD, n.given.Key, n.given.FD, err)
	}
	return nil
}

// Create implements plan.Node. It is opened anew: flags would be the caller's, too.
func (n *outsideTTY) Create(context.Context, *plan.Env) (*fd.FD, error) {
	return n.open(n.flags &^ (notForOpen | unix.O_NOFOLLOW))
}

func (n *outsideTTY) open(flags uint32) (*fd.FD, error) {
	num, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", n.given.FD), int(flags)|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("terminal %#x: open descriptor %d of Glis: %w", n.id, n.given.FD, err)
	}
	return fd.New(num), nil
}

// Fill implements plan.Filler.
func (n *outsideTTY) Fill(ctx context.Context, env *plan.Env, own *fd.FD) error {
	if err := n.base.Fill(ctx, env, own); err != nil || !n.first {
		return err
	}
	return withoutTTOU(func() error {
		if err := unix.IoctlSetTermios(own.Int(), unix.TCSETS, unpackTermios(n.info.GetTermios())); err != nil {
			return fmt.Errorf("terminal %#x: give it its settings: %w", n.id, err)
		}
		w := n.info.GetWinsize()
		size := &unix.Winsize{Row: uint16(w.GetWsRow()), Col: uint16(w.GetWsCol()), Xpixel: uint16(w.GetWsXpixel()), Ypixel: uint16(w.GetWsYpixel())}
		if err := unix.IoctlSetWinsize(own.Int(), unix.TIOCSWINSZ, size); err != nil {
			return fmt.Errorf("terminal %#x: give it its size: %w", n.id, err)
		}
		return nil
	})
}

// Session implements plan.Terminal.
func (n *outsideTTY) Session() (sid, group uint32) {
	if !n.first {
		return 0, 0
	}
	return n.info.GetSid(), n.info.GetPgrp()
}

// Slave implements plan.Terminal.
func (n *outsideTTY) Slave(*plan.Env) (*fd.FD, error) { return n.open(unix.O_RDWR | unix.O_NONBLOCK) }
