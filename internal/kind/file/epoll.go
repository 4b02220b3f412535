package file

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/eventpoll"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
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
	// Linux 6.9; before there is nothing to lose.
	if busy, err := unix.IoctlGetInt(d.Int(), linux.EPIOCGPARAMS); err == nil && busy != 0 {
		return nil, kind.Unsupported(f, "it polls its sockets busily (EPIOCSPARAMS), which Glis can't carry over yet")
	}
	own, err := readOwner(env, f, d)
	if err != nil {
		return nil, err
	}
	e := &eventpoll.EventpollFileEntry{Id: proto.Uint32(f.ID), Flags: proto.Uint32(f.Flags), Fown: own}
	if e.Tfd, err = members(f); err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Epfd: e}, nil
}

// master is the first task of the tree that has a file.
func master(f *scan.File) (scan.User, error) {
	if len(f.Users) == 0 {
		return scan.User{}, kind.Unsupported(f, "no task of the tree has it as a descriptor")
	}
	return f.Users[0], nil
}

// members returns what an epoll file watches.
func members(f *scan.File) ([]*eventpoll.EventpollTfdEntry, error) {
	own, err := master(f)
	if err != nil {
		return nil, err
	}
	w := watched{file: f, own: own, nth: map[int32]uint32{}, used: map[int32]bool{}}
	out := make([]*eventpoll.EventpollTfdEntry, 0, len(f.Info.Epoll))
	for i := range f.Info.Epoll {
		m := &f.Info.Epoll[i]
		n, err := w.find(m)
		if err != nil {
			return nil, err
		}
		out = append(out, &eventpoll.EventpollTfdEntry{
			Id: proto.Uint32(0), Tfd: proto.Uint32(uint32(n)), Events: proto.Uint32(m.Events), Data: proto.Uint64(m.Data),
			Dev: proto.Uint32(m.Dev), Inode: proto.Uint64(m.Ino), Pos: proto.Uint64(uint64(m.Pos)),
		})
	}
	return out, nil
}

// watched finds the members of one epoll file among the descriptors of own.
type watched struct {
	file *scan.File
	own  scan.User
	nth  map[int32]uint32 // how many members were added under this number so far
	used map[int32]bool   // numbers that members have in the image
}

// find returns a number under which the task has a member: mostly its own.
func (w *watched) find(m *proc.EpollTarget) (int32, error) {
	nth := w.nth[m.FD]
	w.nth[m.FD]++
	if ok, err := w.take(m.FD, m, nth); ok || err != nil {
		return m.FD, err
	}
	for _, r := range w.own.Task.FDs {
		if ok, err := w.take(r.FD, m, nth); ok || err != nil {
			return r.FD, err
		}
	}
	return 0, kind.Unsupported(w.file, "it watches what was descriptor %d (inode %d), which %v has closed or replaced while somebody else still has it; remove it from the epoll file before closing it", m.FD, m.Ino, w.own.Task)
}

// take tells whether descriptor n is the member, and stands for no other yet.
func (w *watched) take(n int32, m *proc.EpollTarget, nth uint32) (bool, error) {
	t := w.own.Task.Find(n)
	if t == nil || t.Stat.Ino != m.Ino || w.used[n] {
		return false, nil
	}
	same, err := w.is(t, n, m, nth)
	if same {
		w.used[n] = true
	}
	return same, err
}

// is tells whether descriptor n, which is file t, is the member. A socket has an inode of its
// own, so that there is no need to ask the kernel, which has to search.
func (w *watched) is(t *scan.File, n int32, m *proc.EpollTarget, nth uint32) (bool, error) {
	if t.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return true, nil
	}
	pid := int(w.own.Task.PID)
	same, err := linux.KcmpEpoll(pid, int(n), pid, int(w.own.FD), m.FD, nth)
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%v: compare what it watches with descriptor %d (kcmp): %w", w.file, n, err)
	}
	return same, nil
}

// Plan implements kind.File.
func (*Epoll) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	in := e.GetEpfd()
	if in == nil {
		return entryError(e, "an epoll file without its entry")
	}
	b, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	if err != nil {
		return err
	}
	n := &epollNode{base: b, members: in.GetTfd()}
	seen := map[uint32]bool{}
	for _, m := range n.members {
		if m.GetTfd() > maxFD || seen[m.GetTfd()] {
			return entryError(e, "an epoll file that watches descriptor %d: it can't, or is there twice", m.GetTfd())
		}
		seen[m.GetTfd()] = true
	}
	return p.Add(n)
}

// maxFD is above every descriptor number: fs.nr_open is at most this.
const maxFD = 1 << 30

type epollNode struct {
	base
	members []*eventpoll.EventpollTfdEntry
}

// String implements plan.Node.
func (n *epollNode) String() string {
	return fmt.Sprintf("epoll %#x: %d members", n.id, len(n.members))
}

// Create implements plan.Node.
func (n *epollNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	num, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll %#x: %w", n.id, err)
	}
	return n.ready(fd.New(num))
}

// Finish implements plan.Member. The task must be the first of the tree that
// has the file.
//
// A member that is ready becomes so anew, whatever the program was told
// before: edge-triggered ones may report an edge once more. A one-shot member
// that had fired comes back armed for errors and hang-ups only, which the
// kernel always adds.
func (n *epollNode) Finish(b plan.Batcher, own int32) error {
	if len(n.members) == 0 {
		return nil
	}
	size := uint64(binary.Size(unix.EpollEvent{}))
	events := make([]byte, 0, size*uint64(len(n.members)))
	for _, m := range n.members {
		events = appendEvent(events, m.GetEvents(), m.GetData(), int(size))
	}
	at := b.Put(events)
	for i, m := range n.members {
		b.Add(fmt.Sprintf("epoll_ctl(%d, ADD, %d)", own, m.GetTfd()), unix.SYS_EPOLL_CTL,
			uint64(own), unix.EPOLL_CTL_ADD, uint64(m.GetTfd()), at+uint64(i)*size)
	}
	return nil
}

// appendEvent appends a struct epoll_event of this size: it is packed on
// amd64 only.
func appendEvent(b []byte, events uint32, data uint64, size int) []byte {
	b = binary.NativeEndian.AppendUint32(b, events)
	b = append(b, make([]byte, size-12)...)
	return binary.NativeEndian.AppendUint64(b, data)
}
