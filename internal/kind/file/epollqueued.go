package file

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
// message, and returns that with its numbers. If none has all of it, the rest is of
// others, or in messages as well.
func queued(env *kind.DumpEnv, f *scan.File) ([]*eventpoll.EventpollTfdEntry, *scan.Task, error) {
	var first error
	for _, all := range [][]*scan.File{nil, env.Tree.Files} {
		first = nil
		for _, t := range env.Tree.Tasks {
			if t.Zombie {
				continue
			}
			w := watched{file: f, own: t, pid: f.Task.Via(), fd: int(f.FD), all: all}
			out, err := w.watches()
			if err == nil || !errors.Is(err, kind.ErrUnsupported) {
				return out, t, err
			}
			if first == nil {
				first = err
			}
		}
	}
	return nil, nil, first
}

// Check implements plan.Checked.
func (n *epollNode) Check(*plan.CheckEnv) error {
	for _, m := range n.members {
		if m.file != 0 && n.plan.Node(m.file) == nil {
			return fmt.Errorf("epoll %#x watches file %#x, which is missing", n.id, m.file)
		}
	}
	if len(n.plan.Users(n.id)) > 0 {
		return nil
	}
	_, err := n.watched()
	return err
}

// others returns those members that the first task which has the file does not have.
func (n *epollNode) others() (ids []plan.ID, all []*member) {
	for i := range n.members {
		if m := &n.members[i]; m.file != 0 {
			ids, all = append(ids, m.file), append(all, m)
		}
	}
	return ids, all
}

// stuffed returns the members that the engine adds, and which files they are.
func (n *epollNode) stuffed() ([]plan.ID, []*member) {
	if len(n.plan.Users(n.id)) > 0 {
		return n.others()
	}
	ids, err := n.watched()
	if err != nil { // which Check has said
		return nil, nil
	}
	all := make([]*member, 0, len(ids))
	for i := range ids {
		all = append(all, &n.members[i])
	}
	return ids, all
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
			if m.file != 0 {
				ids = append(ids, m.file)
			} else if id, ok := at[t][m.at]; ok {
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
	if len(n.members) == 0 {
		return nil
	}
	ids, _ := n.stuffed()
	return ids
}

// Stuff implements plan.Stuffed: it adds what is watched by an epoll file that no
// task has, or what is not had by the one that has it.
func (n *epollNode) Stuff(_ context.Context, env *plan.Env) error {
	own, err := env.File(n.id)
	if err != nil {
		return err
	}
	all := make([]fd.Watched, 0, len(n.members))
	ids, members := n.stuffed()
	for i, id := range ids {
		f, err := env.File(id)
		if err != nil {
			return err
		}
		m := members[i]
		all = append(all, fd.Watched{File: f, Number: m.number, Events: m.events, Data: m.data})
	}
	return fd.WatchAll(own, all)
}
