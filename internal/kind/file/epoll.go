package file

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/eventpoll"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// Epoll is epoll(7).
//
// What an epoll file watches is named by a file and by the number it had when
// it was added. The image has numbers of one task, the first of the tree that
// has the epoll file, as with CRIU: there each member is added again.
type Epoll struct{}

// Type implements kind.File.
func (*Epoll) Type() fdinfo.FdTypes { return fdinfo.FdTypes_EVENTPOLL }

// Match implements kind.File.
func (*Epoll) Match(f *scan.File) bool { return f.Link == "anon_inode:[eventpoll]" }

// Dump implements kind.File.
func (*Epoll) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	busy, err := unix.IoctlGetInt(d.Int(), linux.EPIOCGPARAMS)
	if err != nil && !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EOPNOTSUPP) { // before Linux 6.9, without CONFIG_NET_RX_BUSY_POLL
		return nil, fmt.Errorf("%v: EPIOCGPARAMS: %w", f, err)
	}
	if busy != 0 {
		return nil, kind.Unsupported(f, "it polls its sockets busily (EPIOCSPARAMS), which Glis can't carry over yet")
	}
	own, err := readOwner(env, f, d)
	if err != nil {
		return nil, err
	}
	e := &eventpoll.EventpollFileEntry{Id: proto.Uint32(f.ID), Flags: proto.Uint32(f.Flags), Fown: own}
	var of *scan.Task
	if e.Tfd, of, err = members(env, f); err != nil {
		return nil, err
	}
	if len(f.Users) == 0 {
		putVarint(e, epollTask, uint64(of.VPID))
	}
	return &fdinfo.FileEntry{Epfd: e}, nil
}

// master is the first task of the tree that has a file.
func master(f *scan.File) (scan.User, error) {
	if len(f.Users) == 0 {
		return scan.User{}, kind.Unsupported(f, "no task of the tree has it as a descriptor, it is only on its way in a socket's queue, which isn't supported yet; let the process receive it first")
	}
	return f.Users[0], nil
}

// members returns what an epoll file watches, by numbers of a task: of the first
// that has the epoll file, if one does.
func members(env *kind.DumpEnv, f *scan.File) ([]*eventpoll.EventpollTfdEntry, *scan.Task, error) {
	if len(f.Users) == 0 {
		return queued(env, f)
	}
	u := f.Users[0]
	w := watched{file: f, own: u.Task, pid: u.Task.Via(), fd: int(u.FD)}
	if env != nil {
		w.all = env.Tree.Files
	}
	if n := len(f.Info().Epoll); n >= manyMembers {
		w.seen = see(u.Task, u.FD, n)
	}
	out, err := w.watches()
	return out, u.Task, err
}

// watches returns what an epoll file watches, by numbers of a task.
func (w *watched) watches() ([]*eventpoll.EventpollTfdEntry, error) {
	w.nth, w.used = map[int32]uint32{}, map[int32]bool{}
	f := w.file
	out := make([]*eventpoll.EventpollTfdEntry, 0, len(f.Info().Epoll))
	for i := range f.Info().Epoll {
		m := &f.Info().Epoll[i]
		n, err := w.find(m)
		var other *scan.File
		if errors.Is(err, kind.ErrUnsupported) {
			n, other, err = w.elsewhere(m, err)
		}
		if err != nil {
			return nil, err
		}
		e := &eventpoll.EventpollTfdEntry{
			Id: proto.Uint32(0), Tfd: proto.Uint32(uint32(n)), Events: proto.Uint32(m.Events), Data: proto.Uint64(m.Data),
			Dev: proto.Uint32(m.Dev), Inode: proto.Uint64(m.Ino), Pos: proto.Uint64(uint64(m.Pos)),
		}
		if n != m.FD {
			putVarint(e, tfdNumber, uint64(m.FD))
		}
		if other != nil {
			putVarint(e, tfdFile, uint64(other.ID))
		}
		out = append(out, e)
	}
	return out, nil
}

