package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// A socket that is only in messages which nobody can receive can't be asked, but its
// memory tells its addresses and its state, and its options are found by giving them to a
// new one, see socket.Fitting. That one is dumped in its place: a TCP socket that listens
// (who waits there is read as of others, see waiting.go), is connected (lonelive.go), was
// (ended.go), or never was, and a UDP socket. What is in its queues memory tells, too.

// lone is what is known of such a socket.
type lone struct {
	sk       kmem.Addr
	at, peer address
	heard    address // see portless.go
	state    int
	ended    bool // a connection of TCP that it was an end of
	backlog  int
	waiting  int    // connections to be accepted
	locks    uint32 // of UDP, see lend
}

// errLone says why a socket can't be told of.
type errLone struct{ error }

func noLone(why string, args ...any) error { return errLone{fmt.Errorf(why, args...)} }

// Lone implements kind.Loner.
func (k *Kind) Lone(m *sockmem.Memory, x *sockmem.Lone) (*fd.FD, string, error) {
	if x.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, "", nil
	}
	own, err := k.lone(m, x)
	if why := (errLone{}); errors.As(err, &why) {
		return nil, why.Error(), nil
	}
	return own, "", err
}

func (k *Kind) lone(m *sockmem.Memory, x *sockmem.Lone) (*fd.FD, error) {
	r, err := k.layout()
	if err != nil {
		return nil, noLone("a socket, whose options can't be told (%w)", err)
	}
	sk, err := m.SockAt(x.At)
	if err != nil {
		return nil, err
	}
	was := make([]byte, r.TCP.Size)
	if err := m.ReadAt(was, sk); err != nil {
		return nil, err
	}
	s, layout := sort{family: socket.FamilyOf(r.TCP, was), protocol: unix.IPPROTO_TCP}, r.TCP
	if s.family == unix.AF_UNSPEC && r.TCP.UDP != nil {
		s, layout = sort{family: socket.FamilyOfUDP(r.TCP.UDP, was), protocol: unix.IPPROTO_UDP}, r.TCP.UDP
	}
	if s.family != unix.AF_INET && s.family != unix.AF_INET6 {
		return nil, noLone("a socket that is neither of TCP nor of UDP")
	}
	l, err := k.stateOfLone(s, layout, sk, was)
	if err != nil {
		return nil, err
	}
	ino, err := m.SocketOf(x.At)
	if err != nil {
		return nil, err
	}
	l.sk = sk
	s.connected = l.connected()
	has, err := k.attachedAt(s, sk)
	if err != nil {
		return nil, err
	}
	own, err := k.likeLone(s, r, layout, m, has, was, x.Flags)
	if err == nil {
		k.lones[ino] = l
	}
	return own, err
}

// name is what its protocol is called.
func (s sort) name() string {
	if s.datagrams() {
		return "UDP"
	}
	return "TCP"
}

// layout returns what knows where things are in sockets.
func (k *Kind) layout() (*sockmem.TCPReader, error) {
	if k.sockets != nil {
		return k.sockets, nil
	}
	if k.ownSockets == nil {
		r, err := sockmem.OpenTCP()
		if err != nil {
			return nil, err
		}
		k.ownSockets = r
	}
	return k.ownSockets, nil
}

// stateOfLone reads in which state a socket is, and refuses what has more of it than can
// be told.
func (k *Kind) stateOfLone(s sort, layout *sockmem.TCP, sk kmem.Addr, was []byte) (*lone, error) {
	if s.datagrams() {
		var g udpGlimpse
		if !layout.Datagrams.Picture(was, &g.picture) {
			return nil, noLone("a UDP socket, whose state can't be told")
		}
		l := &lone{state: closed, locks: g.picture.Locks}
		if l.at, l.peer = g.ends(); !l.peer.set() && s.family == unix.AF_INET6 {
			l.heard = address{ip: g.picture.Remote.Addr()}
		}
		return l, nil
	}
	var p sockmem.Picture
	if !layout.Picture.Picture(was, &p) {
		return nil, noLone("a TCP socket, whose state can't be told")
	}
	l := &lone{state: int(p.Word[sockmem.State])}
	l.at, l.peer = endsOf(&p)
	if tcp.Connected(l.state) {
		return l, l.checkLive()
	}
	l.peer = address{}
	if l.state == tcp.Closed && p.Word[sockmem.SegsIn]|p.Word[sockmem.SegsOut] != 0 {
		l.ended = true
		return l, nil
	}
	if p.Word[sockmem.Err]|p.Word[sockmem.Errors]|p.Word[sockmem.Shutdown]|p.Word[sockmem.Repair] != 0 {
		return nil, noLone("a TCP socket at which an error waits, that is shut down, or in repair mode")
	}
	if l.state == tcp.Listening {
		return l, k.listens(l, sk)
	}
	return l, nil
}

