package file

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/eventpoll"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// An epoll file that no task has, but that is in a message, belongs to no table of
// descriptors. What it watches it knows by numbers all the same: they are those of
// a task that has all of it, and the engine adds it under them.

// queued finds a task that has what an epoll file watches which is only in a
// message, and returns that with its numbers.
func queued(env *kind.DumpEnv, f *scan.File) ([]*eventpoll.EventpollTfdEntry, *scan.Task, error) {
	var first error
	for _, t := range env.Tree.Tasks {
		if t.Zombie {
			continue
		}
		out, err := watches(f, t, f.Task.Via(), int(f.FD))
		if err == nil || !errors.Is(err, kind.ErrUnsupported) {
			return out, t, err
		}
		if first == nil {
			first = err
		}
	}
	return nil, nil, first
}

// Check implements plan.Checked.
func (n *epollNode) Check(*plan.CheckEnv) error {
	if len(n.plan.Users(n.id)) > 0 {
		return nil
	}
	_, err := n.watched()
	return err
}

// watched returns the files that an epoll file watches which no task has.
func (n *epollNode) watched() ([]plan.ID, error) {
	nodes, err := n.plan.Nodes()
	if err != nil {
		return nil, err
	}
	at := map[uint32]map[int32]plan.ID{} // by task and number
	for _, o := range nodes {
		for _, u := range n.plan.Users(o.ID()) {
			if at[u.Task] == nil {
				at[u.Task] = map[int32]plan.ID{}
			}
			at[u.Task][u.FD] = o.ID()
		}
	}
	tasks := []uint32{n.task}
	if n.task == 0 { // criu's images don't tell
		tasks = tasks[:0]
		for t := range at {
			tasks = append(tasks, t)
		}
		slices.Sort(tasks)
	}
	for _, t := range tasks {
		ids := make([]plan.ID, 0, len(n.members))
		for _, m := range n.members {
			if id, ok := at[t][m.at]; ok {
				ids = append(ids, id)
			}
		}
		if len(ids) == len(n.members) {
			return ids, nil
		}
	}
	return nil, fmt.Errorf("epoll %#x is in a message, and no task has all that it watches", n.id)
}

// Held implements plan.Stuffed.
func (n *epollNode) Held() []plan.ID {
	if len(n.members) == 0 || len(n.plan.Users(n.id)) > 0 {
		return nil
	}
	ids, err := n.watched()
	if err != nil { // which Check has said
		return nil
	}
	return ids
}

// Stuff implements plan.Stuffed: it adds what is watched by an epoll file that no
// task has.
func (n *epollNode) Stuff(_ context.Context, env *plan.Env) error {
	own, err := env.File(n.id)
	if err != nil {
		return err
	}
	var files []*fd.FD
	for _, id := range n.Held() {
		f, err := env.File(id)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	done := make(chan error, 1)
	go n.addAll(own, files, done)
	return <-done
}

// addAll adds members on a thread that ends with it and has a table of descriptors
// of its own, so that each can have its number there. It is not the process's first
// thread, which does not end.
func (n *epollNode) addAll(own *fd.FD, files []*fd.FD, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		again := make(chan struct{})
		go func() {
			defer close(again)
			n.addAll(own, files, done)
		}()
		<-again
		runtime.UnlockOSThread()
		return
	}
	if err := unix.Unshare(unix.CLONE_FILES); err != nil {
		done <- fmt.Errorf("unshare(CLONE_FILES): %w", err)
		return
	}
	done <- n.addHere(own.Int(), files)
}

// addHere adds members in a table of descriptors that nobody else uses.
func (n *epollNode) addHere(own int, files []*fd.FD) error {
	above := own // no number of a member's
	for _, m := range n.members {
		above = max(above, int(m.number))
	}
	copies := make([]int, 0, len(files)+1)
	for _, f := range append([]int{own}, numbers(files)...) {
		d, err := unix.FcntlInt(uintptr(f), unix.F_DUPFD_CLOEXEC, above+1)
		if err != nil {
			return fmt.Errorf("duplicate a descriptor above %d: %w", above, err)
		}
		copies = append(copies, d)
	}
	for i, m := range n.members {
		if err := unix.Dup3(copies[i+1], int(m.number), unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("dup3 to %d: %w", m.number, err)
		}
		e := unix.EpollEvent{Events: m.events, Fd: int32(m.data), Pad: int32(m.data >> 32)}
		if err := unix.EpollCtl(copies[0], unix.EPOLL_CTL_ADD, int(m.number), &e); err != nil {
			return fmt.Errorf("epoll_ctl(ADD, %d): %w", m.number, err)
		}
	}
	return nil
}

func numbers(files []*fd.FD) []int {
	out := make([]int, len(files))
	for i, f := range files {
		out[i] = f.Int()
	}
	return out
}
