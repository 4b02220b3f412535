package unix

import (
	"bytes"
	"fmt"
	"math"
	"strings"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	sk_packet "glis.dev/glis/image/criu/sk-packet"
	sk_unix "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
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

// restorer is what a restore knows of all unix sockets.
type restorer struct {
	planned    bool // the images below are read
	loader     socket.Loader
	nodes      map[uint32]*node // by inode
	order      []*node          // in order of the images
	byID       plan.ByID[*node]
	self       plan.Identity // the engine's user and group
	messages   map[uint32][]plan.Entry
	extras     *socket.Extras
	identities []*plan.Identity
	outside    map[uint32]*address     // peers that are outside of the tree, by inode
	callers    map[uint32][]plan.Entry // connections, by their listeners
	contents   map[plan.ID]bool        // files that are in queues
	temporary  map[string][]*node      // sockets that need an abstract name for a moment, see needsName
	bearers    map[string]*node        // datagram sockets, by their abstract names; nil until somebody asks
	connecting map[uint32]int32        // numbers of processes that have connected, by those in the images, see connected
	askPeer    func(*fd.FD) (uint32, error)
	room       *room
	stuffed    bool
}

// Plan implements kind.File. Planned must be called after the last one.
func (k *Kind) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	if err := k.read(p); err != nil {
		return err
	}
	u := e.GetUsk()
	if u.GetUflags() == flagExternal {
		if err := k.planOutside(u); err != nil {
			return fmt.Errorf("files.img: file %#x: unix socket: %w", e.GetId(), err)
		}
		return nil
	}
	if g := p.InheritedInode("socket", u.GetIno()); g != nil {
		return p.Add(newHeir(plan.ID(e.GetId()), g, u))
	}
	n, err := k.node(e)
	if err != nil {
		return fmt.Errorf("files.img: file %#x: unix socket: %w", e.GetId(), err)
	}
	n.plan = p
	before := len(k.nodes)
	if k.nodes[n.ino] = n; len(k.nodes) == before {
		return fmt.Errorf("files.img: file %#x: unix socket %d is there twice", e.GetId(), n.ino)
	}
	*k.byID.At(n.id) = n
	k.order = append(k.order, n)
	for _, path := range n.at.files() {
		p.Binds(path, n.id)
	}
	return p.Add(n)
}

// called returns the socket of a number, nil if there is none.
func (k *Kind) called(id plan.ID) *node {
	if at := k.byID.Find(id); at != nil {
		return *at
	}
	return nil
}

// read reads the images that sockets share, once.
func (k *Kind) read(p *plan.Plan) error {
	if k.planned {
		return nil
	}
	src := p.Source
	k.self = plan.Identity{UID: uint32(sys.Geteuid()), GID: uint32(sys.Getegid())}
	k.nodes = make(map[uint32]*node, p.Expected())
	k.byID.Expect(p.Expected())
	k.planned, k.outside = true, map[uint32]*address{}
	k.messages = map[uint32][]plan.Entry{}
	k.contents, k.temporary = map[plan.ID]bool{}, map[string][]*node{}
	packets, err := src.Entries(image.SkQueues)
	if err != nil {
		return err
	}
	for _, m := range packets {
		id := m.Message.(*sk_packet.SkPacketEntry).GetIdFor()
		k.messages[id] = append(k.messages[id], m)
	}
	if k.extras, err = socket.NewExtras(src); err != nil {
		return err
	}
	k.callers = map[uint32][]plan.Entry{}
	arrivals, err := src.Entries(extra.Waiting)
	if err != nil {
		return err
	}
	for _, m := range arrivals {
		id := m.Message.(*extra.WaitingConnection).GetListener()
		k.callers[id] = append(k.callers[id], m)
	}
	return k.readIdentities(src)
}

func (k *Kind) readIdentities(src plan.Source) error {
	entries, err := src.Entries(extra.Identities)
	if err != nil {
		return err
	}
	for i, m := range entries {
		who, err := identityOf(m.Message.(*extra.SocketIdentity))
		if err != nil {
			return fmt.Errorf("glis-identities.img: identity %d: %w", i+1, err)
		}
		k.identities = append(k.identities, who)
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
	x, err := k.extras.Of(u.GetId())
	if err != nil {
		return nil, err
	}
	opts, err := k.loader.Load(socket.Entries{Sock: u.GetOpts()}, x.GetOptions())
	if err != nil {
		return nil, err
	}
	n := &node{
		kind: k, id: plan.ID(u.GetId()), ino: u.GetIno(), typ: int(u.GetType()), flags: int(u.GetFlags()),
		shutdown: uint8(u.GetShutdown()), owner: owner, opts: opts, pending: sys.Errno(x.GetError()), more: unseen(x),
		queue: refill{typ: int(u.GetType())}, sent: u.GetBacklog(), inode: x.GetInode(), peerName: x.GetPeerName(), met: x.GetMet(),
	}
	if err := n.connection(u, x); err != nil {
		return nil, err
	}
	if err := checkUnseen(n.typ, x); err != nil {
		return nil, err
	}
	if err := checkName(n.peerName); err != nil {
		return nil, fmt.Errorf("its peer's name: %w", err)
	}
	if n.at, err = addressOf(u, x); err != nil {
		return nil, err
	}
	if err := k.setWho(n, x); err != nil {
		return nil, err
	}
	if err := n.addArrivals(k.callers[u.GetId()]); err != nil {
		return nil, err
	}
	return n, n.addQueue(k.messages[u.GetId()])
}

// checkName refuses what can't be the name of any socket.
func checkName(name []byte) error {
	if len(name) > maxName || isPath(name) && bytes.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("%.120q can't be a name", name)
	}
	return nil
}

// setWho finds out who the socket's peer is. Images of criu don't tell.
func (k *Kind) setWho(n *node, x *extra.SocketEntry) error {
	number := x.GetWho()
	if (x == nil || x.Who == nil) && n.typ != sys.SOCK_DGRAM && n.role != alone && len(k.identities) > 0 {
		number = 1
	}
	if uint64(number) > uint64(len(k.identities)) {
		return fmt.Errorf("its peer is identity %d, and there are %d", number, len(k.identities))
	}
	if number > 0 {
		n.who = k.identities[number-1]
	}
	return nil
}

// roleOf is the inverse of picture.state.
func roleOf(u *sk_unix.UnixSkEntry, peer uint32) role {
	switch {
	case u.GetState() == listening:
		return listener
	case peer != 0:
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
	case u.GetShutdown() > shutBoth || u.GetShutdown() < 0:
		return fmt.Errorf("shutdown state %d can't be", u.GetShutdown())
	case u.GetIno() == 0:
		return fmt.Errorf("inode 0 can't be")
	case u.GetPeer() == u.GetIno() && u.GetType() != sys.SOCK_DGRAM:
		return fmt.Errorf("it is connected to itself: that can't be")
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
