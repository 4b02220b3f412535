package sockmem

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

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
	Data   []byte     // what was not read yet
	Sender uint64     // inode of the socket that sent it, 0 if that is closed
	Name   []byte     // its name, without sun_family, as it is in the kernel
	Told   bool       // who sent it was recorded
	Who    unix.Ucred // PID is 0 if it has no number in the engine's namespace
	Files  []uint64   // where the kernel has the files that come along
	Urgent bool       // it is urgent data (MSG_OOB)
}

// limits on what a loop of the kernel's memory that changes may lead to.
const (
	maxWaiting = 1 << 16
	maxBuffers = 1 << 20
	maxData    = 1 << 30 // bytes
	maxRights  = 253     // SCM_MAX_FD
	maxGroups  = 65536   // NGROUPS_MAX
)

// Waiting reads the connections that wait at a listening unix socket, in their
// order, and all that is in them, and changes nothing. file is where the kernel
// has the open file, see Files. Who has connected must stand still, or be about
// to be left out: what it does meanwhile is an error.
func (m *Memory) Waiting(file uint64) ([]Waiting, error) {
	own, err := m.namespace()
	if err != nil {
		return nil, err
	}
	sk, err := m.follow(file, "file", "private_data", "socket", "sk")
	if err != nil {
		return nil, err
	}
	heads, err := m.list(sk)
	if err != nil {
		return nil, err
	}
	var out []Waiting
	for _, skb := range heads {
		embryo, err := m.follow(skb, "sk_buff", "sk")
		if err != nil {
			return nil, err
		}
		w, err := m.waiting(embryo, own)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

// follow reads a pointer in the struct at an address, and on from there: names
// are of structs and members in turn.
func (m *Memory) follow(at uint64, names ...string) (uint64, error) {
	for ; len(names) > 0; names = names[2:] {
		b, err := m.one(at+m.offset(names[0], names[1]), 8)
		if err != nil {
			return 0, err
		}
		at = binary.NativeEndian.Uint64(b)
	}
	return at, nil
}

func (m *Memory) offset(name, member string) uint64 {
	return uint64(m.types.structs[name].at[member])
}

// list returns the addresses of the buffers in a socket's queue.
func (m *Memory) list(sk uint64) ([]uint64, error) {
	head := sk + m.offset("sock", "sk_receive_queue")
	var out []uint64
	for at, member := head, "sk_buff_head"; ; member = "sk_buff" {
		next, err := m.follow(at, member, "next")
		if err != nil {
			return nil, err
		}
		if next == head {
			return out, nil
		}
		if out = append(out, next); len(out) > maxBuffers {
			return nil, errGone
		}
		at = next
	}
}

// waiting reads one connection.
func (m *Memory) waiting(sk, own uint64) (w Waiting, err error) {
	client, err := m.follow(sk, "unix_sock", "peer")
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
	ended, err := m.one(sk+m.offset("sock", "sk_shutdown"), 1)
	if err != nil {
		return w, err
	}
	w.Ended = ended[0] & 3
	if w.Passing, err = m.passing(sk); err != nil {
		return w, err
	}
	w.Buffers, err = m.queue(sk, own)
	return w, err
}

// Queue reads what is queued at a unix socket, and changes nothing. file is
// where the kernel has the open file, see Files.
func (m *Memory) Queue(file uint64) ([]Buffer, error) {
	own, err := m.namespace()
	if err != nil {
		return nil, err
	}
	sk, err := m.follow(file, "file", "private_data", "socket", "sk")
	if err != nil {
		return nil, err
	}
	return m.queue(sk, own)
}

func (m *Memory) queue(sk, own uint64) (out []Buffer, err error) {
	urgent := uint64(0)
	if _, ok := m.types.structs["unix_sock"].at["oob_skb"]; ok {
		if urgent, err = m.follow(sk, "unix_sock", "oob_skb"); err != nil {
			return nil, err
		}
	}
	all, err := m.list(sk)
	if err != nil {
		return nil, err
	}
	senders := map[uint64]Buffer{}
	for _, skb := range all {
		b, err := m.buffer(skb, own)
		if err != nil {
			return nil, err
		}
		if err := m.sender(skb, &b, senders); err != nil {
			return nil, err
		}
		b.Urgent = skb == urgent
		out = append(out, b)
	}
	return out, nil
}

// sender reads who a buffer is of; known are those that were asked for.
func (m *Memory) sender(skb uint64, b *Buffer, known map[uint64]Buffer) error {
	sk, err := m.follow(skb, "sk_buff", "sk")
	if err != nil {
		return err
	}
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

func (m *Memory) passing(sk uint64) (int, error) {
	if _, ok := m.types.structs["sock"].at["sk_scm_recv_flags"]; !ok {
		return -1, nil
	}
	b, err := m.one(sk+m.offset("sock", "sk_scm_recv_flags"), 1)
	if err != nil {
		return 0, err
	}
	return int(b[0] & (PassCredentials | PassSecurity | PassPidfd | PassRights)), nil
}

// inodeOf returns the inode of a socket, 0 if it is closed.
func (m *Memory) inodeOf(sk uint64) (uint64, error) {
	if sk == 0 {
		return 0, nil
	}
	s, err := m.follow(sk, "sock", "sk_socket")
	if err != nil || s == 0 {
		return 0, err
	}
	// struct socket begins what inodes of sockets are in.
	b, err := m.one(s+m.offset("socket_alloc", "vfs_inode")+m.offset("inode", "i_ino"), 8)
	if err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(b), nil
}

// nameOf returns the name of a socket.
func (m *Memory) nameOf(sk uint64) ([]byte, error) {
	const family, most = 2, 110 // of struct sockaddr_un, in bytes
	if sk == 0 {
		return nil, nil
	}
	a, err := m.follow(sk, "unix_sock", "addr")
	if err != nil || a == 0 {
		return nil, err
	}
	b, err := m.one(a+m.offset("unix_address", "len"), 4)
	if err != nil {
		return nil, err
	}
	n := int(int32(binary.NativeEndian.Uint32(b)))
	if n <= family || n > most {
		return nil, nil
	}
	return m.one(a+m.offset("unix_address", "name")+family, n-family)
}

// who reads who has made the connection.
func (m *Memory) who(sk, own uint64, w *Waiting) error {
	pid, err := m.follow(sk, "sock", "sk_peer_pid")
	if err != nil {
		return err
	}
	cred, err := m.follow(sk, "sock", "sk_peer_cred")
	if err != nil || cred == 0 {
		return fmt.Errorf("%w: a connection of nobody (%w)", errGone, err)
	}
	if w.Who.Pid, err = m.number(pid, own); err != nil {
		return err
	}
	ids, err := m.Read(Piece{cred + m.offset("cred", "euid"), 4}, Piece{cred + m.offset("cred", "egid"), 4}, Piece{cred + m.offset("cred", "group_info"), 8})
	if err != nil {
		return err
	}
	w.Who.Uid, w.Who.Gid = binary.NativeEndian.Uint32(ids[0]), binary.NativeEndian.Uint32(ids[1])
	w.Groups, err = m.groups(binary.NativeEndian.Uint64(ids[2]))
	return err
}

func (m *Memory) groups(info uint64) ([]uint32, error) {
	b, err := m.one(info+m.offset("group_info", "ngroups"), 4)
	if err != nil {
		return nil, err
	}
	n := binary.NativeEndian.Uint32(b)
	if n > maxGroups {
		return nil, errGone
	}
	if b, err = m.one(info+m.offset("group_info", "gid"), 4*int(n)); err != nil {
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
func (m *Memory) number(pid, own uint64) (int32, error) {
	if pid == 0 {
		return 0, nil
	}
	b, err := m.one(pid+m.offset("pid", "level"), 4)
	if err != nil {
		return 0, err
	}
	upid := m.types.structs["upid"]
	deepest := binary.NativeEndian.Uint32(b)
	if deepest > 32 { // MAX_PID_NS_LEVEL
		return 0, errGone
	}
	if b, err = m.one(pid+m.offset("pid", "numbers"), (int(deepest)+1)*upid.size); err != nil {
		return 0, err
	}
	for ; len(b) >= upid.size; b = b[upid.size:] {
		if binary.NativeEndian.Uint64(b[upid.at["ns"]:]) == own {
			return int32(binary.NativeEndian.Uint32(b[upid.at["nr"]:])), nil
		}
	}
	return 0, nil
}

// namespace returns the address of the engine's PID namespace: the deepest that
// a socket of its own tells of.
func (m *Memory) namespace() (uint64, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make a socket to learn from: %w", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	self, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return 0, fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(self)
	files, err := m.Files(self)
	if err != nil {
		return 0, err
	}
	pid, err := m.follow(files[int32(pair[0])], "file", "private_data", "socket", "sk", "sock", "sk_peer_pid")
	if err != nil {
		return 0, err
	}
	b, err := m.one(pid+m.offset("pid", "level"), 4)
	if err != nil {
		return 0, err
	}
	at := m.offset("pid", "numbers") + uint64(binary.NativeEndian.Uint32(b))*uint64(m.types.structs["upid"].size)
	if b, err = m.one(pid+at+m.offset("upid", "ns"), 8); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(b), nil
}

// buffer reads one struct sk_buff.
func (m *Memory) buffer(skb, own uint64) (Buffer, error) {
	s := m.types.structs["sk_buff"]
	b, err := m.one(skb, s.size)
	if err != nil {
		return Buffer{}, err
	}
	ne := binary.NativeEndian
	total, apart := ne.Uint32(b[s.at["len"]:]), ne.Uint32(b[s.at["data_len"]:])
	if total > maxData || apart > total {
		return Buffer{}, errGone
	}
	var out Buffer
	if out.Data, err = m.one(ne.Uint64(b[s.at["data"]:]), int(total-apart)); err != nil {
		return Buffer{}, err
	}
	if apart > 0 {
		more, err := m.fragments(ne.Uint64(b[s.at["head"]:])+uint64(ne.Uint32(b[s.at["end"]:])), int(apart))
		if err != nil {
			return Buffer{}, err
		}
		out.Data = append(slices.Clip(out.Data), more...)
	}
	return out, m.parameters(b[s.at["cb"]:], own, &out)
}

// parameters reads what comes along with a buffer (struct unix_skb_parms).
func (m *Memory) parameters(cb []byte, own uint64, out *Buffer) (err error) {
	p, ne := m.types.structs["unix_skb_parms"], binary.NativeEndian
	if len(cb) < p.size {
		return errGone
	}
	pid, fp := ne.Uint64(cb[p.at["pid"]:]), ne.Uint64(cb[p.at["fp"]:])
	if n := ne.Uint32(cb[p.at["consumed"]:]); uint64(n) <= uint64(len(out.Data)) {
		out.Data = out.Data[n:]
	}
	if pid != 0 {
		out.Told, out.Who.Uid, out.Who.Gid = true, ne.Uint32(cb[p.at["uid"]:]), ne.Uint32(cb[p.at["gid"]:])
		if out.Who.Pid, err = m.number(pid, own); err != nil {
			return err
		}
	}
	if fp == 0 {
		return nil
	}
	b, err := m.one(fp+m.offset("scm_fp_list", "count"), 2)
	if err != nil {
		return err
	}
	n := int(ne.Uint16(b))
	if n > maxRights {
		return errGone
	}
	if b, err = m.one(fp+m.offset("scm_fp_list", "fp"), 8*n); err != nil {
		return err
	}
	for ; len(b) >= 8; b = b[8:] {
		out.Files = append(out.Files, ne.Uint64(b))
	}
	return nil
}

// fragments reads the part of a buffer that is in pages of its own. shared is
// where its struct skb_shared_info is.
func (m *Memory) fragments(shared uint64, length int) ([]byte, error) {
	s := m.types.structs["skb_shared_info"]
	f, names := m.types.structs["skb_frag"], []string{"netmem", "len", "offset"}
	if _, ok := f.at["netmem"]; !ok {
		f, names = m.types.structs["bio_vec"], []string{"bv_page", "bv_len", "bv_offset"}
	}
	b, err := m.one(shared, s.size)
	if err != nil {
		return nil, err
	}
	ne := binary.NativeEndian
	if f.size == 0 || ne.Uint64(b[s.at["frag_list"]:]) != 0 {
		return nil, fmt.Errorf("%w: a buffer of several", ErrUnavailable)
	}
	var pieces []Piece
	for i := range int(b[s.at["nr_frags"]]) {
		at := s.at["frags"] + i*f.size
		if at+f.size > len(b) {
			return nil, errGone
		}
		page, n, offset := ne.Uint64(b[at+f.at[names[0]]:]), ne.Uint32(b[at+f.at[names[1]]:]), ne.Uint32(b[at+f.at[names[2]]:])
		to, err := m.address(page)
		if err != nil || n > maxData {
			return nil, fmt.Errorf("%w (%d bytes)", err, n)
		}
		pieces = append(pieces, Piece{to + uint64(offset), int(n)})
	}
	got, err := m.Read(pieces...)
	if err != nil {
		return nil, err
	}
	out := bytes.Join(got, nil)
	if len(out) != length {
		return nil, errGone
	}
	return out, nil
}

// PeerOfPeer returns what a connected unix socket's peer tells of its own one
// (SO_PEERCRED, SO_PEERGROUPS). file is where the kernel has the open file.
func (m *Memory) PeerOfPeer(file uint64) (*unix.Ucred, []uint32, error) {
	own, err := m.namespace()
	if err != nil {
		return nil, nil, err
	}
	peer, err := m.follow(file, "file", "private_data", "socket", "sk", "unix_sock", "peer")
	if err != nil {
		return nil, nil, err
	}
	var w Waiting
	err = m.who(peer, own, &w)
	return &w.Who, w.Groups, err
}
