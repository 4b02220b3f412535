// Package packet is the kind of AF_PACKET sockets, packet(7).
package packet

import (
	"context"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	packet_sock "glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
)

// Kind is packet sockets in one dump or one restore.
type Kind struct {
	kernel *socket.Kernel
	old    *socket.Kernel // of SOCK_PACKET
	mem    *kmem.Shared
	known  map[uint32]sockdiag.Packet // by inode; nil: not asked yet

	extras map[uint32]*extra.SocketEntry // nil: not read yet
	queued map[plan.ID][]*waiting
	load   socket.Loader
}

// New returns the kind for one dump or restore.
func New() *Kind { return &Kind{load: socket.Loader{Table: Table()}} }

// Type implements kind.File.
func (*Kind) Type() fdinfo.FdTypes { return fdinfo.FdTypes_PACKETSK }

// Match implements kind.File.
func (*Kind) Match(f *scan.File) bool {
	return f.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK && socket.IsFamily(f, unix.AF_PACKET)
}

// Options of include/uapi/linux/if_packet.h that x/sys/unix has no name for.
const packetVnetHdrSz = 24 // PACKET_VNET_HDR_SZ, Linux 6.4

// Table is the options of packet sockets, in the order in which they are set.
func Table() socket.Table {
	row := func(name string, opt int) socket.Option {
		return socket.Option{Name: name, Level: unix.SOL_PACKET, Opt: opt, Size: 4, When: socket.Early}
	}
	return append(append(socket.Table{
		row("PACKET_VERSION", unix.PACKET_VERSION),
		row("PACKET_RESERVE", unix.PACKET_RESERVE),
		row("PACKET_AUXDATA", unix.PACKET_AUXDATA),
		row("PACKET_ORIGDEV", unix.PACKET_ORIGDEV),
		row("PACKET_VNET_HDR", unix.PACKET_VNET_HDR),
		row("PACKET_VNET_HDR_SZ", packetVnetHdrSz),
		row("PACKET_LOSS", unix.PACKET_LOSS),
		row("PACKET_TIMESTAMP", unix.PACKET_TIMESTAMP),
		row("PACKET_COPY_THRESH", unix.PACKET_COPY_THRESH),
		row("PACKET_TX_HAS_OFF", unix.PACKET_TX_HAS_OFF),
		row("PACKET_QDISC_BYPASS", unix.PACKET_QDISC_BYPASS),
		// What it has heard before comes again before it is on.
		{Name: "PACKET_IGNORE_OUTGOING", Level: unix.SOL_PACKET, Opt: unix.PACKET_IGNORE_OUTGOING, Size: 4, When: socket.Late},
	}, socket.Common()...), socket.Ends()...)
}

// KernelNames implements kind.MemoryUser.
func (*Kind) KernelNames() []string {
	names := append(append(socket.KernelNames(), ringNames()...), queueNames()...)
	return append(names, // the others only where it is no module
		"?packet_sock", "?packet_sock.fanout", "?packet_fanout", "?packet_fanout.max_num_members", "?packet_fanout.bpf_prog")
}

// UseMemory implements kind.MemoryUser.
func (k *Kind) UseMemory(m *kmem.Shared) { k.mem = m }

// sockPacket is SOCK_PACKET of include/linux/net.h, what there was before
// AF_PACKET: see packet(7).
const sockPacket = 10

// tableOf is the options of sockets of a type: SOCK_PACKET has none of its own.
func tableOf(typ int) socket.Table {
	if typ == sockPacket {
		return append(socket.Common(), socket.Ends()...)
	}
	return Table()
}

// learn returns the options that the kernel has.
func (k *Kind) learn(typ, _ int) (*socket.Kernel, error) {
	into := &k.kernel
	if typ == sockPacket {
		into = &k.old
	} else {
		typ = unix.SOCK_RAW
	}
	if *into != nil {
		return *into, nil
	}
	n, err := unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket to learn from: %w", err)
	}
	defer unix.Close(n)
	*into, err = socket.NewKernel(tableOf(typ), n)
	return *into, err
}

// Dump implements kind.File.
func (k *Kind) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	p, err := socket.LookAt(env, f, k.mem, k.learn)
	if err != nil {
		return nil, err
	}
	defer p.FD.Close()
	known, err := k.about(p)
	if err != nil {
		return nil, p.Fail(err)
	}
	if err := saveDown(p); err != nil {
		return nil, err
	}
	if err := k.saveQueue(p, known.Rx != nil || known.Tx != nil); err != nil {
		return nil, err
	}
	if err := checkGone(p, &known); err != nil {
		return nil, err
	}
	e := &packet_sock.PacketSockEntry{
		Id: &f.ID, Type: proto.Uint32(uint32(p.Type)), Flags: &f.Flags, Fown: p.Owner, Opts: p.Opts.Entry,
	}
	k.putOptions(p, e)
	if err := k.addresses(p, &known, e); err != nil {
		return nil, p.Fail(err)
	}
	if err := socket.Keep(env, f, p.More.Fanout); err != nil {
		return nil, err
	}
	return &fdinfo.FileEntry{Psk: e}, p.Put()
}

// about returns what only sock_diag tells. It asks for all of the namespace,
// once.
func (k *Kind) about(p *socket.Plain) (sockdiag.Packet, error) {
	if k.known == nil {
		c, err := sockdiag.Open(0)
		if err != nil {
			return sockdiag.Packet{}, err
		}
		defer c.Close()
		k.known = map[uint32]sockdiag.Packet{}
		err = c.EachPacket(func(s *sockdiag.Packet) error {
			k.known[s.Ino] = *s
			return nil
		})
		if err != nil {
			return sockdiag.Packet{}, err
		}
	}
	known, ok := k.known[uint32(p.File.Stat.Ino)]
	if !ok {
		return known, fmt.Errorf("sock_diag doesn't tell about it")
	}
	return known, nil
}

