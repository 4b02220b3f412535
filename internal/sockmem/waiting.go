package sockmem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
)

// Memory reads what waits at unix sockets from the kernel's memory, see kmem. It is
// not for use by several goroutines at once.
type Memory struct {
	*kmem.Reader
}

// OpenMemory loads the program. Where the kernel or the engine's privileges
// don't allow it, it fails with ErrUnavailable. more is further members of structures,
// as kmem.Open has them, that are to be found.
func OpenMemory(more ...string) (*Memory, error) {
	r, err := kmem.Open(MemoryNames(more...)...)
	if err != nil {
		return nil, err
	}
	return &Memory{r}, nil
}

// MemoryNames are the members that OpenMemory finds, more among them.
func MemoryNames(more ...string) []string {
	more = append(more, optional(slices.Concat(loneNames(), besideNames(), connectedNames(), []string{"fown_struct.file", "sock.sk_reuseport_cb"}, lockNames[0][:], lockNames[1][:]))...)
	return append(more,
		"sock.sk_receive_queue", "sock.sk_socket", "sock.sk_peer_pid", "sock.sk_peer_cred", "sock.sk_shutdown", "sock.sk_err", "?sock.sk_scm_recv_flags", "?socket.flags",
		"unix_sock.addr", "unix_sock.peer", "?unix_sock.oob_skb", "unix_address.len", "unix_address.name",
		"socket_alloc.vfs_inode", "inode.i_ino", "inode.i_mode", "file.f_inode", "sk_buff.sk",
		"unix_skb_parms", "unix_skb_parms.pid", "unix_skb_parms.uid", "unix_skb_parms.gid", "unix_skb_parms.fp", "unix_skb_parms.consumed",
		"scm_fp_list.count", "scm_fp_list.fp", "pid.level", "pid.numbers", "upid", "upid.nr", "upid.ns",
		"cred.euid", "cred.egid", "cred.group_info", "group_info.ngroups", "group_info.gid")
}

// errGone says that memory isn't what it was taken for: somebody has changed
// it meanwhile.
var errGone = errors.New("the kernel's memory has changed while it was read")

// Waiting is a connection to a listening unix socket that nobody has accepted.
type Waiting struct {
	Client uint64 // inode of the socket that connected, 0 if it is closed
	Name   []byte // its name, without sun_family, as it is in the kernel
	Who    unix.Ucred
	Groups []uint32
	// Ended has bit 0 if nothing more comes from the client, bit 1 if nothing more
	// can be sent to it.
	Ended   uint8
	Passing int // PassCredentials and so on, -1 where an accepted socket has that of the listener
	Buffers []Buffer
}

// What the end that is to be accepted has from its listener since the client
// connected (Linux 6.16): struct sock's sk_scm_recv_flags.
const (
	PassCredentials = 1 << iota // SO_PASSCRED
	PassSecurity                // SO_PASSSEC
	PassPidfd                   // SO_PASSPIDFD
	PassRights                  // SO_PASSRIGHTS
)

// Buffer is a message, or a piece of a stream, as it was sent.
type Buffer struct {
	Data   []byte      // what was not read yet
	Sender uint64      // inode of the socket that sent it, 0 if that is closed
	Name   []byte      // its name, without sun_family, as it is in the kernel
	Told   bool        // who sent it was recorded
	Who    unix.Ucred  // PID is 0 if it has no number in the engine's namespace
	Files  []kmem.Addr // where the kernel has the files that come along
	Urgent bool        // it is urgent data (MSG_OOB)
}

// limits on what a loop of the kernel's memory that changes may lead to.
const (
	maxBuffers = 1 << 20
	maxRights  = 253   // SCM_MAX_FD
	maxGroups  = 65536 // NGROUPS_MAX
	maxLevel   = 32    // MAX_PID_NS_LEVEL
)

