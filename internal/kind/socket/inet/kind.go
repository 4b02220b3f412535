// Package inet is the kind of AF_INET and AF_INET6 sockets: TCP, UDP, UDP-Lite, and raw ones.
package inet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	sk_inet "glis.dev/glis/image/criu/sk-inet"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
	"glis.dev/glis/internal/sockmem"
)

// sort is what decides which options a socket has.
type sort struct {
	family, protocol int
	connected        bool // by TCP, or was
	bare             int  // the type of a socket that has no ports, 0 of others
}

// tcpLike tells whether it is TCP, be it Multipath TCP.
func (s sort) tcpLike() bool {
	return s.bare == 0 && (s.protocol == unix.IPPROTO_TCP || s.protocol == unix.IPPROTO_MPTCP)
}

// like makes a new socket of that sort.
func (s sort) like() (int, error) {
	typ := unix.SOCK_STREAM
	switch {
	case s.bare != 0:
		typ = s.bare
	case s.datagrams():
		typ = unix.SOCK_DGRAM
	}
	return unix.Socket(s.family, typ|unix.SOCK_CLOEXEC, s.protocol)
}

// Kind is inet sockets in one dump or one restore: it keeps what it has
// learnt, so the next one needs a new Kind. It is not for use by several
// goroutines at once.
type Kind struct {
	kernels  map[sort]*socket.Kernel
	learning sync.RWMutex
	udp      map[sort]map[uint32]uint8            // how they are shut down, by inode
	bare     map[string]map[uint64]proc.NetSocket // by file of /proc/net, and inode
	labels   []proc.FlowLabel                     // of the network namespace; nil: not asked yet
	devices  map[netip.Addr]string                // interfaces by address; nil: not asked yet
	net      uint64                               // cookie of Glis's network namespace; 0: not asked yet
	inside   map[*scan.Task]map[int32]sockmem.Socket
	cookies  map[sort][]byte           // keys of TCP_FASTOPEN that sockets have which have none of their own
	foreign  map[abroad]bool           // addresses that this machine doesn't have
	ports    map[kmem.Addr]uint32      // numbers of groups that share a port
	alike    *alikes                   // prepared before the freeze; may be nil
	sockets  *sockmem.TCPReader        // may be nil
	unlike   error                     // why that doesn't know all
	ends     map[*scan.File][2]address // of connections that Flows has seen
	room     room
	stills   int             // connections whose images were put
	lastBack []linux.SockOpt // see backOf

	nobody *fown.FownEntry       // see noOwner
	mem    *kmem.Shared          // nil: not there yet
	own    bool                  // it is this kind's own
	held   map[netlock.Flow]bool // flows of waiting connections that are locked
	awaits []*look               // listeners, see LastLook
	feeds  bool                  // datagrams can be put into the queues of sockets
	gates  bool                  // packets can be put into the queues of bare sockets
	admits func() error          // why connections can't be put into the queues of listeners: some 5 ms, the first time

	extras      *socket.Extras // nil: not read yet
	streams     streams
	given       atomic.Pointer[[]clamped]
	unheard     atomic.Pointer[error] // why connections don't hear of what came, see hearCame
	saidUnheard atomic.Bool
	usual       map[sort]*unseen
	moves       map[netip.Addr]netip.Addr // --remap-addr
	moved       map[netip.Addr]bool       // of these, that a socket has
	waiting     map[plan.ID][]*extra.WaitingTCP
	datagrams   map[plan.ID]*inbox
	received    map[plan.ID][]*extra.QueuedMessage
	pings       map[plan.ID]bool // at which errors wait
	feeder      *feeder
	sharing     map[sharing]int // listeners made so far
	choosers    map[sharing]*extra.SocketProgram
	admitter    *tcp.Admitter
	pacing      pacing
	// sockets that only messages have, by inode, and what knows where things are in
	// them if nobody else does
	lones      map[uint64]*lone
	lonely     map[sort]*socket.Alike
	passed     map[heritage]different // of clients that wait
	pingpong   uint32                 // see dialogue; 0: not asked yet
	ownSockets *sockmem.TCPReader
	late       int // how many files of the tree holdLate has seen
	rousing    rousing
	load       map[sort]*socket.Loader
	source     plan.Source
	nodes      []*node
	local      map[netip.Addr]string // interfaces that addresses were on
	reach      map[path]error
	couples    [][2]*node // of which both ends come back
	known      couples
	ways       [2]way           // of the last connections, whose peers can be reached
	asked      bool             // askEnds was
	over       map[*node]string // which connections have come to their end, and how that is known
}

