package file

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/eventpoll"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
)

func newEpoll(t *testing.T) int {
	t.Helper()
	n, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return own(t, n, err)
}

func newEventfd(t *testing.T) int {
	t.Helper()
	n, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	return own(t, n, err)
}

func watch(t *testing.T, ep, n int, events uint32, data int32) {
	t.Helper()
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, n, &unix.EpollEvent{Events: events, Fd: data, Pad: ^data}); err != nil {
		t.Fatal(err)
	}
}

// calls is a Batcher that runs what is queued in the test's own process.
type calls struct {
	t    *testing.T
	mem  []byte
	list []string
	argv [][]uint64
	used map[int32]bool
}

func (c *calls) Spare() int32 { return 100 }

func (c *calls) InUse(n int32) bool { return c.used[n] }

func (c *calls) Add(name string, _ uintptr, args ...uint64) {
	c.list = append(c.list, name)
	c.argv = append(c.argv, args)
}

func (c *calls) Put(data []byte) uint64 {
	c.mem = append(c.mem, data...)
	return 0
}

func TestEpollMembers(t *testing.T) {
	ep, ev := newEpoll(t), newEventfd(t)
	r, w := newPipeFDs(t, 0)
	other := newEpoll(t)
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	own(t, sock, err)
	watch(t, ep, ev, unix.EPOLLIN|unix.EPOLLET, 5)
	watch(t, ep, r, unix.EPOLLIN|unix.EPOLLRDHUP, 6)
	watch(t, ep, w, unix.EPOLLOUT|unix.EPOLLONESHOT, 7)
	watch(t, ep, sock, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, 8)
	watch(t, ep, other, unix.EPOLLIN, 9)
	g := self(t)
	f := g.add(ep)
	for _, n := range []int{ev, r, w, sock, other} {
		g.add(n)
	}
	got, _, err := members(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]uint32{
		ev:    unix.EPOLLIN | unix.EPOLLET,
		r:     unix.EPOLLIN | unix.EPOLLRDHUP,
		w:     unix.EPOLLOUT | unix.EPOLLONESHOT,
		sock:  unix.EPOLLIN | unix.EPOLLEXCLUSIVE,
		other: unix.EPOLLIN,
	}
	if len(got) != len(want) {
		t.Fatalf("%d members, want %d", len(got), len(want))
	}
	for _, m := range got {
		if e := want[int(m.GetTfd())] | unix.EPOLLERR | unix.EPOLLHUP; m.GetEvents() != e {
			t.Errorf("descriptor %d has events %#x, want %#x", m.GetTfd(), m.GetEvents(), e)
		}
	}
}

