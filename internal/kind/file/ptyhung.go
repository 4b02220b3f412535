package file

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// The slave of a pseudo-terminal whose master was closed is hung up: reads end,
// all else fails, and nothing but its number is left of it. It comes back as it
// came about: a new terminal's slaves are opened, and the master is closed.

// isHungUp tells whether a terminal was hung up.
func isHungUp(d *fd.FD) bool {
	_, err := unix.IoctlGetTermios(d.Int(), unix.TCGETS)
	return errors.Is(err, unix.EIO)
}

// dumpHungUp dumps a slave that was hung up. CRIU leaves out the settings, too.
func (k *TTY) dumpHungUp(env *kind.DumpEnv, f *scan.File, d *fd.FD) (*fdinfo.FileEntry, error) {
	own, err := readOwner(env, f, d)
	if err != nil {
		return nil, err
	}
	index := unix.Minor(f.Stat.Rdev)
	id := index << 1
	if k.infos[id] == nil {
		e := &tty.TtyInfoEntry{
			Id: &id, Type: tty.TtyType_PTY.Enum(), Pty: &tty.TtyPtyEntry{Index: &index},
			Locked: proto.Bool(false), Exclusive: proto.Bool(false), PacketMode: proto.Bool(false),
			Sid: proto.Uint32(0), Pgrp: proto.Uint32(0), Rdev: proto.Uint32(uint32(f.Stat.Rdev)), Dev: proto.Uint32(uint32(f.Stat.Dev)),
			Uid: proto.Uint32(f.Stat.UID), Gid: proto.Uint32(f.Stat.GID),
		}
		putVarint(e, ttyMode, uint64(f.Stat.Mode&0o7777))
		k.mark(e)
		if err := env.Images.Put(image.TTYInfo, e, nil); err != nil {
			return nil, err
		}
	}
	reg, err := env.Files.Linked(f.Task, f.Path(), f.Flags)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", f, err)
	}
	return &fdinfo.FileEntry{Tty: &tty.TtyFileEntry{Id: proto.Uint32(f.ID), TtyInfoId: &id, Flags: proto.Uint32(f.Flags), Fown: own, RegfId: proto.Uint32(reg.ID)}}, nil
}

// hungSet is a terminal of which there are slaves that were hung up.
type hungSet struct {
	pty   ptySet
	nodes []*hungNode
	made  bool
}

// hungNode is one file description of such a slave.
type hungNode struct {
	base
	set *hungSet
	own *fd.FD // until it is asked for
}

// planHungUp plans a slave that was hung up.
func (k *TTY) planHungUp(b base, info *tty.TtyInfoEntry, path plan.ID) (plan.Node, error) {
	index := info.GetPty().GetIndex()
	if info.GetType() != tty.TtyType_PTY || index >= maxPTY || info.GetId() != index<<1 || k.infos[info.GetId()|1] != nil {
		return nil, fmt.Errorf("a terminal that was hung up, but is no slave without a master (%#x): it can't be", info.GetId())
	}
	if k.hung == nil {
		k.hung = map[uint32]*hungSet{}
	}
	s := k.hung[index]
	if s == nil {
		s = &hungSet{pty: ptySet{index: index, info: info, owner: info, ptmx: "/dev/ptmx", path: path}}
		k.hung[index] = s
	}
	n := &hungNode{base: b, set: s}
	s.nodes = append(s.nodes, n)
	return n, nil
}

// String implements plan.Node.
func (n *hungNode) String() string {
	return fmt.Sprintf("terminal %#x: %s, hung up", n.id, n.set.pty.name())
}

// Check implements plan.Checked.
func (n *hungNode) Check(*plan.CheckEnv) error { return n.set.pty.free() }

// Create implements plan.Node.
func (n *hungNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	if !n.set.made {
		n.set.made = true
		if err := n.set.create(); err != nil {
			return nil, fmt.Errorf("%s, to be hung up: %w", n.set.pty.name(), err)
		}
	}
	d := n.own
	n.own = nil
	if d == nil {
		return nil, fmt.Errorf("%s: it was not opened before it was hung up", n.set.pty.name())
	}
	return d, nil
}

// create opens all slaves, and closes their master.
func (s *hungSet) create() error {
	var err error
	if s.pty.hold, err = s.pty.numbered(); err != nil {
		return err
	}
	defer func() {
		s.pty.hold.Close()
		s.pty.hold = nil
	}()
	if err := unix.IoctlSetPointerInt(s.pty.hold.Int(), unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock it: %w", err)
	}
	if err := s.pty.setInode(); err != nil {
		return err
	}
	for _, n := range s.nodes {
		if n.own, err = s.pty.slaveAs(n.flags); err != nil {
			return err
		}
	}
	return nil
}

// Drop implements plan.Dropper.
func (n *hungNode) Drop() {
	if n.own != nil {
		n.own.Close()
		n.own = nil
	}
}