// New returns the kind for one dump or restore.
func New() *Kind {
	return &Kind{kernels: map[sort]*socket.Kernel{}, udp: map[sort]map[uint32]uint8{}, bare: map[string]map[uint64]proc.NetSocket{}, load: map[sort]*socket.Loader{}, usual: map[sort]*unseen{}, sharing: map[sharing]int{}, cookies: map[sort][]byte{}, lones: map[uint64]*lone{}, lonely: map[sort]*socket.Alike{}, choosers: map[sharing]*extra.SocketProgram{}, admits: sync.OnceValue(tcp.Admits)}
}

// Type implements kind.File.
func (k *Kind) Type() fdinfo.FdTypes { return fdinfo.FdTypes_INETSK }

// Match implements kind.File.
func (k *Kind) Match(f *scan.File) bool {
	return f.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK && socket.IsFamily(f, unix.AF_INET, unix.AF_INET6)
}

// look is one socket while it is looked at.
type look struct {
	sort
	kind     *Kind
	env      *kind.DumpEnv
	file     *scan.File
	fd       *fd.FD
	typ      int
	state    int
	backlog  int
	shutdown uint8
	at, peer address
	heard    address // the only one, of a UDP socket without a peer, see portless.go
	opts     socket.Saved
	tcp      tcp.Info
	optmem   uint32     // bytes that the kernel keeps for it
	ended    *ended     // its connection has
	fault    unix.Errno // what waits to be reported at one that isn't connected
	waiting  []*tcp.Waiting
	written  map[netlock.Flow]int // of waiting
	deferred int                  // clients that a listener isn't shown yet
	// A program decides who gets whom of those that share the port, and no other one can.
	decided  bool
	inbox    *inbox
	groups   []*extra.Membership
	keys     []*extra.SocketKey
	cookies  []byte
	readable bool      // something waits to be read
	urgent   bool      // urgent data is among it
	mark     *tcp.Mark // where
	pace     *tcp.Pace // nil if it has none
	sent     uint32    // how many bytes what is urgent of what was sent is the last of
	came     tcp.Came  // what is known of what came
	group    *socket.Group
	put      putter             // nil: kind.Sink.Put
	known    bool               // its group is of UDP
	more     *extra.SocketEntry // what options don't tell
	inside   *kmem.Struct       // its structure; nil: it can't be read
}

// refuse says that the socket can't be carried over.
func (l *look) refuse(why string, args ...any) error {
	return kind.Unsupported(fmt.Sprintf("%v: %s", l.file, socket.Describe(l.fd)), why, args...)
}

// fail adds to an error which socket it is about.
func (l *look) fail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%v: %s: %w", l.file, socket.Describe(l.fd), err)
}

// Dump implements kind.File.
func (k *Kind) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	if f.Within != nil {
		if err := k.holdLate(env); err != nil {
			return nil, err
		}
	}
	if g := k.stillOf(env, f); g != nil {
		if e, err := k.dumpStill(env, f, g); e != nil || err != nil {
			k.alike.still++
			delete(k.alike.tasks[f.Task], f.FD) // nobody looks at it again, and there may be very many
			return e, err
		}
	}
	if g := k.idleOf(env, f); g != nil {
		if e, err := k.dumpIdle(env, f, g); e != nil || err != nil {
			return e, err
		}
	}
	d, err := f.Borrow()
	if err != nil {
		return nil, err
	}
	defer d.Close()
	for range changes {
		e, err := k.dump(env, f, d)
		if errors.Is(err, errBare) {
			return k.dumpBare(env, f)
		}
		if !errors.Is(err, errChanged) {
			if k.alike != nil {
				delete(k.alike.tasks[f.Task], f.FD)
			}
			return e, err
		}
	}
	return nil, fmt.Errorf("%v: %s: %w: are its packets held back (--network-lock)?", f, socket.Describe(d), errChanged)
}