func TestEpollMoved(t *testing.T) {
	ep, ev := newEpoll(t), newEventfd(t)
	watch(t, ep, ev, unix.EPOLLIN, 1)
	moved, err := unix.FcntlInt(uintptr(ev), unix.F_DUPFD_CLOEXEC, 100)
	own(t, moved, err)
	// Another file of the same inode (all of these are) takes the number.
	again := newEventfd(t)
	if err := unix.Dup3(again, ev, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	watch(t, ep, ev, unix.EPOLLOUT, 2)
	g := self(t)
	f := g.add(ep)
	g.add(ev)
	g.add(moved)
	got, _, err := members(nil, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range got {
		want := ev
		if m.GetEvents()&unix.EPOLLIN != 0 {
			want = moved
		}
		if int(m.GetTfd()) != want {
			t.Errorf("the one with events %#x is descriptor %d, want %d", m.GetEvents(), m.GetTfd(), want)
		}
	}
	if len(got) != 2 {
		t.Errorf("%d members", len(got))
	}
}

func TestEpollGone(t *testing.T) {
	ep, ev := newEpoll(t), newEventfd(t)
	watch(t, ep, ev, unix.EPOLLIN, 1)
	g := self(t)
	g.add(ep) // ev is open, but not known as one of the task's
	mustFail(t, g.dump(), fmt.Sprintf("what was descriptor %d ", ev), "anon_inode:[eventpoll]")

}

// Added twice, under two numbers of which one is closed by now.
func TestEpollTwice(t *testing.T) {
	ep, ev := newEpoll(t), newEventfd(t)
	watch(t, ep, ev, unix.EPOLLIN, 1)
	twice, err := unix.Dup(ev)
	if err != nil {
		t.Fatal(err)
	}
	watch(t, ep, twice, unix.EPOLLIN, 2)
	unix.Close(twice)
	g := self(t)
	g.add(ep)
	g.add(ev)
	g.mustDump()
	r := newRedo(t, g.im)
	r.mustCreate()
	b := &calls{t: t}
	if err := r.plan.Node(1).(*epollNode).Finish(b, 9); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(b.list, ", ")
	for _, want := range []string{
		fmt.Sprintf("epoll_ctl(9, ADD, %d)", ev),
		fmt.Sprintf("dup3(%d, %d), epoll_ctl(9, ADD, %d), close(%d)", ev, twice, twice, twice),
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

// The number of a member may belong to something else by now.
func TestEpollNumberTaken(t *testing.T) {
	im := epollImage(5)
	all, _ := im.Entries(image.Files)
	putVarint(all[0].Message.(*fdinfo.FileEntry).GetEpfd().GetTfd()[0], tfdNumber, 7)
	r := newRedo(t, im)
	r.plan.Use(1, plan.Use{Task: 3, FD: 9})
	r.plan.Use(1, plan.Use{Task: 3, FD: 7, Cloexec: false})
	for _, c := range []struct {
		own  int32
		want string
	}{
		{9, "dup3(7, 100), dup3(5, 7), epoll_ctl(9, ADD, 7), dup3(100, 7), close(100)"},
		{7, "dup3(7, 100), dup3(5, 7), epoll_ctl(100, ADD, 7), dup3(100, 7), close(100)"},
	} {
		b := &calls{t: t, used: map[int32]bool{7: true}}
		if err := r.plan.Node(1).(*epollNode).Finish(b, c.own); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(b.list, ", "); got != c.want {
			t.Errorf("queued %s, want %s", got, c.want)
		}
		if flags := b.argv[3][2]; flags != 0 {
			t.Errorf("the descriptor comes back with flags %#o", flags)
		}
	}
}

func TestEpollFinish(t *testing.T) {
	ep, ev := newEpoll(t), newEventfd(t)
	addTo(t, ev, 1)
	watch(t, ep, ev, unix.EPOLLIN|unix.EPOLLET, 0x1234)
	g := self(t)
	g.add(ep)
	g.add(ev)
	g.mustDump()
	r := newRedo(t, g.im)
	made := r.mustCreate()
	b := &calls{t: t}
	if err := r.plan.Node(1).(*epollNode).Finish(b, int32(made[1].Int())); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("epoll_ctl(%d, ADD, %d)", made[1].Int(), ev); len(b.list) != 1 || b.list[0] != want {
		t.Fatalf("queued %q, want %q", b.list, want)
	}
	// The layout is the kernel's: what it gives back for that event is the same.
	var got unix.EpollEvent
	got.Events = unix.EPOLLIN | unix.EPOLLET | unix.EPOLLERR | unix.EPOLLHUP
	got.Fd, got.Pad = 0x1234, ^int32(0x1234)
	if want := appendEvent(nil, got.Events, uint64(uint32(got.Fd))|uint64(uint32(got.Pad))<<32, len(b.mem)); string(want) != string(b.mem) {
		t.Errorf("event is % x, want % x", b.mem, want)
	}
	if a := b.argv[0]; a[0] != uint64(made[1].Int()) || a[1] != unix.EPOLL_CTL_ADD || a[2] != uint64(ev) || a[3] != 0 {
		t.Errorf("arguments are %v", a)
	}
}

func epollImage(tfds ...uint32) *images {
	im := &images{}
	e := &eventpoll.EventpollFileEntry{Id: proto.Uint32(1), Flags: proto.Uint32(2), Fown: noOwner()}
	for _, n := range tfds {
		e.Tfd = append(e.Tfd, &eventpoll.EventpollTfdEntry{Id: proto.Uint32(1), Tfd: proto.Uint32(n), Events: proto.Uint32(1), Data: proto.Uint64(1)})
	}
	_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(1), Type: fdinfo.FdTypes_EVENTPOLL.Enum(), Epfd: e}, nil)
	return im
}

func TestEpollHostile(t *testing.T) {
	for _, tfds := range [][]uint32{{5, 5}, {1 << 31}, {^uint32(0)}} {
		_, err := planAll(epollImage(tfds...), nil)
		mustFail(t, err, "an epoll file that watches")
	}
	p, err := planAll(epollImage(3, 4), nil)
	if err != nil || p.Node(1).String() != "epoll 0x1: 2 members" {
		t.Error(p.Node(1), err)
	}
}

// What is in a message only has the numbers of a task that has all it watches.
func TestEpollQueued(t *testing.T) {
	ep, ev := newEpoll(t), newEventfd(t)
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	own(t, sock, err)
	watch(t, ep, ev, unix.EPOLLIN, 5)
	watch(t, ep, sock, unix.EPOLLOUT, 6)
	g := self(t)
	f := g.add(ep)
	g.add(ev)
	f.Users = nil
	mustFail(t, g.dump(), fmt.Sprintf("what was descriptor %d ", sock))
	g = self(t)
	f = g.add(ep)
	for _, n := range []int{ev, sock} {
		g.add(n)
	}
	f.Users = nil
	got, of, err := members(&kind.DumpEnv{Tree: g.tree}, f)
	if err != nil || of.PID != f.Task.PID || len(got) != 2 {
		t.Fatalf("%v, of %v, %v", got, of, err)
	}
}

// Without a task that has the numbers there is nothing to add.
func TestEpollQueuedHostile(t *testing.T) {
	p, err := planAll(epollImage(3, 4), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := p.Node(1).(*epollNode)
	mustFail(t, n.Check(nil), "no task has all that it watches")
	if n.Held() != nil {
		t.Error("it holds what isn't there")
	}
	n.task = 7
	mustFail(t, n.Check(nil), "no task has all that it watches")
}
