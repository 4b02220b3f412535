package file

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// Plan implements kind.File.
func (k *TTY) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetTty()
	if in == nil {
		return entryError(e, "a terminal without its entry")
	}
	k.plan = p
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	if k.infos == nil {
		if err := k.read(p.Source); err != nil {
			return err
		}
	}
	id := in.GetTtyInfoId()
	info := k.infos[id]
	switch {
	case info == nil:
		return entryError(e, "a terminal whose settings (%#x) are missing in tty-info.img", id)
	case info.GetTermios() == nil:
		n, err := k.planHungUp(b, info, plan.ID(in.GetRegfId()))
		if err != nil {
			return entryError(e, "%v", err)
		}
		return p.Add(n)
	case len(info.GetTermios().GetCCc()) != controlChars:
		return entryError(e, "a terminal with %d control characters: there are %d", len(info.GetTermios().GetCCc()), controlChars)
	}
	n, err := k.planPair(p, e, b)
	if n == nil && err == nil {
		n, err = k.planMachine(e, b, info)
	}
	if n == nil && err == nil {
		n, err = k.planOutside(p, b, info)
	}
	if err != nil {
		return entryError(e, "%v", err)
	}
	if n != nil {
		return p.Add(n)
	}
	return k.planOther(p, e, b, info)
}

// planOther plans a terminal that the caller's own takes the place of.
func (k *TTY) planOther(p *plan.Plan, e *fdinfo.FileEntry, b base, info *tty.TtyInfoEntry) error {
	switch {
	case info.GetType() != tty.TtyType_PTY && info.GetType() != tty.TtyType_CTTY:
		return entryError(e, "a terminal of type %v, which Glis can't restore yet", info.GetType())
	case p.Options == nil || !p.Options.ShellJob:
		return entryError(e, "the terminal that the tree was started from; use --shell-job to let the present one take its place")
	}
	n := &ttyNode{base: b, info: info}
	if k.group != 0 && info.GetPgrp() == k.group {
		// The first to come sets the terminal up for all.
		n.group, k.group = k.group, 0
	}
	return p.Add(n)
}

// Planned implements kind.Planner.
func (k *TTY) Planned() error {
	for _, s := range k.sets {
		s.readMode(k.plan)
	}
	for _, s := range k.hung {
		s.pty.readMode(k.plan)
	}
	return k.checkPairs()
}

// read reads the terminals, and whether the tree was a job of its own.
func (k *TTY) read(src plan.Source) error {
	all, err := src.Entries(image.TTYInfo)
	if err != nil {
		return err
	}
	k.infos = make(map[uint32]*tty.TtyInfoEntry, len(all))
	for _, e := range all {
		m := e.Message.(*tty.TtyInfoEntry)
		k.infos[m.GetId()] = m
	}
	tree, err := src.Entries(image.PsTree)
	if err != nil || len(tree) == 0 {
		return err
	}
	if root := tree[0].Message.(*pstree.PstreeEntry); root.GetPgid() == root.GetPid() {
		k.group = root.GetPgid()
	}
	return nil
}

type ttyNode struct {
	base
	info  *tty.TtyInfoEntry
	group uint32 // to be brought to the foreground, 0: none
}

// String implements plan.Node.
func (n *ttyNode) String() string {
	s := fmt.Sprintf("terminal %#x: the caller's", n.id)
	if n.group != 0 {
		s += fmt.Sprintf(", group %d in the foreground", n.group)
	}
	return s
}

// Create implements plan.Node. The terminal is opened anew: to share the
// caller's file description would change its flags, too.
func (n *ttyNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	name := "/dev/tty"
	if n.info.GetType() == tty.TtyType_PTY {
		if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
			name = "/proc/self/fd/0"
		}
	}
	flags := int(n.flags&^(notForOpen|unix.O_NOFOLLOW)) | unix.O_NOCTTY | unix.O_CLOEXEC
	num, err := unix.Open(name, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("terminal %#x: open the caller's own (%s) in its place: %w; restore from a terminal, with it as the standard input", n.id, name, err)
	}
	return fd.New(num), nil
}

// Fill implements plan.Filler. A tree that was in the foreground comes back
// there, with the settings it had made.
func (n *ttyNode) Fill(ctx context.Context, env *plan.Env, own *fd.FD) error {
	if err := n.base.Fill(ctx, env, own); err != nil || n.group == 0 {
		return err
	}
	err := withoutTTOU(func() error {
		if err := unix.IoctlSetPointerInt(own.Int(), unix.TIOCSPGRP, int(n.group)); err != nil {
			return fmt.Errorf("bring group %d to the foreground: %w", n.group, err)
		}
		return unix.IoctlSetTermios(own.Int(), unix.TCSETS, unpackTermios(n.info.GetTermios()))
	})
	if err != nil {
		// The tree runs all the same, as a job in the background.
		env.Log.Warn("the terminal could not be set up", "file", n.id, "error", err)
	}
	return nil
}

// withoutTTOU runs f on a thread that the terminal won't stop for being in the
// background.
func withoutTTOU(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var set, old unix.Sigset_t
	set.Val[0] = 1 << (unix.SIGTTOU - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old); err != nil {
		return err
	}
	return errors.Join(f(), unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil))
}