// changes is how often a socket may change its state while it is looked at:
// there is no way that is longer.
const changes = 10

func (k *Kind) dump(env *kind.DumpEnv, f *scan.File, d *fd.FD) (*fdinfo.FileEntry, error) {
	l := &look{kind: k, env: env, file: f, fd: d}
	if l.group = k.groupOf(env, f); l.group == nil {
		l.group = k.udpGroupOf(env, f)
		l.known = l.group.Known() // of the same type and network namespace
	}
	steps := []func() error{l.classify, l.addresses, l.readPortless, l.readOptions, l.checkUnseen, l.checkHidden, l.checkSharing, l.checkState, l.checkShutBefore, l.checkGone, l.checkHeard, l.checkForeign, l.learn, l.learnIdle, l.putStream, l.putExtra, l.expect}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	owner, err := file.ReadOwner(env, f, d)
	if err != nil {
		return nil, err
	}
	return l.entry(owner), nil
}

// classify finds out what the socket is, and refuses what is neither TCP nor
// UDP.
func (l *look) classify() error {
	l.family = int(l.file.Family)
	if l.known {
		l.typ, l.protocol = unix.SOCK_DGRAM, unix.IPPROTO_UDP
		return nil
	}
	if l.group.Known() { // of the same type and network namespace
		l.typ, l.protocol = unix.SOCK_STREAM, unix.IPPROTO_TCP
		return l.lookTCP()
	}
	for _, x := range []struct {
		opt  int
		into *int
	}{{unix.SO_TYPE, &l.typ}, {unix.SO_PROTOCOL, &l.protocol}} {
		v, err := unix.GetsockoptInt(l.fd.Int(), unix.SOL_SOCKET, x.opt)
		if err != nil {
			return l.fail(fmt.Errorf("read option %d of SOL_SOCKET: %w", x.opt, err))
		}
		*x.into = v
	}
	switch {
	case l.typ == unix.SOCK_STREAM && l.tcpLike(), l.typ == unix.SOCK_DGRAM && l.datagrams():
	case bare(l.typ, l.protocol):
		return errBare
	default:
		return l.refuse("only TCP, UDP, UDP-Lite, raw sockets and those of ping are supported; let the process close it before the dump")
	}
	other, err := l.otherNet()
	if err != nil {
		return l.fail(err)
	}
	if other {
		return l.refuse("it is of another network namespace than Glis's: run Glis in that namespace (nsenter -n)")
	}
	if !l.tcpLike() {
		return nil
	}
	return l.lookTCP()
}

// live tells whether it is an end of a connection.
func (l *look) live() bool { return l.tcpLike() && tcp.Connected(l.tcp.State) }

// lookTCP asks for the state of a TCP socket, and refuses connections of
// Multipath TCP, which have no repair mode. One that a listener of it accepted
// from a client that doesn't speak it is TCP.
func (l *look) lookTCP() (err error) {
	if o := l.loneOf(); o != nil {
		err := o.again(l)
		l.tcp = tcp.Info{State: o.state, Backlog: o.backlog, Waiting: o.waiting}
		l.connected = o.connected()
		return err
	}
	if l.tcp, err = tcp.Look(l.fd.Int()); err != nil {
		return l.fail(err)
	}
	l.connected = l.live()
	if l.tcp.State == tcp.Closed && l.protocol == unix.IPPROTO_TCP {
		if l.connected, err = tcp.WasConnected(l.fd.Int()); err != nil {
			return l.fail(err)
		}
	}
	if l.live() && l.protocol == unix.IPPROTO_MPTCP && !l.env.Options.TCPClose {
		return l.refuse("the kernel can't save connections of Multipath TCP (programs in Go: GODEBUG=multipathtcp=0, or sysctl net.mptcp.enabled=0)")
	}
	return nil
}

