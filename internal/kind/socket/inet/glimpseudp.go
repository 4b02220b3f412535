package inet

import (
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// Of a UDP socket with nothing in its queues the kernel's memory tells everything
// that system calls do, 16 of them. One look is enough: its owners stand still, and a
// packet that comes after it would have come after the calls, too.
//
// As of connections, memory isn't believed before it has told of one socket of each
// group what system calls did.

// udpGlimpse is what the kernel's memory tells of one UDP socket.
type udpGlimpse struct {
	fd      int32
	owned   bool // somebody is told of I/O, or was
	seen    bool // there is a picture
	group   *socket.Group
	picture sockmem.UDPPicture
}

// udpGlimpses are those of a task, by descriptor: in this order a task's are looked at.
type udpGlimpses []udpGlimpse

func (all udpGlimpses) of(fd int32) *udpGlimpse {
	i, ok := slices.BinarySearchFunc(all, fd, func(g udpGlimpse, fd int32) int { return int(g.fd) - int(fd) })
	if !ok {
		return nil
	}
	return &all[i]
}

// surveyUDP notes the group of a socket, if it is one of UDP.
func (a *alikes) surveyUDP(t *scan.Task, m sockmem.Socket) {
	if len(a.udp) == 0 {
		return
	}
	layout := a.memory.TCP.UDP
	by := a.udp[socket.FamilyOfUDP(layout, m.Sock)]
	if by == nil {
		return
	}
	g := udpGlimpse{fd: m.FD, owned: m.Owned, group: by.Of(m.Sock)}
	g.seen = layout.Datagrams.Picture(m.Sock, &g.picture)
	a.plain[t] = append(a.plain[t], g)
}

// udpGlimpse returns what memory tells of a socket, nil if nothing.
func (k *Kind) udpGlimpse(env *kind.DumpEnv, f *scan.File) *udpGlimpse {
	if !k.surveyed(env, f) {
		return nil
	}
	return k.alike.plain[f.Task].of(f.FD)
}

// udpGroupOf returns the UDP sockets that have the same options as one that is
// dumped, nil if that isn't known.
func (k *Kind) udpGroupOf(env *kind.DumpEnv, f *scan.File) *socket.Group {
	if g := k.udpGlimpse(env, f); g != nil {
		return g.group
	}
	return nil
}

// idleOf returns what memory tells of a UDP socket if that is all, nil if system
// calls have to be made.
func (k *Kind) idleOf(env *kind.DumpEnv, f *scan.File) *udpGlimpse {
	g := k.udpGlimpse(env, f)
	if g == nil || !g.usual() || k.alike.doubt {
		return nil
	}
	return g
}

// usual tells whether memory is all that has to be looked at.
func (g *udpGlimpse) usual() bool { return g.seen && !g.owned && g.picture.Idle }

// udpOptions returns what a socket of a known group has.
func (a *alikes) udpOptions(g *udpGlimpse) (socket.Saved, bool) {
	if !g.group.Known() || !a.sure[g.group] {
		return socket.Saved{}, false
	}
	told := a.told[:0]
	if g.picture.Family == unix.AF_INET6 {
		n, ok := a.hops[g.hops()]
		if !ok {
			return socket.Saved{}, false
		}
		told = append(told, socket.Told{Name: "IPV6_UNICAST_HOPS", Value: n})
	}
	a.told = told
	return g.group.Fill(told)
}

// hops is what decides about IPV6_UNICAST_HOPS.
func (g *udpGlimpse) hops() hops { return hops{g.picture.HopLimit, g.picture.Dst} }

func (g *udpGlimpse) ends() (at, peer address) {
	at = address{g.picture.Local.Addr(), g.picture.Local.Port()}
	if g.picture.Remote.Port() != 0 || g.picture.State == established {
		peer = address{g.picture.Remote.Addr(), g.picture.Remote.Port()}
	}
	return at, peer
}

// dumpIdle dumps a UDP socket without a system call; nil if that can't be done.
func (k *Kind) dumpIdle(env *kind.DumpEnv, f *scan.File, g *udpGlimpse) (*fdinfo.FileEntry, error) {
	opts, ok := k.alike.udpOptions(g)
	if !ok {
		return nil, nil
	}
	l := &look{
		sort: sort{family: int(g.picture.Family), protocol: unix.IPPROTO_UDP},
		kind: k, env: env, file: f, typ: unix.SOCK_DGRAM, opts: opts, group: g.group, known: true,
	}
	if l.value("SO_REUSEPORT") != 0 {
		return nil, nil // its place among others is to be found
	}
	if l.at, l.peer = g.ends(); !l.peer.set() && !g.picture.Remote.Addr().IsUnspecified() {
		return nil, nil // it may hear that address alone, see portless.go
	}
	l.leavePort()
	l.stateOfPeer()
	l.more = k.alike.empty()
	if l.peer.set() {
		lend(g.picture.Locks, l.more)
	}
	if err := l.checkForeign(); err != nil {
		return nil, err
	}
	if len(opts.Options) > 0 || socket.InodeOf(&f.Stat) != nil || unusual(l.more) {
		k.alike.spare = nil
		if err := l.putExtra(); err != nil {
			return nil, err
		}
	}
	k.alike.idle++
	return l.entry(k.noOwner()), nil
}

// empty returns an entry with nothing in it, which is not to be put unless spare is
// given up: most sockets need none.
func (a *alikes) empty() *extra.SocketEntry {
	if a.spare == nil {
		a.spare = &extra.SocketEntry{}
	}
	return a.spare
}

// learnIdle compares what system calls told of a UDP socket with what memory
// does, and notes what else memory doesn't tell by itself.
func (l *look) learnIdle() error {
	if l.protocol != unix.IPPROTO_UDP {
		return nil
	}
	g := l.kind.idleOf(l.env, l.file)
	if g == nil || !l.group.Known() || l.kind.alike.sure[l.group] {
		return nil
	}
	a := l.kind.alike
	if n, ok := l.kind.kernels[l.sort].Value(l.opts.Values, "IPV6_UNICAST_HOPS"); ok {
		a.hops[g.hops()] = n
	}
	a.sure[l.group] = true
	at, peer := g.ends()
	opts, ok := a.udpOptions(g)
	l.confirms(at, peer, opts, ok)
	return nil
}