// listens reads what is to be known of a listener.
func (k *Kind) listens(l *lone, sk kmem.Addr) error {
	m, err := k.memory()
	if err != nil {
		return noLone("a TCP socket, whose state can't be told (%w)", err)
	}
	own, err := m.Struct("tcp_sock", sk)
	if err != nil {
		return err
	}
	l.waiting = int(own.U32("sock.sk_ack_backlog"))
	l.backlog = int(own.U32("sock.sk_max_ack_backlog"))
	return nil
}

// likeLone makes a socket with the same options as one whose memory is given.
func (k *Kind) likeLone(s sort, r *sockmem.TCPReader, layout *sockmem.TCP, m *sockmem.Memory, has *attached, was []byte, flags uint32) (*fd.FD, error) {
	kernel, err := k.kernel(s)
	if err != nil {
		return nil, err
	}
	learnt, err := k.learnLone(s, kernel, r, layout)
	if err != nil {
		return nil, noLone("a socket, whose options can't be told (%w)", err)
	}
	f := &fitted{Fitting: socket.Fitting{Alike: learnt, Want: was}, sort: s, layout: layout, kernel: kernel, has: has, async: int(flags) & unix.O_ASYNC}
	if err := k.toldInside(f); err != nil {
		return nil, noLone("a socket, whose options can't be told (%w)", err)
	}
	if err := f.prepare(m); err != nil {
		return nil, err
	}
	n, err := f.Try()
	if err == nil && n < 0 {
		err = noLone("a socket of %s with options that aren't found by trying, or of another network namespace", s.name())
	}
	if err != nil {
		return nil, err
	}
	own := fd.New(n)
	if err = f.confirm(n); err == nil {
		err = k.finishAttached(has, s, n)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(n), unix.F_SETFL, int(flags)&^unix.O_ACCMODE)
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// learnLone learns which parts of a socket's memory are options.
func (k *Kind) learnLone(s sort, kernel *socket.Kernel, r *sockmem.TCPReader, layout *sockmem.TCP) (*socket.Alike, error) {
	if known := k.lonely[s]; known != nil {
		return known, nil
	}
	told := unlearnt
	if s.datagrams() {
		told = unlearntUDP
	}
	sample := s.like
	if s.connected {
		sample = s.sample
	}
	learnt, err := socket.LearnAlike(kernel, r.Reader, layout, s.family, sample, told...)
	if err == nil {
		k.lonely[s] = learnt
	}
	return learnt, err
}

// fitted is the search for the options of a socket.
type fitted struct {
	socket.Fitting
	sort
	layout *sockmem.TCP
	kernel *socket.Kernel
	device uint32 // number of the interface that it is bound to, 0 if to none
	has    *attached
	inside *kmem.Reader
	async  int // O_ASYNC, of which a socket's memory tells
	// Of TCP: TCP_MAXSEG of a connection, and the name of its congestion control.
	segment    uint16
	congestion socket.Value
}

// prepare says how sockets are made and read.
func (f *fitted) prepare(m *sockmem.Memory) error {
	beside, err := f.beside(m)
	if err != nil {
		return noLone("a socket, whose options can't be told (%w)", err)
	}
	f.Read = func(own int) ([]byte, error) {
		at, err := m.Sock(own)
		if err != nil {
			return nil, err
		}
		is := make([]byte, len(f.Want))
		err = m.ReadAt(is, at)
		beside(is, f.Want)
		f.has.pretend(f.inside, is, f.Want)
		return is, err
	}
	told, err := f.known()
	if err != nil {
		return err
	}
	f.New = func() (int, error) {
		n, err := f.begin()
		if err != nil {
			return -1, err
		}
		for _, x := range told {
			if err := f.kernel.SetNamed(n, x.Name, x.Value); err != nil {
				return -1, errors.Join(err, unix.Close(n))
			}
		}
		return n, nil
	}
	return nil
}

// begin makes a socket that has what is no option.
func (f *fitted) begin() (n int, err error) {
	if f.connected {
		n, err = f.connect()
	} else if n, err = f.like(); err != nil {
		err = fmt.Errorf("socket: %w", err)
	}
	if err != nil {
		return n, err
	}
	if f.async != 0 {
		_, err = unix.FcntlInt(uintptr(n), unix.F_SETFL, f.async)
	}
	if err == nil && f.device != 0 {
		err = unix.SetsockoptInt(n, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, int(f.device))
	}
	if err == nil {
		err = f.has.begin(f.sort, n)
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("set SO_BINDTOIFINDEX to %d, O_ASYNC, or what is attached: %w", f.device, err), unix.Close(n))
	}
	return n, nil
}

