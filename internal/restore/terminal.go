package restore

import (
	"context"

	"golang.org/x/sys/unix"

	facets "glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// terminal returns the terminal that controls the session which a task leads,
// or nil.
func (r *restore) terminal(t *task) (plan.Terminal, uint32) {
	if t.sid != t.pid {
		return nil, 0
	}
	return r.terminalOf(t.sid)
}

// terminalOf returns the terminal that controls a session, and the group in its foreground.
func (r *restore) terminalOf(sid uint32) (plan.Terminal, uint32) {
	for _, n := range r.files.nodes {
		if m, ok := n.(plan.Terminal); ok {
			if its, group := m.Session(); its == sid {
				return m, group
			}
		}
	}
	return nil, 0
}

// takeTerminal has the leader of a session take its controlling terminal,
// before it has the children that inherit it.
func (r *restore) takeTerminal(ctx context.Context, t *task) error {
	m, _ := r.terminal(t)
	if m == nil {
		return nil
	}
	b := t.live.arena.Batch(t.live.thread)
	for _, need := range m.Needs() {
		if _, err := r.files.get(ctx, need); err != nil {
			return err
		}
	}
	err := r.withTerminal(b, t, m, func(n uint64) {
		b.Call("ioctl TIOCSCTTY", unix.SYS_IOCTL, n, unix.TIOCSCTTY, 0)
	})
	if err == nil {
		err = b.Run()
	}
	t.live.arena.Reset()
	return err
}

// foreground queues what brings a group to the foreground of the terminal that
// a task has taken. All groups exist by now.
func (r *restore) foreground(b *remote.Batch, t *task) error {
	if t.sid != t.pid {
		return r.giveUp(b, t)
	}
	m, group := r.terminal(t)
	if m == nil || group == 0 {
		return nil
	}
	return r.withTerminal(b, t, m, func(n uint64) {
		number := b.Bytes([]byte{byte(group), byte(group >> 8), byte(group >> 16), byte(group >> 24)})
		b.Call("ioctl TIOCSPGRP", unix.SYS_IOCTL, n, unix.TIOCSPGRP, uint64(number))
	})
}

// giveUp queues that a task hasn't the terminal that its session has, if it had not. Its children
// are there by now, and those that had it have it.
func (r *restore) giveUp(b *remote.Batch, t *task) error {
	if !facets.GaveUp(t.images[0].extra) {
		return nil
	}
	m, _ := r.terminalOf(t.sid)
	if m == nil {
		return nil
	}
	return r.withTerminal(b, t, m, func(n uint64) {
		b.Call("ioctl TIOCNOTTY", unix.SYS_IOCTL, n, unix.TIOCNOTTY, 0)
	})
}

// withTerminal lends a task its terminal for the calls that do queues.
func (r *restore) withTerminal(b *remote.Batch, t *task, m plan.Terminal, do func(n uint64)) error {
	d, err := m.Slave(r.env)
	if err != nil {
		return err
	}
	defer d.Close()
	n := t.live.table.alloc()
	if err := r.transport.send(b, []int{d.Int()}, unix.MSG_CMSG_CLOEXEC); err != nil {
		return err
	}
	do(uint64(n))
	b.Call("close", unix.SYS_CLOSE, uint64(n))
	t.live.table.free(n)
	return nil
}
