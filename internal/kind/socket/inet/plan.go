package inet

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	sk_inet "glis.dev/glis/image/criu/sk-inet"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/options"
)

// Plan implements kind.File. Planned must be called after the last one.
func (k *Kind) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	if err := k.read(p.Source, p.Options.RemapAddr); err != nil {
		return err
	}
	if in := e.GetIsk(); in != nil && bare(int(in.GetType()), int(in.GetProto())) {
		if err := k.planBare(p, e); err != nil {
			return fmt.Errorf("files.img: file %#x: inet socket: %w", e.GetId(), err)
		}
		return nil
	}
	n, err := k.node(p, e)
	if err != nil {
		return fmt.Errorf("files.img: file %#x: inet socket: %w", e.GetId(), err)
	}
	k.nodes = append(k.nodes, n)
	if n.live() {
		k.expectStream(p, n)
	}
	if n.unseen.ofOthers() {
		return p.Add(tenant{n})
	}
	return p.Add(n)
}

// read reads what criu's entries have no place for, once.
func (k *Kind) read(src plan.Source, moves []options.RemapAddr) error {
	if k.extras != nil {
		return nil
	}
	k.source = src
	if err := k.readMoves(moves); err != nil {
		return err
	}
	var err error
	if k.extras, err = socket.NewExtras(src); err != nil {
		return err
	}
	return errors.Join(k.readLocal(src), k.readWaiting(src), k.readDatagrams(src), k.readReceived(src))
}

// node checks an entry and makes the node for it.
func (k *Kind) node(p *plan.Plan, e *fdinfo.FileEntry) (*node, error) {
	in := e.GetIsk()
	if in == nil {
		return nil, fmt.Errorf("its entry is missing")
	}
	if in.GetId() != e.GetId() {
		return nil, fmt.Errorf("inside it is called %#x", in.GetId())
	}
	n := &node{sort: sort{family: int(in.GetFamily()), protocol: int(in.GetProto())}, kind: k, id: plan.ID(in.GetId()), entry: factsOf(in)}
	x, err := k.extras.Of(in.GetId())
	if err != nil {
		return nil, err
	}
	hadPeer := n.forget(in)
	n.connected = n.protocol == unix.IPPROTO_TCP && (tcp.Connected(int(n.entry.state)) || x.GetEnded() || hadPeer)
	if err := n.check(in); err != nil {
		return nil, err
	}
	switch more := x.GetProtocol(); {
	case more == unix.IPPROTO_MPTCP && n.protocol == unix.IPPROTO_TCP && (!n.connected || p.Options.TCPClose):
		n.protocol = unix.IPPROTO_MPTCP
	case more != 0:
		return nil, fmt.Errorf("protocol %d in place of %d can't be", more, n.protocol)
	}
	if n.at, err = fromWords(n.family, in.GetSrcAddr(), in.GetSrcPort()); err != nil {
		return nil, err
	}
	n.at = k.move(n.at)
	if n.peer, err = fromWords(n.family, in.GetDstAddr(), in.GetDstPort()); err != nil {
		return nil, err
	}
	n.planPortless()
	if n.owner, err = file.PlanOwner(in.GetFown()); err != nil {
		return nil, err
	}
	n.inode = x.GetInode()
	n.load = k.loader(n.sort)
	opts, err := n.load.LoadMany(socket.Entries{Sock: in.GetOpts(), Inet: withOptions(in)}, k.moveOptions(x.GetOptions()))
	n.opts = &opts
	if err == nil {
		err = n.planGroups(x)
	}
	if err == nil {
		n.unseen, err = k.planUnseen(n.sort, x)
	}
	if err == nil {
		err = n.planEnded(in, x)
	}
	if err == nil && hadPeer && n.at.set() {
		n.ended, err = n.endedOfCRIU(p)
	}
	if err == nil && n.connected && n.ended == nil {
		err = n.planConnection(p)
	}
	if err == nil {
		err = errors.Join(n.planWaiting(p), n.planInbox(x), n.planSharing(x), n.planKeys(x), n.planBesides(x), n.planShutBefore(x), n.planFault(x), n.checkVacant())
	}
	n.forgetOptions()
	return n, err
}

// forget takes away the peer that criu's images tell of a connection which has
// ended, and tells whether there was one.
func (n *node) forget(e *sk_inet.InetSkEntry) bool {
	if n.protocol != unix.IPPROTO_TCP || e.GetState() != closed || e.GetDstPort() == 0 {
		return false
	}
	e.DstPort, e.DstAddr = proto.Uint32(0), make([]uint32, len(e.GetDstAddr()))
	return true
}