// known returns the options that are known by name.
func (f *fitted) known() (told []socket.Told, err error) {
	if f.connected {
		return nil, f.knownLive()
	}
	hops, p := uint32(0), sockmem.Picture{}
	if f.datagrams() {
		u := sockmem.UDPPicture{}
		f.layout.Datagrams.Picture(f.Want, &u)
		hops = u.HopLimit
	} else {
		f.layout.Picture.Picture(f.Want, &p)
		hops = p.Word[sockmem.HopLimit]
	}
	n, err := f.like()
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(n)
	for _, name := range f.Asked() {
		v, ok := f.word(name, hops, &p)
		switch {
		case ok && v.OK:
			told = append(told, socket.Told{Name: name, Value: v})
		case !ok && f.kernel.Settable(n, name):
			return nil, noLone("a socket, whose %s can't be told", name)
		}
	}
	return told, nil
}

// mostHops is the largest limit that a packet can have.
const mostHops = 255

// word returns the value of an option that memory has by name.
func (f *fitted) word(name string, hops uint32, p *sockmem.Picture) (socket.Value, bool) {
	switch name {
	case "SO_SNDBUF":
		return socket.Uint(p.Word[sockmem.Sndbuf]), true
	case "SO_RCVBUF":
		return socket.Uint(p.Word[sockmem.Rcvbuf]), true
	case "TCP_WINDOW_CLAMP":
		return socket.Uint(p.Word[sockmem.WindowClamp]), true
	case "TCP_QUICKACK": // it has sent nothing, so that only its process can have changed it
		if p.Word[sockmem.Pingpong] != 0 {
			return socket.Uint(0), true
		}
		return socket.Uint(1), true
	case "TCP_CONGESTION":
		return f.congestion, true
	case "IPV6_UNICAST_HOPS":
		if hops > mostHops { // it is -1, of 9 bits or 16: the route's
			return socket.Value{}, true
		}
		return socket.Uint(hops), true
	}
	return socket.Value{}, false
}

// confirm makes sure that what memory tells by name is the same, too.
func (f *fitted) confirm(own int) error {
	is, err := f.Read(own)
	if err != nil || f.datagrams() || f.connected { // which knowLive tells of
		return err
	}
	var a, b sockmem.Picture
	f.layout.Picture.Picture(f.Want, &a)
	f.layout.Picture.Picture(is, &b)
	words := []sockmem.Word{sockmem.Sndbuf, sockmem.Rcvbuf, sockmem.WindowClamp}
	if f.family == unix.AF_INET6 {
		words = append(words, sockmem.HopLimit)
	}
	same := a.Long[sockmem.CongestionOps] == b.Long[sockmem.CongestionOps]
	for _, w := range words {
		same = same && a.Word[w] == b.Word[w]
	}
	if !same {
		return noLone("a TCP socket with a congestion control or a size of its own")
	}
	return nil
}

// loneOf returns what is known of a socket that is dumped in another one's place, nil of
// one that is there itself.
func (l *look) loneOf() *lone { return l.kind.loneIn(l.file) }

func (k *Kind) loneIn(f *scan.File) *lone {
	if f.Within == nil {
		return nil
	}
	return k.lones[f.Stat.Ino]
}

var _ kind.Loner = (*Kind)(nil)
