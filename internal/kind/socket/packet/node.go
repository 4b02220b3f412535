package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	packet_sock "glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// node is a packet socket in a restore.
type node struct {
	socket.PlainNode
	kind  *Kind
	entry *packet_sock.PacketSockEntry
	own   *fd.FD // the engine's own, until it is bound
	queue []*waiting
}

// Plan implements kind.File.
func (k *Kind) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	if k.extras == nil {
		var err error
		if k.extras, err = socket.ReadExtras(p.Source); err != nil {
			return err
		}
		if k.queued, err = readQueued(p.Source); err != nil {
			return err
		}
	}
	n, err := k.node(e)
	if err != nil {
		return fmt.Errorf("files.img: file %#x: packet socket: %w", e.GetId(), err)
	}
	return p.Add(n)
}

func (k *Kind) node(e *fdinfo.FileEntry) (*node, error) {
	in := e.GetPsk()
	if in == nil {
		return nil, errors.New("its entry is missing")
	}
	n := &node{kind: k, entry: in, queue: k.queued[plan.ID(in.GetId())]}
	if err := errors.Join(n.check(), n.checkQueue()); err != nil {
		return nil, err
	}
	load := &k.load
	if n.old() {
		load = &socket.Loader{Table: tableOf(sockPacket)}
	}
	more := k.extras[in.GetId()]
	var err error
	n.PlainNode, err = socket.NewPlainNode(e.GetId(), in.GetId(), in.GetFlags(), in.GetFown(), more, load, socket.Entries{Sock: in.GetOpts()})
	if err == nil {
		err = errors.Join(socket.CheckProgram(more.GetFanout()), n.checkRing(more), n.checkDown())
	}
	if err != nil || n.old() {
		return n, err
	}
	n.takeOptions()
	return n, nil
}

const (
	mostMembers = 4096 // of what a socket gets besides
	mostAddress = 32   // MAX_ADDR_LEN
	mostIndex   = 1<<31 - 1
	mostRing    = 1 << 30 // bytes
)

// check refuses what an entry can't be.
func (n *node) check() error {
	in := n.entry
	switch typ := in.GetType(); {
	case typ != unix.SOCK_RAW && typ != unix.SOCK_DGRAM && !n.old():
		return fmt.Errorf("%w: %s", kind.ErrUnsupported, socket.TypeName(int(typ)))
	case in.GetProtocol() > 1<<16-1:
		return fmt.Errorf("protocol %#x can't be", in.GetProtocol())
	case in.GetIfindex() > mostIndex && !n.gone():
		return fmt.Errorf("interface %d can't be", in.GetIfindex())
	case in.GetVersion() > unix.TPACKET_V3:
		return fmt.Errorf("version %d can't be", in.GetVersion())
	case n.old() && (len(in.GetMclist()) > 0 || in.RxRing != nil || in.TxRing != nil || in.Fanout != nil):
		return errors.New("memberships, rings or a fanout of SOCK_PACKET can't be")
	case n.kind.extras[in.GetId()].GetFanoutMembers() > 1<<16:
		return fmt.Errorf("a fanout group of %d members can't be", n.kind.extras[in.GetId()].GetFanoutMembers())
	case len(in.GetMclist()) > mostMembers:
		return fmt.Errorf("%d memberships, more than %d", len(in.GetMclist()), mostMembers)
	}
	for _, r := range []*packet_sock.PacketRing{in.RxRing, in.TxRing} {
		if uint64(r.GetBlockSize())*uint64(r.GetBlockNr()) > mostRing {
			return fmt.Errorf("a ring of %d blocks of %d bytes is larger than %d bytes", r.GetBlockNr(), r.GetBlockSize(), mostRing)
		}
	}
	for _, m := range in.GetMclist() {
		if len(m.Addr) > mostAddress || m.GetIndex() > mostIndex || m.GetType() > unix.PACKET_MR_UNICAST {
			return fmt.Errorf("a membership of type %d at interface %d with an address of %d bytes can't be", m.GetType(), m.GetIndex(), len(m.Addr))
		}
	}
	return nil
}

// old tells whether it is of SOCK_PACKET.
func (n *node) old() bool { return n.entry.GetType() == sockPacket }

// takeOptions takes over the options that criu's entry has places for.
func (n *node) takeOptions() {
	in, t := n.entry, n.kind.load.Table
	n.Opts.Values = slices.Clone(n.Opts.Values) // it may be shared
	put := func(name string, v uint32) {
		i := slices.IndexFunc(t, func(o socket.Option) bool { return o.Name == name })
		n.Opts.Values[i] = socket.Uint(v)
	}
	flag := func(name string, on bool) {
		if on {
			put(name, 1)
		}
	}
	put("PACKET_VERSION", in.GetVersion())
	put("PACKET_RESERVE", in.GetReserve())
	put("PACKET_TIMESTAMP", in.GetTimestamp())
	flag("PACKET_AUXDATA", in.GetAuxData())
	flag("PACKET_ORIGDEV", in.GetOrigDev())
	flag("PACKET_VNET_HDR", in.GetVnetHdr())
	flag("PACKET_LOSS", in.GetLoss())
}

