package sockmem

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
)

// Held is a unix socket that is only in messages, so that nobody can ask it: what
// sock_diag(7) doesn't tell.
type Held struct {
	Sock     kmem.Addr  // struct unix_sock
	Who      unix.Ucred // SO_PEERCRED; user and group are those of nobody (-1) if there is none
	Groups   []uint32   // SO_PEERGROUPS
	PeerName []byte     // without sun_family, as it is in the kernel
	Path     string     // of the file that it is bound to, "" if there is none
	Err      int32      // SO_ERROR
	Passing  int        // see Waiting
}

// nobody is the user and group that SO_PEERCRED tells of where there is no peer.
const nobody = 1<<32 - 1

// Held reads what is known of a unix socket. file is where the kernel has its open file.
func (m *Memory) Held(file kmem.Addr) (*Held, error) {
	own, err := m.namespace()
	if err != nil {
		return nil, err
	}
	h := &Held{Who: unix.Ucred{Uid: nobody, Gid: nobody}}
	if h.Sock, err = m.sock(file); err != nil {
		return nil, err
	}
	if h.Passing, err = m.Passing(h.Sock); err != nil {
		return nil, err
	}
	failed, err := m.u32(h.Sock, "sock.sk_err")
	if err != nil {
		return nil, err
	}
	h.Err = int32(failed)
	cred, err := m.follow(h.Sock, "sock.sk_peer_cred")
	if err != nil {
		return nil, err
	}
	if cred != 0 {
		var w Waiting
		if err := m.who(h.Sock, own, &w); err != nil {
			return nil, err
		}
		h.Who, h.Groups = w.Who, w.Groups
	}
	peer, err := m.follow(h.Sock, "unix_sock.peer")
	if err != nil {
		return nil, err
	}
	if h.PeerName, err = m.nameOf(peer); err != nil {
		return nil, err
	}
	h.Path, err = m.boundTo(h.Sock)
	return h, err
}

// boundTo returns the path of the file that a socket is bound to.
func (m *Memory) boundTo(sk kmem.Addr) (string, error) {
	at := sk + m.Off("unix_sock.path")
	entry, err := m.Pointer(at + m.Off("path.dentry"))
	if err != nil || entry == 0 {
		return "", err
	}
	return m.pathAt(at)
}

// Family returns the address family (AF_*) of a socket. file is where the kernel has
// its open file.
func (m *Memory) Family(file kmem.Addr) (uint16, error) {
	sk, err := m.sock(file)
	if err != nil {
		return 0, err
	}
	b, err := m.bytes(sk, "sock_common.skc_family", 2)
	return binary.NativeEndian.Uint16(b), err
}