// putOptions puts options where criu's entry has them.
func (k *Kind) putOptions(p *socket.Plain, e *packet_sock.PacketSockEntry) {
	t := tableOf(p.Type)
	number := func(name string) *uint32 {
		v, _ := t.Value(p.Opts.Values, name)
		return proto.Uint32(uint32(v.Lo))
	}
	flag := func(name string) *bool { return proto.Bool(*number(name) != 0) }
	e.Version, e.Reserve, e.Timestamp = number("PACKET_VERSION"), number("PACKET_RESERVE"), number("PACKET_TIMESTAMP")
	e.AuxData, e.OrigDev, e.VnetHdr, e.Loss = flag("PACKET_AUXDATA"), flag("PACKET_ORIGDEV"), flag("PACKET_VNET_HDR"), flag("PACKET_LOSS")
}

// addresses reads what the socket gets.
func (k *Kind) addresses(p *socket.Plain, known *sockdiag.Packet, e *packet_sock.PacketSockEntry) error {
	if p.Type == sockPacket { // its address is a name, and doesn't tell the protocol
		e.CopyThresh = proto.Uint32(0)
		e.Protocol, e.Ifindex = proto.Uint32(uint32(bits.ReverseBytes16(known.Protocol))), proto.Uint32(known.Index)
		return nil
	}
	sa, err := unix.Getsockname(p.FD.Int())
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	at, ok := sa.(*unix.SockaddrLinklayer)
	if !ok {
		return fmt.Errorf("its address is a %T", sa)
	}
	e.Protocol, e.Ifindex = proto.Uint32(uint32(at.Protocol)), proto.Uint32(uint32(at.Ifindex))
	e.CopyThresh = proto.Uint32(known.CopyThresh)
	for _, m := range known.Members {
		one := &packet_sock.PacketMclist{Index: proto.Uint32(m.Index), Type: proto.Uint32(uint32(m.Type)), Addr: m.Addr}
		for range m.Count {
			e.Mclist = append(e.Mclist, one)
		}
	}
	e.RxRing, e.TxRing = ring(known.Rx), ring(known.Tx)
	if err := k.rings(p, known, e.GetVersion(), e.GetReserve()); err != nil {
		return err
	}
	return k.fanout(p, known, e)
}

// ring is the form of a ring as images have it.
func ring(r *sockdiag.PacketRing) *packet_sock.PacketRing {
	if r == nil {
		return nil
	}
	number := proto.Uint32
	return &packet_sock.PacketRing{
		BlockSize: number(r.BlockSize), BlockNr: number(r.BlockNr), FrameSize: number(r.FrameSize), FrameNr: number(r.FrameNr),
		RetireTmo: number(r.RetireTmo), SizeofPriv: number(r.SizeofPriv), Features: number(r.Features),
	}
}

// Ways of a fanout to choose a member that are programs, and where they are in
// the option.
const (
	fanoutCBPF = 6
	fanoutEBPF = 7
)

func (k *Kind) fanout(p *socket.Plain, known *sockdiag.Packet, e *packet_sock.PacketSockEntry) error {
	if known.Fanout == nil {
		return nil
	}
	if err := k.fanoutInside(p, int(*known.Fanout>>16&0xff)); err != nil {
		return err
	}
	e.Fanout = known.Fanout
	return nil
}

// fanoutInside reads what no option tells of a fanout group.
func (k *Kind) fanoutInside(p *socket.Plain, way int) error {
	m, err := k.mem.Reader()
	known := err == nil && p.Sock != nil && m.Has("packet_sock.fanout") && m.Has("packet_fanout.bpf_prog")
	chosen := way == fanoutCBPF || way == fanoutEBPF
	if !known && !chosen {
		return nil
	}
	if !known && way == fanoutEBPF {
		return p.Refuse(noMemory)
	}
	if !known {
		return p.Refuse(noProgram)
	}
	at, err := m.Pointer(p.Sock.At + m.Off("packet_sock.fanout"))
	if err != nil {
		return err
	}
	s, err := m.Struct("packet_fanout", at)
	if err != nil {
		return err
	}
	if m.Has("packet_fanout.max_num_members") { // Linux 5.11
		if n := s.U32("packet_fanout.max_num_members"); n != usualMembers {
			p.More.FanoutMembers = &n
		}
	}
	program := s.Pointer("packet_fanout.bpf_prog")
	if !chosen || program == 0 {
		return nil
	}
	if way == fanoutCBPF { // of which the kernel keeps no instructions
		return p.Refuse(noProgram)
	}
	p.More.Fanout, err = socket.ReadProgram(m, program)
	return err
}

// usualMembers is PACKET_FANOUT_MAX: how many members a group may have if
// nothing is said.
const usualMembers = 256

// Why a program that chooses who of a group gets a packet isn't carried over.
const (
	noMemory  = "a program chooses which member of its group gets a packet (PACKET_FANOUT_DATA), which the kernel doesn't give out while its memory can't be read (CAP_BPF, BTF): give Glis that, or let the process leave its group"
	noProgram = "a program of classic BPF chooses which member of its group gets a packet (PACKET_FANOUT_DATA), and the kernel doesn't give it out: use one of eBPF"
)