// Waiting reads the connections that wait at a listening unix socket, in their
// order, and all that is in them, and changes nothing. file is where the kernel
// has the open file, see Files. Who has connected must stand still, or be about
// to be left out: what it does meanwhile is an error.
func (m *Memory) Waiting(file kmem.Addr) ([]Waiting, error) {
	own, err := m.namespace()
	if err != nil {
		return nil, err
	}
	sk, err := m.sock(file)
	if err != nil {
		return nil, err
	}
	var out []Waiting
	err = m.Buffers(sk+m.Off("sock.sk_receive_queue"), maxBuffers, func(b *kmem.Buffer) error {
		w, err := m.waiting(b.Pointer("sk_buff.sk"), own)
		out = append(out, w)
		return err
	})
	return out, err
}

// sock returns where the socket of an open file is.
func (m *Memory) sock(file kmem.Addr) (kmem.Addr, error) {
	at, err := m.Private(file)
	if err != nil {
		return 0, err
	}
	return m.follow(at, "socket.sk")
}

// follow reads a pointer in the structure at an address, and on from there.
func (m *Memory) follow(at kmem.Addr, members ...string) (kmem.Addr, error) {
	for _, name := range members {
		var err error
		if at, err = m.Pointer(at + m.Off(name)); err != nil {
			return 0, err
		}
	}
	return at, nil
}

// bytes reads n bytes of a member.
func (m *Memory) bytes(at kmem.Addr, member string, n int) ([]byte, error) {
	b := make([]byte, n)
	return b, m.ReadAt(b, at+m.Off(member))
}

func (m *Memory) u32(at kmem.Addr, member string) (uint32, error) {
	b, err := m.bytes(at, member, 4)
	return binary.NativeEndian.Uint32(b), err
}

// waiting reads one connection.
func (m *Memory) waiting(sk, own kmem.Addr) (w Waiting, err error) {
	client, err := m.follow(sk, "unix_sock.peer")
	if err != nil {
		return w, err
	}
	if w.Client, err = m.inodeOf(client); err != nil {
		return w, err
	}
	if w.Name, err = m.nameOf(client); err != nil {
		return w, err
	}
	if err := m.who(sk, own, &w); err != nil {
		return w, err
	}
	ended, err := m.bytes(sk, "sock.sk_shutdown", 1)
	if err != nil {
		return w, err
	}
	w.Ended = ended[0] & 3
	if w.Passing, err = m.Passing(sk); err != nil {
		return w, err
	}
	w.Buffers, err = m.queue(sk, own)
	return w, err
}

// Queue reads what is queued at a unix socket, and changes nothing. file is
// where the kernel has the open file, see Files.
func (m *Memory) Queue(file kmem.Addr) ([]Buffer, error) {
	own, err := m.namespace()
	if err != nil {
		return nil, err
	}
	sk, err := m.sock(file)
	if err != nil {
		return nil, err
	}
	return m.queue(sk, own)
}

func (m *Memory) queue(sk, own kmem.Addr) (out []Buffer, err error) {
	urgent := kmem.Addr(0)
	if m.Has("unix_sock.oob_skb") {
		if urgent, err = m.follow(sk, "unix_sock.oob_skb"); err != nil {
			return nil, err
		}
	}
	senders := map[kmem.Addr]Buffer{}
	err = m.Buffers(sk+m.Off("sock.sk_receive_queue"), maxBuffers, func(raw *kmem.Buffer) error {
		b := Buffer{Data: raw.Data, Urgent: raw.At == urgent}
		if err := m.parameters(raw, own, &b); err != nil {
			return err
		}
		if err := m.sender(raw.Pointer("sk_buff.sk"), &b, senders); err != nil {
			return err
		}
		out = append(out, b)
		return nil
	})
	return out, err
}

// sender reads what is known of the socket that a buffer is of; known are those
// that were asked for.
func (m *Memory) sender(sk kmem.Addr, b *Buffer, known map[kmem.Addr]Buffer) (err error) {
	if k, ok := known[sk]; ok {
		b.Sender, b.Name = k.Sender, k.Name
		return nil
	}
	if b.Sender, err = m.inodeOf(sk); err != nil {
		return err
	}
	b.Name, err = m.nameOf(sk)
	known[sk] = *b
	return err
}