// String implements plan.Node.
func (n *node) String() string {
	p := n.entry.GetProtocol()
	return fmt.Sprintf("packet socket of protocol %#04x at interface %d", p<<8&0xff00|p>>8, n.entry.GetIfindex())
}

// Create implements plan.Node. It hears nothing yet, see Late.
func (n *node) Create(ctx context.Context, _ *plan.Env) (own *fd.FD, err error) {
	k, err := n.kind.learn(int(n.entry.GetType()), 0)
	if err != nil {
		return nil, err
	}
	protocol := 0
	if n.old() {
		protocol = int(n.entry.GetProtocol())
	}
	num, err := unix.Socket(unix.AF_PACKET, int(n.entry.GetType())|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	own = fd.New(num)
	var touched []string
	if len(n.queue) > 0 {
		touched = []string{"SO_RCVBUF"}
	}
	steps := []func() error{
		func() error { return n.Begin(own, k) },
		func() error { return n.setThreshold(num) },
		func() error { return n.fill(ctx, num) }, // before it has a filter
		func() error { return n.enqueue(ctx, own) },
		func() error { return n.Complete(own, k, func(int) error { return nil }, touched...) },
		func() (err error) { n.own, err = again(num); return err },
	}
	for _, f := range steps {
		if err := f(); err != nil {
			return nil, errors.Join(err, own.Close())
		}
	}
	return own, nil
}

// setThreshold sets what only newer kernels tell of a socket, and older ones by sock_diag(7)
// alone: the smallest packet that comes beside a ring that is full.
func (n *node) setThreshold(own int) error {
	at := n.entry.GetCopyThresh()
	if at == 0 {
		return nil
	}
	if err := unix.SetsockoptInt(own, unix.SOL_PACKET, unix.PACKET_COPY_THRESH, int(at)); err != nil {
		return fmt.Errorf("set PACKET_COPY_THRESH to %d: %w", at, err)
	}
	return nil
}

// again is another descriptor of a socket.
func again(own int) (*fd.FD, error) {
	n, err := unix.FcntlInt(uintptr(own), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate its descriptor: %w", err)
	}
	return fd.New(n), nil
}

// Late implements plan.Later: only now does it hear what comes. Until here the engine
// may have sent packets over the loopback interface which the process is not to see.
func (n *node) Late(context.Context, *plan.Env) error {
	if n.own == nil {
		return nil // nobody has it, so that it was not made: images may say so
	}
	if n.old() {
		return n.bindOld(n.own.Int())
	}
	return n.bind(n.own.Int())
}

// Drop implements plan.Dropper.
func (n *node) Drop() {
	if n.own != nil {
		n.own.Close()
		n.own = nil
	}
}

// bindOld has a socket of SOCK_PACKET, which has its protocol from the
// beginning, hear one interface only. What it has got until then goes.
func (n *node) bindOld(own int) error {
	if n.entry.GetIfindex() == 0 {
		return drain(own)
	}
	i, err := net.InterfaceByIndex(int(n.entry.GetIfindex()))
	if err != nil {
		return fmt.Errorf("bind to interface %d: %w", n.entry.GetIfindex(), err)
	}
	at := make([]byte, 16) // struct sockaddr: family, name
	binary.NativeEndian.PutUint16(at, unix.AF_PACKET)
	copy(at[2:15], i.Name)
	if err := linux.Bind(own, at); err != nil {
		return fmt.Errorf("bind to interface %q: %w", i.Name, err)
	}
	return errors.Join(n.told(own), drain(own))
}

// drain takes what has come.
func drain(own int) error {
	var b [16]byte
	for {
		_, _, err := unix.Recvfrom(own, b[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("empty its queue: %w", err)
		}
	}
}

// rings makes the rings, whose form depends on the version.
func (n *node) rings(own int) error {
	return n.eachRing(func(opt int, r *packet_sock.PacketRing) error {
		req := unix.TpacketReq3{
			Block_size: r.GetBlockSize(), Block_nr: r.GetBlockNr(), Frame_size: r.GetFrameSize(), Frame_nr: r.GetFrameNr(),
			Retire_blk_tov: r.GetRetireTmo(), Sizeof_priv: r.GetSizeofPriv(), Feature_req_word: r.GetFeatures(),
		}
		if err := n.setRing(own, opt, &req); err != nil {
			return fmt.Errorf("make a ring of %d blocks of %d bytes: %w", req.Block_nr, req.Block_size, err)
		}
		return nil
	})
}

// dropRings takes the rings away again.
func (n *node) dropRings(own int) error {
	return n.eachRing(func(opt int, r *packet_sock.PacketRing) error {
		if err := n.setRing(own, opt, &unix.TpacketReq3{}); err != nil {
			return fmt.Errorf("give a ring up: %w", err)
		}
		return nil
	})
}

// eachRing calls a function with each ring that there is, and the option that makes it.
func (n *node) eachRing(do func(opt int, r *packet_sock.PacketRing) error) error {
	for opt, r := range map[int]*packet_sock.PacketRing{unix.PACKET_RX_RING: n.entry.RxRing, unix.PACKET_TX_RING: n.entry.TxRing} {
		if r == nil {
			continue
		}
		if err := do(opt, r); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) setRing(own, opt int, req *unix.TpacketReq3) error {
	if n.entry.GetVersion() == unix.TPACKET_V3 {
		return unix.SetsockoptTpacketReq3(own, unix.SOL_PACKET, opt, req)
	}
	return unix.SetsockoptTpacketReq(own, unix.SOL_PACKET, opt, &unix.TpacketReq{
		Block_size: req.Block_size, Block_nr: req.Block_nr, Frame_size: req.Frame_size, Frame_nr: req.Frame_nr,
	})
}

func (n *node) bind(own int) error {
	at := &unix.SockaddrLinklayer{Protocol: uint16(n.entry.GetProtocol()), Ifindex: int(n.entry.GetIfindex())}
	switch {
	case n.gone():
		if err := bindGone(own, at.Protocol); err != nil {
			return err
		}
	case at.Protocol != 0 || at.Ifindex != 0:
		if err := unix.Bind(own, at); err != nil {
			return fmt.Errorf("bind to interface %d (is it there?): %w", at.Ifindex, err)
		}
	}
	if err := n.told(own); err != nil {
		return err
	}
	for _, m := range n.entry.GetMclist() {
		if err := join(own, m); err != nil {
			return err
		}
	}
	if n.entry.Fanout == nil {
		return nil
	}
	// struct fanout_args: what there was before, and how many members it may
	// have (Linux 5.11).
	args := binary.NativeEndian.AppendUint32(nil, n.entry.GetFanout())
	if most := n.More.GetFanoutMembers(); most != 0 {
		args = binary.NativeEndian.AppendUint32(args, most)
	}
	if err := linux.Setsockopt(own, unix.SOL_PACKET, unix.PACKET_FANOUT, args); err != nil {
		return fmt.Errorf("join the fanout group %#x: %w", n.entry.GetFanout(), err)
	}
	return socket.AttachFanout(own, n.More.GetFanout())
}

// Check implements plan.Checked.
func (n *node) Check(env *plan.CheckEnv) error {
	err := errors.Join(n.PlainNode.Check(env), socket.FindProgram(n.More.GetFanout()))
	if err == nil && n.gone() {
		if err = passes(func(int) error { return nil }); err != nil {
			err = fmt.Errorf("file %#x, %v: its interface is gone: %w", n.Self, n, err)
		}
	}
	if err == nil {
		if err = n.stillDown(); err != nil {
			err = fmt.Errorf("file %#x, %v: %w", n.Self, n, err)
		}
	}
	if err == nil && n.More.GetPlace() != nil {
		if err = reachable(); err != nil {
			err = fmt.Errorf("file %#x, %v: packets have gone through its ring: %w", n.Self, n, err)
		}
	}
	if err == nil && len(n.queue) > 0 {
		if why := tryInject(n.queue[0].device); why != "" {
			err = fmt.Errorf("file %#x, %v: packets wait at it, and can't come again: %s", n.Self, n, why)
		}
	}
	return err
}

// Follow implements plan.Follower.
func (n *node) Follow() error {
	return errors.Join(n.PlainNode.Follow(), socket.LetGo(n.More.GetFanout()))
}

func join(own int, m *packet_sock.PacketMclist) error {
	req := &unix.PacketMreq{Ifindex: int32(m.GetIndex()), Type: uint16(m.GetType()), Alen: uint16(len(m.Addr))}
	if copy(req.Address[:], m.Addr) < len(m.Addr) {
		return fmt.Errorf("a membership with an address of %d bytes isn't supported", len(m.Addr))
	}
	if err := unix.SetsockoptPacketMreq(own, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, req); err != nil {
		return fmt.Errorf("add a membership of type %d at interface %d (is it there?): %w", m.GetType(), m.GetIndex(), err)
	}
	return nil
}
