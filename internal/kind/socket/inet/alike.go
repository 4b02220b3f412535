package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// severalDescriptors is from how many on it pays to learn which connections
// have the same options: it takes some 15 ms for each family of which there are
// fewConnections on the machine, before the freeze, and saves the reading of
// options, 80 calls a connection, frozen.
const (
	severalDescriptors = 64
	fewConnections     = 16
)

// alikes is the connections that have the same options, by their memory.
type alikes struct {
	memory   *sockmem.TCPReader
	by       map[int]*socket.Alike // by family
	tasks    map[*scan.Task]map[int32]*glimpse
	udp      map[int]*socket.Alike // of UDP sockets
	plain    map[*scan.Task]udpGlimpses
	surveyed bool
	idle     int                // UDP sockets that were dumped by memory alone
	still    int                // connections that were
	spare    *extra.SocketEntry // see empty

	watched    bool // see watch
	twice      bool // all have been compared, and it pays no more to look again
	doubt      bool // memory doesn't tell what system calls do
	clocked    bool
	clock      uint32                  // what time stamps show besides a connection's own offset
	sure       map[*socket.Group]bool  // memory has told of one of the group what system calls did
	room       []byte                  // for queues
	more       int                     // bytes of queues that may be read besides
	told       []socket.Told           // for reuse
	congestion map[uint64]socket.Value // by address
	hops       map[hops]socket.Value
	quick      map[uint32]socket.Value // TCP_QUICKACK by how far it is in a dialogue
}

// unlearnt names the options that change by themselves or depend on more than
// the socket: on the route, or, of congestion control, on what it keeps there.
var unlearnt = []string{"SO_SNDBUF", "SO_RCVBUF", "TCP_WINDOW_CLAMP", "TCP_CONGESTION", "TCP_QUICKACK", "IPV6_UNICAST_HOPS"}

// PrepareFor implements kind.Preparer.
func (k *Kind) PrepareFor(descriptors int, m *sockmem.TCPReader) {
	k.sockets = m
	if descriptors < severalDescriptors || m == nil {
		return
	}
	use, err := proc.SocketsInUse()
	if err != nil {
		k.unlike = err
		return
	}
	k.alike, k.unlike = k.learnAlikes(m, use)
	if k.alike != nil {
		k.alike.makeRoom(descriptors)
	}
	for family, name := range map[int]string{unix.AF_INET: "TCP", unix.AF_INET6: "TCP6"} {
		if use[name] > 0 { // of listeners; what can't be learnt is tried again
			_, _ = k.kernel(sort{family: family, protocol: unix.IPPROTO_TCP})
		}
	}
	if use["TCP"]+use["TCP6"] > 0 {
		k.devices, _ = addresses() // if that fails, putLocal tries it again
	}
}

// learnAlikes learns what it can of families that are in use; it is only there
// to save time.
func (k *Kind) learnAlikes(m *sockmem.TCPReader, use map[string]int) (*alikes, error) {
	a := &alikes{
		memory: m, by: map[int]*socket.Alike{}, tasks: map[*scan.Task]map[int32]*glimpse{},
		udp: map[int]*socket.Alike{}, plain: map[*scan.Task]udpGlimpses{},
		sure: map[*socket.Group]bool{}, congestion: map[uint64]socket.Value{}, hops: map[hops]socket.Value{}, quick: map[uint32]socket.Value{},
	}
	var errs []error
	for family, name := range map[int]string{unix.AF_INET: "TCP", unix.AF_INET6: "TCP6"} {
		if use[name] < fewConnections {
			continue
		}
		if err := k.learnAlike(a, family); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", socket.FamilyName(family), err))
		}
	}
	errs = append(errs, k.learnAlikeUDP(a, use))
	if len(a.by)+len(a.udp) == 0 {
		return nil, errors.Join(errs...)
	}
	return a, errors.Join(errs...)
}

func (k *Kind) learnAlike(a *alikes, family int) error {
	s := sort{family: family, protocol: unix.IPPROTO_TCP, connected: true}
	kernel, err := k.kernel(s)
	if err != nil {
		return err
	}
	learnt, err := socket.LearnAlike(kernel, a.memory.Reader, a.memory.TCP, family, s.sample, unlearnt...)
	if err == nil {
		a.by[family] = learnt
	}
	return err
}