// Passing returns what a socket is told with messages (PassCredentials and so on). Before
// Linux 6.16 one that is to be accepted has that of its listener, and this is -1.
func (m *Memory) Passing(sk kmem.Addr) (int, error) {
	if !m.Has("sock.sk_scm_recv_flags") {
		return m.passingBefore(sk)
	}
	b, err := m.bytes(sk, "sock.sk_scm_recv_flags", 1)
	return int(b[0] & (PassCredentials | PassSecurity | PassPidfd | PassRights)), err
}

func (m *Memory) passingBefore(sk kmem.Addr) (int, error) {
	s, err := m.follow(sk, "sock.sk_socket")
	if err != nil || s == 0 || !m.Has("socket.flags") {
		return -1, err
	}
	flags, err := m.u32(s, "socket.flags")
	return passingOf(flags), err
}

// passingOf translates flags of a struct socket before Linux 6.16: SOCK_PASSCRED, SOCK_PASSSEC
// and SOCK_PASSPIDFD are bits 3, 4 and 7, see include/linux/net.h.
func passingOf(flags uint32) int {
	return int(flags>>3&(PassCredentials|PassSecurity) | flags>>5&PassPidfd)
}

// inodeOf returns the inode of a socket, 0 if it is closed.
func (m *Memory) inodeOf(sk kmem.Addr) (uint64, error) {
	if sk == 0 {
		return 0, nil
	}
	s, err := m.follow(sk, "sock.sk_socket")
	if err != nil || s == 0 {
		return 0, err
	}
	// struct socket begins what inodes of sockets are in.
	b, err := m.bytes(s+m.Off("socket_alloc.vfs_inode"), "inode.i_ino", 8)
	return binary.NativeEndian.Uint64(b), err
}

// SocketOf returns the inode of the socket that an open file is, 0 if it is
// something else. file is where the kernel has it, see Buffer.
func (m *Memory) SocketOf(file kmem.Addr) (uint64, error) {
	i, err := m.follow(file, "file.f_inode")
	if err != nil {
		return 0, err
	}
	mode, err := m.bytes(i, "inode.i_mode", 2)
	if err != nil || binary.NativeEndian.Uint16(mode)&unix.S_IFMT != unix.S_IFSOCK {
		return 0, err
	}
	b, err := m.bytes(i, "inode.i_ino", 8)
	return binary.NativeEndian.Uint64(b), err
}

// nameOf returns the name of a socket.
func (m *Memory) nameOf(sk kmem.Addr) ([]byte, error) {
	const family, most = 2, 110 // of struct sockaddr_un, in bytes
	if sk == 0 {
		return nil, nil
	}
	a, err := m.follow(sk, "unix_sock.addr")
	if err != nil || a == 0 {
		return nil, err
	}
	n, err := m.u32(a, "unix_address.len")
	if err != nil || int32(n) <= family || n > most {
		return nil, err
	}
	return m.bytes(a+family, "unix_address.name", int(n)-family)
}

// who reads who has made the connection.
func (m *Memory) who(sk, own kmem.Addr, w *Waiting) error {
	pid, err := m.follow(sk, "sock.sk_peer_pid")
	if err != nil {
		return err
	}
	cred, err := m.follow(sk, "sock.sk_peer_cred")
	if err != nil || cred == 0 {
		return fmt.Errorf("%w: a connection of nobody (%w)", errGone, err)
	}
	if w.Who.Pid, err = m.number(pid, own); err != nil {
		return err
	}
	uid, err1 := m.u32(cred, "cred.euid")
	gid, err2 := m.u32(cred, "cred.egid")
	info, err3 := m.follow(cred, "cred.group_info")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	w.Who.Uid, w.Who.Gid = uid, gid
	w.Groups, err = m.groups(info)
	return err
}

