package unix

import (
	"fmt"
	"math"
	"strings"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	sk_packet "glis.dev/glis/image/criu/sk-packet"
	sk_unix "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// Flags of a socket in criu's images (uflags).
const (
	flagExternal = 1 << 0
	flagService  = 1 << 1
	flagCallback = 1 << 2
	flagInherit  = 1 << 3
)

// Plan implements kind.File. Planned must be called after the last one.
func (k *Kind) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	if err := k.read(p.Source); err != nil {
		return err
	}
	n, err := k.node(e)
	if err != nil {
		return fmt.Errorf("files.img: file %#x: unix socket: %w", e.GetId(), err)
	}
	n.plan = p
	if k.nodes[n.ino] != nil {
		return fmt.Errorf("files.img: file %#x: unix socket %d is there twice", e.GetId(), n.ino)
	}
	k.nodes[n.ino] = n
	if peer := k.nodes[n.peerIno]; n.peerIno != 0 && peer != nil {
		if err := n.join(peer); err != nil {
			return err
		}
	}
	return p.Add(n)
}

// Planned checks what can only be checked when all sockets are known.
func (k *Kind) Planned() error {
	for _, n := range k.nodes {
		if n.peerIno != 0 && n.peer == nil {
			return fmt.Errorf("files.img: file %#x: unix socket: its peer, socket %d, is missing", uint32(n.id), n.peerIno)
		}
	}
	return nil
}

// read reads the images that sockets share, once.
func (k *Kind) read(src plan.Source) error {
	if k.planned {
		return nil
	}
	k.planned = true
	k.messages, k.extras = map[uint32][]plan.Entry{}, map[uint32]*extra.SocketEntry{}
	packets, err := src.Entries(image.SkQueues)
	if err != nil {
		return err
	}
	for _, m := range packets {
		id := m.Message.(*sk_packet.SkPacketEntry).GetIdFor()
		k.messages[id] = append(k.messages[id], m)
	}
	more, err := src.Entries(extra.Sockets)
	if err != nil {
		return err
	}
	for _, m := range more {
		e := m.Message.(*extra.SocketEntry)
		k.extras[e.GetId()] = e
	}
	return nil
}

// node checks an entry and makes the node for it.
func (k *Kind) node(e *fdinfo.FileEntry) (*node, error) {
	u := e.GetUsk()
	if u == nil {
		return nil, fmt.Errorf("its entry is missing")
	}
	if u.GetId() != e.GetId() {
		return nil, fmt.Errorf("inside it is called %#x", u.GetId())
	}
	if err := check(u); err != nil {
		return nil, err
	}
	owner, err := file.PlanOwner(u.GetFown())
	if err != nil {
		return nil, err
	}
	x := k.extras[u.GetId()]
	opts, err := k.loader.Load(socket.Entries{Sock: u.GetOpts()}, x.GetOptions())
	if err != nil {
		return nil, err
	}
	at, err := addressOf(u, x.GetRoot())
	if err != nil {
		return nil, err
	}
	n := &node{
		kind: k, id: plan.ID(u.GetId()), ino: u.GetIno(), peerIno: u.GetPeer(), typ: int(u.GetType()), flags: int(u.GetFlags()),
		shutdown: uint8(u.GetShutdown()), owner: owner, opts: opts, role: roleOf(u), pending: sys.Errno(x.GetError()),
		queue: refill{typ: int(u.GetType())}, sent: u.GetBacklog(), at: at, inode: x.GetInode(), opened: x.GetListener(), backlog: int(u.GetBacklog()),
	}
	return n, n.addQueue(k.messages[u.GetId()])
}

// roleOf is the inverse of picture.state.
func roleOf(u *sk_unix.UnixSkEntry) role {
	switch {
	case u.GetState() == listening:
		return listener
	case u.GetPeer() != 0:
		return paired
	case u.GetState() == established:
		return orphan
	}
	return alone
}

// check refuses what an entry can't be and what can't be restored yet.
func check(u *sk_unix.UnixSkEntry) error {
	unsupported := func(what string) error { return fmt.Errorf("%w: %s", kind.ErrUnsupported, what) }
	switch t := u.GetType(); t {
	case sys.SOCK_STREAM, sys.SOCK_DGRAM, sys.SOCK_SEQPACKET:
	default:
		return fmt.Errorf("%s can't be", socket.TypeName(int(t)))
	}
	switch {
	case u.GetUflags() != 0:
		return unsupported("it is " + flagNames(u.GetUflags()))
	case u.GetState() == listening:
		return checkListener(u)
	case u.GetState() != established && u.GetState() != closed:
		return fmt.Errorf("state %s can't be", socket.StateName(int(u.GetState())))
	case len(u.GetName()) > 0 && (u.GetState() != closed || u.GetPeer() != 0):
		return unsupported("it is connected and has a name, " + nameString(u.GetName()))
	case u.GetShutdown() > shutBoth || u.GetShutdown() < 0:
		return fmt.Errorf("shutdown state %d can't be", u.GetShutdown())
	case u.GetIno() == 0:
		return fmt.Errorf("inode 0 can't be")
	case u.GetPeer() == u.GetIno():
		return unsupported("it is connected to itself")
	case u.GetPeer() == 0 && u.GetType() != sys.SOCK_DGRAM && u.GetState() == established && u.GetShutdown() != shutBoth:
		return fmt.Errorf("it is connected to nothing and not shut down: that can't be")
	}
	return nil
}

// checkListener is check for a socket that listens.
func checkListener(u *sk_unix.UnixSkEntry) error {
	switch {
	case u.GetType() == sys.SOCK_DGRAM, u.GetPeer() != 0, len(u.GetName()) == 0, u.GetIno() == 0:
		return fmt.Errorf("a %s named %s, connected to socket %d, can't listen", socket.TypeName(int(u.GetType())), nameString(u.GetName()), u.GetPeer())
	case u.GetShutdown() > shutBoth || u.GetShutdown() < 0:
		return fmt.Errorf("shutdown state %d can't be", u.GetShutdown())
	case u.GetBacklog() > math.MaxInt32:
		return fmt.Errorf("a backlog of %d can't be", u.GetBacklog())
	}
	return nil
}

func flagNames(f uint32) string {
	var names []string
	for _, x := range []struct {
		bit  uint32
		name string
	}{
		{flagExternal, "outside of the checkpoint (external)"},
		{flagService, "connected to criu's service"},
		{flagCallback, "restored by a plugin"},
		{flagInherit, "inherited"},
	} {
		if f&x.bit != 0 {
			names = append(names, x.name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("marked by flags %#x, which this Glis doesn't know", f)
	}
	return strings.Join(names, ", ")
}
