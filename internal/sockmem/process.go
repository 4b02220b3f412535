package sockmem

import (
	"encoding/binary"

	"glis.dev/glis/internal/kmem"
)

// Process returns the number, in the engine's PID namespace, of the process or thread
// that a pidfd is of; 0 if it has none. file is where the kernel has the pidfd.
func (m *Memory) Process(file kmem.Addr) (int32, error) {
	own, err := m.namespace()
	if err != nil {
		return 0, err
	}
	pid, err := m.Private(file)
	if err == nil && pid == 0 { // it is on pidfs (Linux 6.9)
		pid, err = m.follow(file, "file.f_inode", "inode.i_private")
	}
	if err != nil {
		return 0, err
	}
	return m.number(pid, own)
}

// SockAt returns where the socket of an open file is. file is where the kernel has that.
func (m *Memory) SockAt(file kmem.Addr) (kmem.Addr, error) { return m.sock(file) }

// besideNames are what Beside needs.
func besideNames() []string {
	return []string{"sock.sk_userlocks", "sock_common.skc_state", "sock_common.skc_flags", "sock_flags.SOCK_RCU_FREE"}
}

// BesideNames are what BesideConnected needs of a Reader that others have opened.
func BesideNames() []string {
	return optional(append(append(besideNames(), connectedNames()...), "sock.sk_reuseport_cb"))
}

// Beside has a socket's memory tell what another's does that is no option, and in one word
// with some: its state, whether it is bound, and how it is freed.
func (m *Memory) Beside() (func(is, other []byte), error) {
	for _, n := range besideNames() {
		if !m.Has(n) {
			return nil, kmem.ErrUnavailable
		}
	}
	const bound = 4 | 8 // SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK
	locks, state, flags := m.Field("sock.sk_userlocks"), m.Off("sock_common.skc_state"), m.Off("sock_common.skc_flags")
	free := uint32(1) << m.Off("sock_flags.SOCK_RCU_FREE")
	share := m.Field("sock.sk_reuseport_cb")
	ne := binary.NativeEndian
	take := func(is, other []byte, mask uint32) { ne.PutUint32(is, ne.Uint32(is)&^mask|ne.Uint32(other)&mask) }
	return func(is, other []byte) {
		take(is[locks.At:], other[locks.At:], bound<<locks.Bit)
		take(is[flags:], other[flags:], free)
		is[state] = other[state]
		if m.Has("sock.sk_reuseport_cb") { // a place among those that share a port
			copy(is[share.At:share.At+8], other[share.At:])
		}
	}, nil
}
