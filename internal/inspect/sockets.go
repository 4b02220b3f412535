package inspect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	packetsk "glis.dev/glis/image/criu/packet-sock"
	inetsk "glis.dev/glis/image/criu/sk-inet"
	netlinksk "glis.dev/glis/image/criu/sk-netlink"
	skopts "glis.dev/glis/image/criu/sk-opts"
	skpacket "glis.dev/glis/image/criu/sk-packet"
	unixsk "glis.dev/glis/image/criu/sk-unix"
	tcpstream "glis.dev/glis/image/criu/tcp-stream"
)

// describeSocket is describe for sockets.
func (r *reader) describeSocket(f *File, e *fdinfo.FileEntry) (err error) {
	switch u, in, nl, p := e.GetUsk(), e.GetIsk(), e.GetNlsk(), e.GetPsk(); {
	case u != nil:
		f.Flags, f.Socket = r.openWords(u.GetFlags()), unixSocket(u)
		f.Options = socketOptions(u.GetOpts())
		err = r.byInode(f)
	case in != nil:
		f.Flags, f.Options = r.openWords(in.GetFlags()), usuallyOn(in, append(socketOptions(in.GetOpts()), inetOptions(in)...))
		f.Socket, err = inetSocket(in)
	case nl != nil:
		f.Flags, f.Options = r.openWords(nl.GetFlags()), append(socketOptions(nl.GetOpts()), netlinkOptions(nl)...)
		f.Socket = netlinkSocket(nl)
	case p != nil:
		f.Flags, f.Options = r.openWords(p.GetFlags()), append(socketOptions(p.GetOpts()), packetOptions(p)...)
		f.Socket = packetSocket(p)
	default:
		return errNoDetails
	}
	return err
}

func unixSocket(u *unixsk.UnixSkEntry) *Socket {
	const external = 1 << 0 // of uflags: its other end is outside
	s := &Socket{
		Family: "unix", Type: socketTypeWord(u.GetType()), State: unixStateWord(u.GetState()),
		Inode: u.GetIno(), PeerInode: u.GetPeer(), Shutdown: shutdownWord(u.GetShutdown()),
		Local: unixName(u), External: u.GetUflags()&external != 0,
	}
	s.listens(u.GetBacklog())
	return s
}

// listens takes over a backlog; the images have some number for sockets too
// that do not listen.
func (s *Socket) listens(backlog uint32) {
	if s.State == stateListening {
		s.Backlog = backlog
	}
}

// unixName is a socket's address; that of an abstract one begins with '@', as
// tools write it.
func unixName(u *unixsk.UnixSkEntry) string {
	name := string(u.GetName())
	if strings.HasPrefix(name, "\x00") {
		return "@" + name[1:]
	}
	name = strings.TrimRight(name, "\x00")
	if dir := u.GetNameDir(); dir != "" && name != "" && !strings.HasPrefix(name, "/") {
		return strings.TrimRight(dir, "/") + "/" + name
	}
	return name
}

// byInode notes a unix socket by the number that peers call it by.
func (r *reader) byInode(f *File) error {
	s := f.Socket
	if s.Inode != 0 && r.inodes[s.Inode] != nil {
		return fmt.Errorf("there are two sockets with inode %d", s.Inode)
	}
	r.inodes[s.Inode] = f
	return checkName(s.Local)
}

func inetSocket(e *inetsk.InetSkEntry) (*Socket, error) {
	s := &Socket{
		Family: familyWord(e.GetFamily()), Type: socketTypeWord(e.GetType()), Protocol: protocolWord(e.GetProto()),
		Inode: e.GetIno(), Shutdown: shutdownWord(e.GetShutdown()),
	}
	if s.Protocol == "tcp" {
		s.State = tcpStateWord(e.GetState())
		s.listens(e.GetBacklog())
	}
	var err error
	if s.Local, err = address(e.GetSrcAddr(), e.GetSrcPort()); err != nil {
		return nil, fmt.Errorf("its address: %w", err)
	}
	if s.Remote, err = address(e.GetDstAddr(), e.GetDstPort()); err != nil {
		return nil, fmt.Errorf("its peer's address: %w", err)
	}
	return s, nil
}

