package netlink

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	sk_netlink "glis.dev/glis/image/criu/sk-netlink"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// node is a netlink socket in a restore.
type node struct {
	socket.PlainNode
	kind  *Kind
	entry *sk_netlink.NetlinkSkEntry
	typ   int
	queue []*message
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
		return fmt.Errorf("files.img: file %#x: netlink socket: %w", e.GetId(), err)
	}
	k.nodes[n.name()] = n
	return p.Add(n)
}

func (k *Kind) node(e *fdinfo.FileEntry) (*node, error) {
	in := e.GetNlsk()
	if in == nil {
		return nil, errors.New("its entry is missing")
	}
	more := k.extras[in.GetId()]
	n := &node{kind: k, entry: in, typ: unix.SOCK_RAW, queue: k.queued[plan.ID(in.GetId())]}
	if more.GetType() != 0 {
		n.typ = int(more.GetType())
	}
	if err := n.check(); err != nil {
		return nil, err
	}
	var err error
	n.PlainNode, err = socket.NewPlainNode(e.GetId(), in.GetId(), in.GetFlags(), in.GetFown(), more, &k.load, socket.Entries{Sock: in.GetOpts()})
	return n, err
}

// protocols is MAX_LINKS of include/uapi/linux/netlink.h.
const protocols = 32

// check refuses what an entry can't be.
func (n *node) check() error {
	in := n.entry
	switch {
	case n.typ != unix.SOCK_RAW && n.typ != unix.SOCK_DGRAM:
		return fmt.Errorf("%s can't be", socket.TypeName(n.typ))
	case in.GetProtocol() >= protocols:
		return fmt.Errorf("protocol %d can't be, there are %d", in.GetProtocol(), protocols)
	case len(in.GetGroups()) > mostGroups/32:
		return fmt.Errorf("%d words of groups, more than %d", len(in.GetGroups()), mostGroups/32)
	case in.GetDstGroup() > 32:
		return fmt.Errorf("it is connected to group %d, there are 32 that it can be", in.GetDstGroup())
	case in.GetPortid() == 0 && (in.GetDstPortid() != 0 || in.GetDstGroup() != 0 || in.GetState() == connected):
		return errors.New("it has a peer, but no number: that can't be")
	case in.GetPortid() == 0 && len(n.queue) > 0:
		return errors.New("messages wait, and it has no number that they could be sent to: that can't be")
	}
	return nil
}

// groups are the numbers of the groups it is in.
func (n *node) groups() []int {
	var out []int
	for i, w := range n.entry.GetGroups() {
		for ; w != 0; w &= w - 1 {
			out = append(out, 32*i+bits.TrailingZeros32(w)+1)
		}
	}
	return out
}

// String implements plan.Node.
func (n *node) String() string {
	s := fmt.Sprintf("netlink socket of protocol %d", n.entry.GetProtocol())
	if id := n.entry.GetPortid(); id != 0 {
		s += fmt.Sprintf(", number %d", id)
	}
	if g := n.groups(); len(g) > 0 {
		s += fmt.Sprintf(", groups %v", g)
	}
	return s
}

// Create implements plan.Node.
func (n *node) Create(context.Context, *plan.Env) (*fd.FD, error) {
	k, err := n.kind.learn(0, 0)
	if err != nil {
		return nil, err
	}
	if len(n.queue) > 0 {
		return n.open(k)
	}
	return n.Make(unix.AF_NETLINK, n.typ, int(n.entry.GetProtocol()), k, n.bind)
}

// bind gives the socket its number, its groups and its peer.
func (n *node) bind(own int) error {
	if n.entry.GetPortid() != 0 {
		if err := n.take(own); err != nil {
			return err
		}
	}
	return n.join(own) // NETLINK_ADD_MEMBERSHIP gives none
}

// take gives the socket its number.
func (n *node) take(own int) error {
	id := n.entry.GetPortid()
	err := unix.Bind(own, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: id})
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("bind to number %d of protocol %d: another netlink socket has it; end the program it belongs to: %w", id, n.entry.GetProtocol(), err)
	}
	if err != nil {
		return fmt.Errorf("bind to number %d: %w", id, err)
	}
	return nil
}

// join gives it its groups and its peer. Messages that its groups get from now on
// are news to it, as they would have been.
func (n *node) join(own int) error {
	for _, g := range n.groups() {
		if err := unix.SetsockoptInt(own, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return fmt.Errorf("join group %d of protocol %d: %w", g, n.entry.GetProtocol(), err)
		}
	}
	return n.connect(own)
}

func (n *node) connect(own int) error {
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: n.entry.GetDstPortid()}
	if g := n.entry.GetDstGroup(); g != 0 {
		to.Groups = 1 << (g - 1)
	}
	if to.Pid == 0 && to.Groups == 0 && n.entry.GetState() != connected {
		return nil
	}
	if err := unix.Connect(own, to); err != nil {
		return fmt.Errorf("connect to number %d, groups %#x: %w", to.Pid, to.Groups, err)
	}
	return nil
}