// readOptions reads the socket's options, and refuses those that a new socket
// can't be given.
func (l *look) readOptions() error {
	k, err := l.kind.kernel(l.sort)
	if err != nil {
		return l.fail(err)
	}
	if l.alike() {
		l.opts, err = l.group.Save(l.fd.Int())
		return l.fail(err)
	}
	if err := l.checkRepair(); err != nil && !l.loneOf().connected() {
		return err
	}
	mem, err := socket.MemInfo(l.fd.Int(), unix.SK_MEMINFO_OPTMEM)
	if err != nil {
		return l.fail(err)
	}
	l.optmem = mem
	// A filter is charged to it.
	values := make([]socket.Value, len(k.Table))
	if err := errors.Join(l.knowSegment(k, values), l.knowLive(k, values)); err != nil {
		return l.fail(err)
	}
	l.opts, err = k.Save(l.fd.Int(), values, mem != 0)
	return l.fail(err)
}

// checkRepair refuses a socket whose process repairs it: nobody would know of
// what it still means to do.
func (l *look) checkRepair() error {
	if l.protocol != unix.IPPROTO_TCP {
		return nil
	}
	n, err := unix.GetsockoptInt(l.fd.Int(), unix.IPPROTO_TCP, unix.TCP_REPAIR)
	if err != nil {
		return l.fail(fmt.Errorf("read TCP_REPAIR: %w", err))
	}
	if n != 0 {
		return l.refuse("it is in repair mode (TCP_REPAIR): let the process leave that first")
	}
	return nil
}

// kernel returns the options of a sort of sockets.
func (k *Kind) kernel(s sort) (*socket.Kernel, error) {
	k.learning.RLock() // connections are made on all CPUs
	known := k.kernels[s]
	k.learning.RUnlock()
	if known != nil {
		return known, nil
	}
	k.learning.Lock()
	defer k.learning.Unlock()
	if known := k.kernels[s]; known != nil {
		return known, nil
	}
	n, err := s.like()
	if err != nil {
		return nil, fmt.Errorf("make a socket to learn from: %w", err)
	}
	defer unix.Close(n)
	learnt, err := socket.NewKernel(table(s), n)
	if err == nil {
		k.kernels[s] = learnt
	}
	return learnt, err
}

// value returns the value of an option that was read.
func (l *look) value(name string) uint64 {
	v, _ := l.kind.kernels[l.sort].Value(l.opts.Values, name)
	return v.Lo
}

// checkState refuses full queues, and notes what is left.
func (l *look) checkState() error {
	if l.datagrams() {
		return l.checkDatagrams()
	}
	info := l.tcp
	if l.live() {
		return l.checkConnection()
	}
	l.state, l.backlog = info.State, info.Backlog
	if l.state == tcp.Closed {
		if err := l.checkClosed(); err != nil {
			return err
		}
	}
	if l.state == tcp.Listening {
		if err := l.dumpWaiting(); err != nil {
			return err
		}
	}
	if err := l.readFault(); err != nil {
		return err
	}
	why, err := tcp.Refusal(l.fd.Int(), info, l.protocol)
	if err == nil {
		err = l.readCookies()
	}
	if err != nil {
		return l.fail(err)
	}
	if why != "" {
		return l.refuse("%s", why)
	}
	return nil
}

// diag asks sock_diag.
func (l *look) diag(ask func(c *sockdiag.Conn) error) error {
	c, err := sockdiag.Open(0)
	if err != nil {
		return l.fail(err)
	}
	defer c.Close()
	return ask(c)
}