func (m *Memory) groups(info kmem.Addr) ([]uint32, error) {
	n, err := m.u32(info, "group_info.ngroups")
	if err != nil {
		return nil, err
	}
	if n > maxGroups {
		return nil, errGone
	}
	b, err := m.bytes(info, "group_info.gid", 4*int(n))
	if err != nil {
		return nil, err
	}
	out := make([]uint32, n)
	for i := range out {
		out[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out, nil
}

// number returns a process's number in the engine's PID namespace, 0 if it has
// none. own is from namespace.
func (m *Memory) number(pid, own kmem.Addr) (int32, error) {
	if pid == 0 {
		return 0, nil
	}
	deepest, err := m.u32(pid, "pid.level")
	if err != nil {
		return 0, err
	}
	if deepest > maxLevel {
		return 0, errGone
	}
	size := int(m.Off("upid"))
	b, err := m.bytes(pid, "pid.numbers", (int(deepest)+1)*size)
	if err != nil {
		return 0, err
	}
	for ; len(b) >= size; b = b[size:] {
		if kmem.Addr(binary.NativeEndian.Uint64(b[m.Off("upid.ns"):])) == own {
			return int32(binary.NativeEndian.Uint32(b[m.Off("upid.nr"):])), nil
		}
	}
	return 0, nil
}

// namespace returns the address of the engine's PID namespace: the deepest that
// a socket of its own tells of.
func (m *Memory) namespace() (kmem.Addr, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make a socket to learn from: %w", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	sk, err := m.Sock(pair[0])
	if err != nil {
		return 0, err
	}
	pid, err := m.follow(sk, "sock.sk_peer_pid")
	if err != nil {
		return 0, err
	}
	level, err := m.u32(pid, "pid.level")
	if err != nil {
		return 0, err
	}
	return m.follow(pid+m.Off("pid.numbers")+kmem.Addr(level)*m.Off("upid"), "upid.ns")
}

// parameters reads what comes along with a buffer (struct unix_skb_parms).
func (m *Memory) parameters(raw *kmem.Buffer, own kmem.Addr, out *Buffer) (err error) {
	p := raw.In("sk_buff.cb")
	if len(p.Bytes) < int(m.Off("unix_skb_parms")) {
		return errGone
	}
	if n := p.U32("unix_skb_parms.consumed"); uint64(n) <= uint64(len(out.Data)) {
		out.Data = out.Data[n:]
	}
	if pid := p.Pointer("unix_skb_parms.pid"); pid != 0 {
		out.Told, out.Who.Uid, out.Who.Gid = true, p.U32("unix_skb_parms.uid"), p.U32("unix_skb_parms.gid")
		if out.Who.Pid, err = m.number(pid, own); err != nil {
			return err
		}
	}
	fp := p.Pointer("unix_skb_parms.fp")
	if fp == 0 {
		return nil
	}
	b, err := m.bytes(fp, "scm_fp_list.count", 2)
	if err != nil {
		return err
	}
	n := int(binary.NativeEndian.Uint16(b))
	if n > maxRights {
		return errGone
	}
	if b, err = m.bytes(fp, "scm_fp_list.fp", 8*n); err != nil {
		return err
	}
	for ; len(b) >= 8; b = b[8:] {
		out.Files = append(out.Files, kmem.Addr(binary.NativeEndian.Uint64(b)))
	}
	return nil
}

// PeerOfPeer returns what a connected unix socket's peer tells of its own one
// (SO_PEERCRED, SO_PEERGROUPS). file is where the kernel has the open file.
func (m *Memory) PeerOfPeer(file kmem.Addr) (*unix.Ucred, []uint32, error) {
	own, err := m.namespace()
	if err != nil {
		return nil, nil, err
	}
	sk, err := m.sock(file)
	if err != nil {
		return nil, nil, err
	}
	peer, err := m.follow(sk, "unix_sock.peer")
	if err != nil {
		return nil, nil, err
	}
	var w Waiting
	err = m.who(peer, own, &w)
	return &w.Who, w.Groups, err
}