// watched finds the members of one epoll file among the descriptors of own.
type watched struct {
	file *scan.File
	own  *scan.Task
	pid  int              // of who has the epoll file
	fd   int              // as which descriptor
	all  []*scan.File     // where else to look
	nth  map[int32]uint32 // how many members were added under this number so far
	used map[int32]bool   // numbers that stand for a member
	seen *seen            // of own; nil: the kernel is asked
}

// find returns a number under which the task has a member: mostly its own. CRIU
// can't restore two members under one number, so that is the last choice.
func (w *watched) find(m *proc.EpollTarget) (int32, error) {
	nth := w.nth[m.FD]
	w.nth[m.FD]++
	if same, err := w.is(m.FD, m, nth); same || err != nil {
		w.used[m.FD] = true
		return m.FD, err
	}
	found := int32(-1)
	for _, r := range w.own.FDs {
		same, err := w.is(r.FD, m, nth)
		if err != nil {
			return 0, err
		}
		if same && (found < 0 || !w.used[r.FD]) {
			found = r.FD
		}
	}
	if found < 0 {
		return 0, kind.Unsupported(w.file, "it watches what was descriptor %d (inode %d), which %v has closed or replaced while somebody else, outside of the tree or in a message, still has it; remove it from the epoll file before closing it", m.FD, m.Ino, w.own)
	}
	w.used[found] = true
	return found, nil
}

// nobody is a number that no descriptor has (fs.nr_open), for a member that own doesn't
// have: CRIU, which has to add it by its number, says so.
const nobody = maxFD

// elsewhere finds a member among the files that others have, and those that are in
// messages.
func (w *watched) elsewhere(m *proc.EpollTarget, missing error) (int32, *scan.File, error) {
	for _, f := range w.all {
		if f.FD < 0 || f.Flags&unix.O_PATH != 0 {
			continue
		}
		same, err := w.isFile(f, m, w.nth[m.FD]-1)
		if err != nil {
			return 0, nil, err
		}
		if same {
			return nobody, f, nil
		}
	}
	return 0, nil, missing
}

// isFile tells whether a file is the member. Of one that is dumped in another's place it is
// known who watches that, unless the epoll file is such a one, too.
func (w *watched) isFile(f *scan.File, m *proc.EpollTarget, nth uint32) (bool, error) {
	switch {
	case f.Hangs == nil:
		return w.same(f.Task, f.FD, &f.Stat, m, nth)
	case w.file.Hangs == nil:
		return slices.Contains(f.Hangs.Watched, scan.Watched{By: w.file, Number: m.FD, Nth: nth}), nil
	}
	return w.compare(f.Task, f.FD, m, nth)
}

// is tells whether descriptor n is the member. A socket has an inode of its
// own, so that there is no need to ask the kernel, which has to search.
func (w *watched) is(n int32, m *proc.EpollTarget, nth uint32) (bool, error) {
	t := w.own.Find(n)
	if t == nil {
		return false, nil
	}
	return w.same(w.own, n, &t.Stat, m, nth)
}

func (w *watched) same(has *scan.Task, n int32, st *scan.Stat, m *proc.EpollTarget, nth uint32) (bool, error) {
	if st.Ino != m.Ino {
		return false, nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return true, nil
	}
	return w.compare(has, n, m, nth)
}

// compare tells whether descriptor n of a task is the member.
func (w *watched) compare(has *scan.Task, n int32, m *proc.EpollTarget, nth uint32) (bool, error) {
	if w.seen != nil && has == w.own {
		return w.seen.is(n, m.FD, nth), nil
	}
	same, err := linux.KcmpEpoll(has.Via(), int(n), w.pid, w.fd, m.FD, nth)
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%v: compare what it watches with descriptor %d (kcmp): %w", w.file, n, err)
	}
	return same, nil
}