// putExtra writes what criu's entry has no place for.
func (l *look) putExtra() error {
	e := l.more
	if e == nil {
		e = &extra.SocketEntry{}
	}
	e.Id, e.Options, e.Inode = &l.file.ID, l.moreOptions(), socket.InodeOf(&l.file.Stat)
	if l.protocol == unix.IPPROTO_MPTCP {
		e.Protocol = proto.Uint32(unix.IPPROTO_MPTCP)
	}
	l.ended.put(e)
	l.inbox.put(e)
	if l.fault != 0 {
		e.Error = proto.Uint32(uint32(l.fault))
	}
	if l.mark != nil {
		e.Urgent = &extra.Urgent{Offset: &l.mark.Offset, Read: &l.mark.Read}
	}
	e.Pace, e.Came = l.pace.Entry(), l.came.Entry()
	if l.sent != 0 {
		e.SentUrgent = &l.sent
	}
	e.Groups, e.Keys, e.Cookies = l.groups, l.keys, l.cookies
	if e.Inode == nil && len(e.Options) == 0 && e.Protocol == nil && e.Ended == nil && e.Error == nil && e.Unsent == nil && e.Groups == nil && e.Keys == nil && e.Cookies == nil && e.Urgent == nil && e.SentUrgent == nil && e.Pace == nil && e.Came == nil && !unusual(e) {
		return nil
	}
	put := l.put
	if put == nil {
		put = l.kind.putter()
	}
	return put(l.env.Images, extra.Sockets, e, nil)
}

// moreOptions are those that criu's entries have no place for, as far as they aren't a
// new socket's. That the peer has closed resets TCP_QUICKACK, so that it is told then.
func (l *look) moreOptions() []*extra.SocketOption {
	if l.ended == nil && !(l.live() && tcp.PeerClosed(l.state)) {
		return l.opts.Options
	}
	return l.kind.kernels[l.sort].Also(&l.opts, "TCP_QUICKACK")
}

// noOwner is the entry of an owner that is nobody, which all share.
func (k *Kind) noOwner() *fown.FownEntry {
	if k.nobody == nil {
		k.nobody = file.NoOwner()
	}
	return k.nobody
}

// entry is the socket as criu writes it. It is one piece of memory: to find many
// takes longer than all else where there are many sockets.
func (l *look) entry(owner *fown.FownEntry) *fdinfo.FileEntry {
	return l.entryIn(new(entryRoom), owner)
}

// entryRoom is an entry with all it points to.
type entryRoom struct {
	file                                                      fdinfo.FileEntry
	isk                                                       sk_inet.InetSkEntry
	ino, family, typ, proto, state, atPort, peerPort, backlog uint32
	at, peer                                                  [4]uint32
}

// entryIn is entry in memory that may have been used before.
func (l *look) entryIn(room *entryRoom, owner *fown.FownEntry) *fdinfo.FileEntry {
	protocol := l.protocol
	if protocol == unix.IPPROTO_MPTCP {
		protocol = unix.IPPROTO_TCP // criu has no other
	}
	*room = entryRoom{
		ino: uint32(l.file.Stat.Ino), family: uint32(l.family), typ: uint32(l.typ), proto: uint32(protocol), state: uint32(l.state),
		atPort: uint32(l.at.port), peerPort: uint32(l.peer.port), backlog: uint32(l.backlog),
	}
	e := &room.isk
	*e = sk_inet.InetSkEntry{
		Id: &l.file.ID, Ino: &room.ino, Family: &room.family, Type: &room.typ, Proto: &room.proto, State: &room.state,
		SrcPort: &room.atPort, DstPort: &room.peerPort, Flags: &l.file.Flags, Backlog: &room.backlog,
		SrcAddr: l.at.words(l.family, &room.at), DstAddr: l.hearing().words(l.family, &room.peer), Fown: owner, Opts: l.opts.Entry,
		V6Only: l.opts.Inet.V6Only, IpOpts: l.opts.Inet.IpOpts, TcpOpts: l.opts.Inet.TcpOpts,
	}
	if l.at.port != 0 && l.at.ip.IsLinkLocalUnicast() && l.family == unix.AF_INET6 {
		e.Ifname = l.opts.Entry.SoBoundDev
	}
	if l.shutdown != 0 {
		e.Shutdown = sk_opts.SkShutdown(l.shutdown).Enum()
	}
	room.file.Isk = e
	return &room.file
}

var _ plan.Node = (*node)(nil)
