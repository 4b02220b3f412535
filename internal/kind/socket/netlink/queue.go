package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
)

// What waits at a netlink socket is sent to it once more, by the socket that sent
// it, or one of the same number. So what the kernel has sent can't come back, as
// nobody else has number 0, nor what came to a group, since all others in the
// group would get it again.

// message is one that waits.
type message struct {
	from uint32
	who  unix.Ucred
	data []byte
}

// name is what tells netlink sockets apart.
type name struct{ protocol, number uint32 }

func (n *node) name() name { return name{n.entry.GetProtocol(), n.entry.GetPortid()} }

// queueNames are the members of the structures that a queue is read by.
func queueNames() []string {
	return []string{"sock_common.skc_state", "netlink_skb_parms", "netlink_skb_parms.creds", "netlink_skb_parms.portid", "netlink_skb_parms.dst_group"}
}

// saveQueue writes down what waits.
func (k *Kind) saveQueue(p *socket.Plain) error {
	return p.Queue(k.mem, func(m *kmem.Reader, b *kmem.Buffer) error {
		cb := b.In("sk_buff.cb")
		from, group := cb.U32("netlink_skb_parms.portid"), cb.U32("netlink_skb_parms.dst_group")
		who := cb.In("netlink_skb_parms.creds").Bytes // struct scm_creds: u32 pid, uid, gid
		pid := binary.NativeEndian.Uint32(who)
		switch {
		case from == 0:
			return p.Refuse("a message of the kernel's is in its queue, and nobody else can send it once more: let the process read it first")
		case group != 0:
			return p.Refuse("a message to group %d is in its queue, and others in the group would get it once more: let the process read it first", group)
		case p.Env.Tree.Task(proc.PID(pid)) == nil:
			return p.Refuse("a message is in its queue of process %d, which isn't in the tree, so that nobody could send it once more: let the process read it first", pid)
		}
		return p.Env.Images.Put(extra.Queued, &extra.QueuedMessage{
			Socket: &p.File.ID, From: &from, Data: b.Data, Who: &extra.SocketCredentials{
				Pid: &pid, Uid: proto.Uint32(binary.NativeEndian.Uint32(who[4:])), Gid: proto.Uint32(binary.NativeEndian.Uint32(who[8:])),
			},
		}, nil)
	})
}

// readQueued reads what saveQueue has written, and what waits at others.
func readQueued(src plan.Source) (map[plan.ID][]*message, error) {
	all, err := src.Entries(extra.Queued)
	out := map[plan.ID][]*message{}
	for _, m := range all {
		e := m.Message.(*extra.QueuedMessage)
		if e.From == nil {
			continue // of another family
		}
		w := e.GetWho()
		if e.GetFrom() == 0 || w.GetPid() == 0 || w.GetPid() > math.MaxInt32 || w.GetUid() == math.MaxUint32 || w.GetGid() == math.MaxUint32 {
			return nil, fmt.Errorf("%s: a message from number %d, process %d, user %d, group %d can't be", extra.Queued.Pattern, e.GetFrom(), w.GetPid(), w.GetUid(), w.GetGid())
		}
		id := plan.ID(e.GetSocket())
		out[id] = append(out[id], &message{from: e.GetFrom(), who: unix.Ucred{Pid: int32(w.GetPid()), Uid: w.GetUid(), Gid: w.GetGid()}, data: e.GetData()})
	}
	return out, err
}

// open makes the socket so that messages can be sent to it.
func (n *node) open(k *socket.Kernel) (*fd.FD, error) {
	num, err := unix.Socket(unix.AF_NETLINK, n.typ|unix.SOCK_CLOEXEC, int(n.entry.GetProtocol()))
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	own := fd.New(num)
	err = n.Begin(own, k)
	if err == nil {
		err = n.take(num)
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// Held implements plan.Stuffed.
func (n *node) Held() []plan.ID {
	if len(n.queue) == 0 {
		return nil
	}
	held := []plan.ID{}
	for _, m := range n.queue {
		if s := n.sender(m); s != nil {
			held = append(held, s.Self)
		}
	}
	return held
}

// sender is the socket that sent a message, nil if it is closed.
func (n *node) sender(m *message) *node { return n.kind.nodes[name{n.entry.GetProtocol(), m.from}] }

// Stuff implements plan.Stuffed: it fills the queue, and gives the socket what
// would be in the way.
func (n *node) Stuff(_ context.Context, env *plan.Env) error {
	own, err := env.File(n.Self)
	if err != nil {
		return err
	}
	k, err := n.kind.learn(0, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(own.Int(), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, math.MaxInt32/2); err != nil {
		return fmt.Errorf("set SO_RCVBUFFORCE: %w", err)
	}
	for _, m := range n.queue {
		if err := n.send(env, m); err != nil {
			return fmt.Errorf("put a message of %d bytes from number %d back: %w", len(m.data), m.from, err)
		}
	}
	return n.Complete(own, k, n.join, "SO_RCVBUF")
}

// send sends a message as it was sent.
func (n *node) send(env *plan.Env, m *message) error {
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: n.entry.GetPortid()}
	send := func(from int) error {
		return unix.Sendmsg(from, m.data, unix.UnixCredentials(&m.who), to, unix.MSG_DONTWAIT)
	}
	if s := n.sender(m); s != nil {
		from, err := env.File(s.Self)
		if err != nil {
			return err
		}
		return send(from.Int())
	}
	from, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(n.entry.GetProtocol()))
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(from)
	if err := unix.Bind(from, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: m.from}); err != nil {
		return fmt.Errorf("bind to that number, as its sender was (is another netlink socket bound to it?): %w", err)
	}
	if err := unix.SetsockoptInt(from, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, math.MaxInt32/2); err != nil {
		return fmt.Errorf("set SO_SNDBUFFORCE: %w", err)
	}
	return send(from)
}