// nobodys is a port that samples are connected to: nothing is ever sent.
const nobodys = 1

// sample makes an end of a connection without a peer, of which nobody hears as
// long as it is in repair mode, in which it is closed.
func (s sort) sample() (int, error) {
	n, err := s.like()
	if err != nil {
		return -1, err
	}
	own := address{ip: loopbackIP(s.family)}
	err = tcp.Repair().Set(n)
	if err == nil {
		err = unix.Bind(n, own.sockaddr(s.family, 0))
	}
	if err == nil {
		err = unix.Connect(n, address{own.ip, nobodys}.sockaddr(s.family, 0))
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(n))
	}
	return n, nil
}

// groupOf returns the connections that have the same options as one that is
// dumped, nil if that isn't known.
func (k *Kind) groupOf(env *kind.DumpEnv, f *scan.File) *socket.Group {
	if k.unlike != nil {
		env.Log.Debug("options of connections are read one by one", "why", k.unlike)
		k.unlike = nil
	}
	if !k.surveyed(env, f) {
		return nil
	}
	if g := k.alike.tasks[f.Task][f.FD]; g != nil {
		return g.group
	}
	return nil
}

// surveyed tells whether memory may tell of a file.
func (k *Kind) surveyed(env *kind.DumpEnv, f *scan.File) bool {
	if k.alike == nil || f.FD < 0 || f.Within != nil {
		return false
	}
	if !k.alike.surveyed {
		k.unlike = k.alike.survey(env)
	}
	return true
}

// survey looks, once, at all sockets of a tree, which stands still, unless SeeSocket was shown
// them: those of a task that could not be looked at then are asked by system calls, as others
// are just peeked at, see PeekAhead.
func (a *alikes) survey(env *kind.DumpEnv) error {
	a.surveyed = true
	var errs []error
	for _, f := range env.Tree.Files {
		if f.Stat.Mode&unix.S_IFMT != unix.S_IFSOCK || f.FD < 0 || f.Within != nil || a.tasks[f.Task] != nil {
			continue
		}
		a.tasks[f.Task] = map[int32]*glimpse{}
		err := a.memory.Each(f.Task.Pidfd.Int(), func(m sockmem.Socket) error {
			a.see(f.Task, m)
			return env.Check()
		})
		if err != nil { // what was seen is right
			errs = append(errs, fmt.Errorf("task %d: %w", f.Task.PID, err))
		}
	}
	return errors.Join(errs...)
}

// SeeSocket implements kind.SocketSeer.
func (k *Kind) SeeSocket(t *scan.Task, m sockmem.Socket) {
	if k.alike != nil {
		k.alike.surveyed = true
		k.alike.see(t, m)
	}
}

// see notes what memory tells of a socket.
func (a *alikes) see(t *scan.Task, m sockmem.Socket) {
	found := a.tasks[t]
	if found == nil {
		found = map[int32]*glimpse{}
		a.tasks[t] = found
	}
	a.surveyUDP(t, m)
	if by := a.by[socket.FamilyOf(a.memory.TCP, m.Sock)]; by != nil {
		g := &glimpse{group: by.Of(m.Sock), owned: m.Owned}
		var p sockmem.Picture
		if a.memory.TCP.Picture.Picture(m.Sock, &p) {
			g.see(&p)
		}
		found[m.FD] = g
	}
}

// learn lets the others of a connection's group have its options, if nothing is
// attached to it.
func (l *look) learn() error {
	e := l.opts.Entry
	usual := l.protocol == unix.IPPROTO_UDP || l.live() && l.protocol == unix.IPPROTO_TCP
	if l.group != nil && !l.group.Known() && usual &&
		l.optmem == 0 && len(e.GetSoFilter()) == 0 && e.GetSoBoundDev() == "" && !rare(l.more) {
		l.group.Learn(l.opts)
	}
	return nil
}

// alike tells whether the connection's options are another's. One that has
// ended meanwhile has some of its own.
func (l *look) alike() bool { return (l.live() || l.protocol == unix.IPPROTO_UDP) && l.group.Known() }
