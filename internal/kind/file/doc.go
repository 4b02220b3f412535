// Package file is the kinds of open files that are not sockets: how each is
// read from a frozen task and made again. A value of a kind is for one dump or
// one restore, since some keep what they learnt.
package file

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// settable are the flags that fcntl(2) can change on an open file (SETFL_MASK
// of fs/fcntl.c). O_ASYNC has to wait until the owner is known, see base.Fill.
const settable = unix.O_APPEND | unix.O_NONBLOCK | unix.O_DIRECT | unix.O_NOATIME

// base is what the nodes of this package have in common.
type base struct {
	id    plan.ID
	flags uint32 // O_*, as in the image
	owner owner
}

// ID implements plan.Node.
func (b *base) ID() plan.ID { return b.id }

// Needs implements plan.Node: nothing, unless a node says otherwise.
func (b *base) Needs() []plan.ID { return nil }

// FileFlags implements plan.Async.
func (b *base) FileFlags() uint32 { return b.flags }

// owned tells whether the file has an owner.
func (b *base) owned() bool { return b.owner.who.PID != 0 }

// Fill implements plan.Filler: the owner is a process, so it is set only when
// all processes are there.
func (b *base) Fill(_ context.Context, _ *plan.Env, own *fd.FD) error {
	if err := b.owner.set(own); err != nil {
		return fmt.Errorf("file %#x: %w", b.id, err)
	}
	if b.flags&unix.O_ASYNC == 0 {
		return nil
	}
	return b.setFlags(own, settable|unix.O_ASYNC)
}

// setFlags gives the file those of its flags that are in mask.
func (b *base) setFlags(own *fd.FD, mask uint32) error {
	if _, err := unix.FcntlInt(uintptr(own.Int()), unix.F_SETFL, int(b.flags&mask)); err != nil {
		return fmt.Errorf("file %#x: set flags %#o: %w", b.id, b.flags&mask, err)
	}
	return nil
}

// closedOnExec returns what open opens without a flag that says so, since that would stay.
// No program that is executed meanwhile, by whoever this is a library of, gets it.
func closedOnExec(open func() (int, error)) (*fd.FD, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n, err := open()
	if err != nil {
		return nil, err
	}
	unix.CloseOnExec(n)
	return fd.New(n), nil
}

// ready gives a new file its flags and returns it, or closes it.
func (b *base) ready(d *fd.FD) (*fd.FD, error) {
	if err := b.setFlags(d, settable); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// access is the O_ACCMODE part of flags.
func access(flags uint32) uint32 { return flags & unix.O_ACCMODE }

// reopen opens the file behind one of the engine's descriptors a second time,
// as a file description of its own. It works for pipes too.
func reopen(d *fd.FD, flags uint32) (*fd.FD, error) {
	flags &= ^uint32(unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC | unix.O_NOFOLLOW)
	n, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", d.Int()), int(flags)|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open it again with flags %#o: %w", flags, err)
	}
	return fd.New(n), nil
}
