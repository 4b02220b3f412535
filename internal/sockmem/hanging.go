package sockmem

import (
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// Owner is who is told of I/O on an open file, and by which signal: see F_GETOWN_EX,
// F_GETOWNER_UIDS and F_GETSIG in fcntl(2).
type Owner struct {
	Signal         uint32
	linux.FOwnerEx // in the engine's PID namespace; PID is 0 if there is nobody, -1 if nobody there
	UID, EUID      uint32
}

// ownerNames are what owner reads: "fown_struct.file" tells where that is.
func ownerNames() []string {
	return []string{"file.f_owner", "fown_struct", "fown_struct.pid", "fown_struct.pid_type", "fown_struct.uid", "fown_struct.euid", "fown_struct.signum", "pid.tasks"}
}

// owner reads who is told of I/O on an open file, nil if there is none and never was.
func (m *Memory) owner(file kmem.Addr) (*Owner, error) {
	at := file + m.Off("file.f_owner")
	if m.Has("fown_struct.file") { // since Linux 6.12 it is apart, and made when it is needed
		var err error
		if at, err = m.Pointer(at); err != nil || at == 0 {
			return nil, err
		}
	}
	s, err := m.Struct("fown_struct", at)
	if err != nil {
		return nil, err
	}
	o := &Owner{Signal: s.U32("fown_struct.signum"), UID: s.U32("fown_struct.uid"), EUID: s.U32("fown_struct.euid")}
	o.Type = int32(s.U32("fown_struct.pid_type")) // enum pid_type is in that order
	pid := s.Pointer("fown_struct.pid")
	if pid == 0 {
		if o.Signal == 0 {
			return nil, nil
		}
		return o, nil
	}
	// Who has ended is nobody.
	const most = 4 // PIDTYPE_MAX
	if uint32(o.Type) >= most {
		return nil, errGone
	}
	if first, err := m.Pointer(pid + m.Off("pid.tasks") + kmem.Addr(8*o.Type)); err != nil || first == 0 {
		return o, err
	}
	own, err := m.namespace()
	if err != nil {
		return nil, err
	}
	if o.PID, err = m.number(pid, own); o.PID == 0 {
		o.PID = -1
	}
	return o, err
}

// Watch is that an epoll file watches another one.
type Watch struct {
	By     kmem.Addr // where the kernel has the epoll file
	Number int32     // the descriptor by which the other one was added
}

// watchNames are what watches reads.
func watchNames() []string {
	return []string{"file.f_ep", "epitem.fllink", "epitem.ep", "epitem.ffd", "epoll_filefd.fd", "eventpoll.file"}
}

// mostWatches is more epoll files than ever watch one of a message.
const mostWatches = 1 << 12

// watches reads which epoll files watch an open file.
func (m *Memory) watches(file kmem.Addr) (all []Watch, err error) {
	list, err := m.follow(file, "file.f_ep")
	if err != nil || list == 0 {
		return nil, err
	}
	at, err := m.Pointer(list)
	for ; err == nil && at != 0; at, err = m.Pointer(at) {
		if len(all) == mostWatches {
			return nil, errGone
		}
		item := at - m.Off("epitem.fllink")
		by, err := m.follow(item, "epitem.ep", "eventpoll.file")
		if err != nil {
			return nil, err
		}
		n, err := m.u32(item+m.Off("epitem.ffd"), "epoll_filefd.fd")
		if err != nil {
			return nil, err
		}
		all = append(all, Watch{By: by, Number: int32(n)})
	}
	return all, err
}
