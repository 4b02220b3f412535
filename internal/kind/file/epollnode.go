package file

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// maxFD is above every descriptor number: fs.nr_open is at most this.
const maxFD = 1 << 30

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
	n := &epollNode{base: b, plan: p, members: make([]member, 0, len(in.GetTfd()))}
	if v, _, ok := extra(in, epollTask); ok {
		n.task = uint32(min(v, math.MaxUint32))
	}
	seen := map[[3]uint64]bool{}
	for _, t := range in.GetTfd() {
		number, _, moved := extra(t, tfdNumber)
		if !moved {
			number = uint64(t.GetTfd())
		}
		m := member{at: int32(t.GetTfd()), number: int32(number), events: t.GetEvents(), data: t.GetData()}
		if v, _, ok := extra(t, tfdFile); ok {
			m.file = plan.ID(min(v, math.MaxUint32))
		}
		key := [3]uint64{uint64(t.GetTfd()), number, uint64(m.file)}
		if t.GetTfd() > maxFD || number > maxFD || seen[key] {
			return entryError(e, "an epoll file that watches descriptor %d, added as %d: it can't, or is there twice", t.GetTfd(), number)
		}
		seen[key] = true
		n.members = append(n.members, m)
	}
	return p.Add(n)
}

// member is something that an epoll file watches.
type member struct {
	at     int32 // the number it has
	number int32 // the one it was added under
	events uint32
	data   uint64
	file   plan.ID // which one it is, if the task doesn't have it; 0: it has
}

type epollNode struct {
	base
	plan    *plan.Plan
	members []member
	task    uint32 // whose numbers they have, if no task has the file; 0: not told
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
		events = appendEvent(events, m.events, m.data, int(size))
	}
	at := b.Put(events)
	for i, m := range n.members {
		event := at + uint64(i)*size
		if m.file != 0 { // see Stuff
			continue
		}
		if m.at == m.number {
			add(b, own, m.number, event)
			continue
		}
		n.addMoved(b, own, m, event)
	}
	return nil
}

func add(b plan.Batcher, own, n int32, event uint64) {
	b.Add(fmt.Sprintf("epoll_ctl(%d, ADD, %d)", own, n), unix.SYS_EPOLL_CTL, uint64(own), unix.EPOLL_CTL_ADD, uint64(n), event)
}

// addMoved adds a member under a number that it no longer has: for a moment it
// gets that number back.
func (n *epollNode) addMoved(b plan.Batcher, own int32, m member, event uint64) {
	dup := func(from, to int32, flags uint64) {
		b.Add(fmt.Sprintf("dup3(%d, %d)", from, to), unix.SYS_DUP3, uint64(from), uint64(to), flags)
	}
	drop := func(n int32) { b.Add(fmt.Sprintf("close(%d)", n), unix.SYS_CLOSE, uint64(n)) }
	if !b.InUse(m.number) {
		dup(m.at, m.number, unix.O_CLOEXEC)
		add(b, own, m.number, event)
		drop(m.number)
		return
	}
	spare := b.Spare()
	dup(m.number, spare, unix.O_CLOEXEC)
	dup(m.at, m.number, unix.O_CLOEXEC)
	if own == m.number {
		own = spare
	}
	add(b, own, m.number, event)
	dup(spare, m.number, n.cloexec(m.number))
	drop(spare)
}

// cloexec returns the flag that a descriptor has in the task. What no image
// knows is the engine's own.
func (n *epollNode) cloexec(number int32) uint64 {
	users := n.plan.Users(n.id)
	nodes, err := n.plan.Nodes()
	if len(users) == 0 || err != nil {
		return unix.O_CLOEXEC
	}
	for _, o := range nodes {
		for _, u := range n.plan.Users(o.ID()) {
			if u.Task == users[0].Task && u.FD == number && !u.Cloexec {
				return 0
			}
		}
	}
	return unix.O_CLOEXEC
}

// appendEvent appends a struct epoll_event of this size: it is packed on
// amd64 only.
func appendEvent(b []byte, events uint32, data uint64, size int) []byte {
	b = binary.NativeEndian.AppendUint32(b, events)
	b = append(b, make([]byte, size-12)...)
	return binary.NativeEndian.AppendUint64(b, data)
}