// address puts an address together; none is "". The words are in the byte
// order of the machine, so their bytes are those of the address.
func address(words []uint32, port uint32) (string, error) {
	if port > 0xffff {
		return "", fmt.Errorf("%d is no port", port)
	}
	var b []byte
	for _, w := range words[:min(len(words), 5)] {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	if len(b) == 0 {
		return "", nil
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return "", fmt.Errorf("%d words are no address", len(words))
	}
	if a.IsUnspecified() && port == 0 {
		return "", nil
	}
	return netip.AddrPortFrom(a, uint16(port)).String(), nil
}

func netlinkSocket(e *netlinksk.NetlinkSkEntry) *Socket {
	s := &Socket{Family: "netlink", Type: "raw", Protocol: netlinkWord(e.GetProtocol()), Inode: e.GetIno()}
	if id := e.GetPortid(); id != 0 {
		s.Local = fmt.Sprintf("port %d", id)
	}
	if id := e.GetDstPortid(); id != 0 {
		s.Remote = fmt.Sprintf("port %d", id)
	}
	return s
}

func packetSocket(e *packetsk.PacketSockEntry) *Socket {
	s := &Socket{Family: "packet", Type: socketTypeWord(e.GetType()), Protocol: fmt.Sprintf("%#04x", e.GetProtocol())}
	if i := e.GetIfindex(); i != 0 {
		s.Local = fmt.Sprintf("interface %d", i)
	}
	return s
}

// readSockets reads what sockets have queued and finds their peers.
func (r *reader) readSockets() error {
	byAddress := map[string]*File{}
	byID := map[uint32]*Socket{}
	for _, f := range r.rep.Files {
		s := f.Socket
		if s == nil {
			continue
		}
		byID[f.ID] = s
		if s.Protocol == "tcp" && s.Remote != "" {
			byAddress[s.Local+" "+s.Remote] = f
			if err := r.tcpQueues(s); err != nil {
				return err
			}
		}
	}
	for _, f := range r.rep.Files {
		if s := f.Socket; s != nil {
			r.peer(s, byAddress)
		}
	}
	err := optional(r, image.SkQueues, nil, func(e *skpacket.SkPacketEntry) error {
		if s := byID[e.GetIdFor()]; s != nil {
			s.Messages++
			add(&s.QueuedBytes, uint64(e.GetLength()))
			for _, c := range e.GetScm() {
				s.QueuedFiles += uint64(len(c.GetRights()))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.extraOptions(byID); err != nil {
		return err
	}
	return r.waiting(byID)
}

func (r *reader) tcpQueues(s *Socket) error {
	err := optional(r, image.TCPStream, []uint32{s.Inode}, func(e *tcpstream.TcpStreamEntry) error {
		s.QueuedBytes, s.UnsentBytes = uint64(e.GetInqLen()), uint64(e.GetOutqLen())
		return nil
	})
	if err != nil {
		return fmt.Errorf("tcp connection %s to %s: %w", s.Local, s.Remote, err)
	}
	return nil
}

// peer finds the other end among the files of the checkpoint.
func (r *reader) peer(s *Socket, byAddress map[string]*File) {
	switch {
	case s.Family == "unix" && s.PeerInode != 0:
		s.peer = r.inodes[s.PeerInode]
	case s.Remote != "" && s.Protocol == "tcp":
		s.peer = byAddress[s.Remote+" "+s.Local]
	}
	if s.peer != nil {
		s.PeerFile = &s.peer.ID
		if s.Family == "unix" {
			s.Remote = s.peer.Socket.Local
		}
	}
}

func shutdownWord(s skopts.SkShutdown) string {
	return [...]string{"", "read", "write", "both"}[uint32(s)&3]
}

var errOptionSize = errors.New("a value longer than any socket option's")
