package file

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

// movedMembers returns an epoll file, and the descriptors that there are of what it watches:
// some have moved, and their numbers have become others'.
func movedMembers(t *testing.T) (ep int, all []int) {
	ep = newEpoll(t)
	for i := range 40 {
		ev := newEventfd(t)
		watch(t, ep, ev, unix.EPOLLIN, int32(i))
		if i%3 == 0 { // the one that is watched moves, and its number becomes another's
			moved, err := unix.FcntlInt(uintptr(ev), unix.F_DUPFD_CLOEXEC, 0)
			own(t, moved, err)
			if err := unix.Dup3(newEventfd(t), ev, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			watch(t, ep, ev, unix.EPOLLIN, int32(100+i))
			all = append(all, moved)
		}
		all = append(all, ev)
	}
	return ep, all
}

// TestEpollSeen: the kernel's memory tells the same of members as kcmp(2), also where a number
// was used again; and where it tells of all, kcmp(2) isn't asked.
func TestEpollSeen(t *testing.T) {
	if m, err := kmem.Open(kmem.EpollNames()...); err != nil {
		testkit.KernelMemory(t, err)
	} else if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	ep, all := movedMembers(t)
	g := self(t)
	f := g.add(ep)
	for _, n := range all {
		g.add(n)
	}
	task := f.Users[0].Task
	w := watched{file: f, own: task, pid: task.Via(), fd: ep}
	members := f.Info().Epoll
	s := see(task, int32(ep), len(members))
	if s == nil {
		t.Fatal("nothing is seen")
	}
	nth := map[int32]uint32{}
	for i := range members {
		m := &members[i]
		for _, n := range all {
			want, err := linux.KcmpEpoll(task.Via(), n, task.Via(), ep, m.FD, nth[m.FD])
			if err != nil {
				t.Fatal(err)
			}
			if got := s.is(int32(n), m.FD, nth[m.FD]); got != want {
				t.Errorf("descriptor %d as number %d %d of %d: %v, kcmp(2) tells %v", n, nth[m.FD], m.FD, i, got, want)
			}
		}
		nth[m.FD]++
	}
	want, err := w.watches()
	if err != nil {
		t.Fatal(err)
	}
	w.seen, w.pid = s, -1 // whom kcmp(2) does not find
	got, err := w.watches()
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if got[i].GetTfd() != want[i].GetTfd() || got[i].GetData() != want[i].GetData() {
			t.Errorf("member %d: %d of %d, want %d of %d", i, got[i].GetTfd(), got[i].GetData(), want[i].GetTfd(), want[i].GetData())
		}
	}
	if see(task, int32(ep), len(members)+1) != nil {
		t.Error("memory of another number of members is believed")
	}
}
