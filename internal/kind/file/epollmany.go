package file

import (
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
)

// manyMembers is from how many members on an epoll file is looked at in the kernel's memory,
// which takes some milliseconds to open: for kcmp(2) the kernel looks through all of them,
// each time, and of 16,000 that have one inode (eventfds) that takes four seconds.
const manyMembers = 1000

// seen is what the kernel's memory tells of an epoll file and of who has it.
type seen struct {
	files map[int32]kmem.Addr   // of the task, by descriptor
	items map[int32][]kmem.Addr // files that are watched, by number, in the kernel's order
}

// see looks at an epoll file that watches n others and stands still; nil if that can't be
// done, or memory tells of others.
func see(t *scan.Task, number int32, n int) *seen {
	m, err := kmem.Open(kmem.EpollNames()...)
	if err != nil {
		return nil
	}
	defer m.Close() //nolint:errcheck // the engine's own
	s := &seen{items: map[int32][]kmem.Addr{}}
	if s.files, err = m.Files(t.Pidfd.Int()); err != nil {
		return nil
	}
	at, err := m.Private(s.files[number])
	if err != nil {
		return nil
	}
	ep, err := m.Struct("eventpoll", at)
	if err != nil {
		return nil
	}
	all, err := m.EpollItems(ep, n)
	if err != nil || len(all) != n {
		return nil
	}
	for _, i := range all {
		s.items[i.Number] = append(s.items[i.Number], i.File)
	}
	return s
}

// is tells whether descriptor n of the task is the nth of those that were added as number.
func (s *seen) is(n, number int32, nth uint32) bool {
	file, all := s.files[n], s.items[number]
	return file != 0 && int(nth) < len(all) && all[nth] == file
}