// forgetOptions lets what is known by now be collected.
func (n *node) forgetOptions() {
	n.opts.Inet, n.opts.Options = nil, nil
	if e := n.opts.Entry; len(e.GetSoFilter()) == 0 && e.GetSoBoundDev() == "" {
		n.opts.Entry = nil // nothing is attached
	}
	n.opts = n.load.Once(n.opts)
}

// withOptions is an entry's options, all parts of which are there.
func withOptions(in *sk_inet.InetSkEntry) *sk_inet.InetSkEntry {
	if in.IpOpts != nil && in.TcpOpts != nil {
		return in
	}
	out := &sk_inet.InetSkEntry{V6Only: in.V6Only, IpOpts: in.GetIpOpts(), TcpOpts: in.GetTcpOpts()}
	empty := socket.EmptyInet()
	if out.IpOpts == nil {
		out.IpOpts = empty.IpOpts
	}
	if out.TcpOpts == nil {
		out.TcpOpts = empty.TcpOpts
	}
	return out
}

func (k *Kind) loader(s sort) *socket.Loader {
	if k.load[s] == nil {
		k.load[s] = socket.NewLoader(table(s))
	}
	return k.load[s]
}

// check refuses what an entry can't be and what can't be restored yet.
func (n *node) check(e *sk_inet.InetSkEntry) error {
	unsupported := func(what string) error { return fmt.Errorf("%w: %s", kind.ErrUnsupported, what) }
	switch {
	case n.family != unix.AF_INET && n.family != unix.AF_INET6:
		return fmt.Errorf("%s can't be", socket.FamilyName(n.family))
	case e.GetType() == unix.SOCK_DGRAM && n.datagrams():
		if e.GetState() != closed && e.GetState() != established {
			return fmt.Errorf("state %s can't be", socket.StateName(int(e.GetState())))
		}
	case e.GetType() == unix.SOCK_STREAM && n.protocol == unix.IPPROTO_TCP:
		switch state := e.GetState(); {
		case state == tcp.SynRecv, state == tcp.TimeWait, state == 0, state > tcp.Closing:
			return unsupported("a TCP connection in state " + socket.StateName(int(state)))
		case tcp.Connected(int(state)) != (e.GetDstPort() != 0):
			return fmt.Errorf("port %d of a peer in state %s can't be", e.GetDstPort(), socket.StateName(int(state)))
		}
	default:
		return unsupported(fmt.Sprintf("%s of protocol %d", socket.TypeName(int(e.GetType())), n.protocol))
	}
	switch {
	case e.GetBacklog() > math.MaxInt32:
		return fmt.Errorf("a backlog of %d can't be", e.GetBacklog())
	case e.GetShutdown() < 0 || e.GetShutdown() > 3:
		return fmt.Errorf("shutdown state %d can't be", e.GetShutdown())
	case n.listens() && e.GetSrcPort() == 0:
		return fmt.Errorf("it listens at no port: that can't be")
	}
	return nil
}

// Planned notes which sockets of a port come before others: those that are
// were bound once, those that are only bound, those that listen, those that are connected. In repair mode a
// socket is bound whoever else is; a listener isn't. It joins connections both
// ends of which are in the images.
func (k *Kind) Planned() error {
	if err := errors.Join(k.movePeers(), k.readStreams()); err != nil {
		return err
	}
	k.share()
	type place struct {
		ports int
		port  uint16
	}
	bound, listen, gone := map[place][]plan.ID{}, map[place][]plan.ID{}, map[place][]plan.ID{}
	for _, n := range k.nodes {
		switch at := (place{n.ports(), n.at.port}); {
		case n.at.port == 0 || n.connected || n.datagrams():
		case n.vacant():
			gone[at] = append(gone[at], n.id)
		case n.listens():
			listen[at] = append(listen[at], n.id)
		default:
			bound[at] = append(bound[at], n.id)
		}
	}
	for _, n := range k.nodes {
		switch at := (place{n.ports(), n.at.port}); {
		case n.listens():
			n.needs = bound[at]
		case n.live() || n.ended != nil:
			n.needs = append(slices.Clip(bound[at]), listen[at]...)
		}
		if at := (place{n.ports(), n.at.port}); !n.vacant() && len(gone[at]) > 0 {
			n.needs = append(slices.Clip(n.needs), gone[at]...)
		}
	}
	k.extras = nil
	return errors.Join(k.order(), k.checkListeners(), k.join())
}
