package inet

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// Of an ESTABLISHED connection that nothing is unusual about, the kernel's
// memory tells everything that system calls do, 26 of them. So it is read twice:
// two pictures that are the same, with nobody's hand on the socket, are of one moment.
// The first is taken when descriptors are found, the second when packets are held back,
// and what waits to be read is peeked at between the two. Where they differ, as a packet
// came meanwhile, the second is the first of a further two. Whatever isn't as usual is
// looked at by system calls.
//
// That memory tells the same is not taken for granted: of each group of
// connections that are alike the first is asked by system calls, too, and unless
// it is told the same all are asked.

// glimpse is what the kernel's memory tells of one TCP socket.
type glimpse struct {
	group   *socket.Group
	picture sockmem.Picture
	owned   bool   // somebody is told of I/O, or was
	still   bool   // it is usual
	same    bool   // two pictures are
	queue   []byte // what waits to be read, if it is still
}

// What is peeked at before it is known whether the socket stands still: larger
// queues take longer than all else.
const (
	shortQueue = 64 << 10
	allQueues  = 8 << 20
	roomEach   = 4 << 10 // memory for queues that is made before the freeze
	roomMost   = 2 << 20
)

// usual tells whether memory is all that has to be looked at.
func usual(p *sockmem.Picture) bool {
	w := &p.Word
	rare := w[sockmem.Err] | w[sockmem.Errors] | w[sockmem.Shutdown] | w[sockmem.UrgData] | w[sockmem.Repair] |
		w[sockmem.UsecTS] | tcp.AccurateECN(w[sockmem.EcnFlags]) | w[sockmem.SynData] | w[sockmem.FastopenChild]
	in := unread(p)
	return w[sockmem.State] == tcp.Established && rare == 0 && p.Quiet() && p.Long[sockmem.FastopenKeys] == 0 && w[sockmem.WriteSeq] == w[sockmem.SndUna] &&
		w[sockmem.SndNxt] == w[sockmem.SndUna] && in <= shortQueue && (in == 0 || int32(w[sockmem.PeekOff]) < 0) && hasEnds(p)
}

// unread is how many bytes wait to be read.
func unread(p *sockmem.Picture) uint32 {
	return p.Word[sockmem.RcvNxt] - p.Word[sockmem.CopiedSeq]
}

func hasEnds(p *sockmem.Picture) bool {
	local, remote := p.Ends()
	return local.Port() != 0 && remote.Port() != 0 && !local.Addr().IsUnspecified() && !remote.Addr().IsUnspecified()
}

// glimpse returns what memory tells of a socket, nil if nothing.
func (k *Kind) glimpse(f *scan.File) *glimpse {
	if k.alike == nil || f.FD < 0 || f.Within != nil {
		return nil
	}
	return k.alike.tasks[f.Task][f.FD]
}

// PeekAhead implements kind.PeekerAhead.
func (k *Kind) PeekAhead(env *kind.DumpEnv, enough func() bool) error {
	if k.alike == nil || env.Options.TCPClose || k.alike.memory.TCP.Picture == nil {
		return nil
	}
	return k.alike.peekSome(env, enough)
}

// watch takes second pictures of all connections of the tree whose group is known,
// when their packets are held back. It peeks at the queues that nobody has peeked at.
func (a *alikes) watch(env *kind.DumpEnv) error {
	a.watched = true
	if a.memory.TCP.Picture == nil {
		return errors.New("it isn't known where the kernel has the state of connections")
	}
	for again := true; again; {
		if err := errors.Join(a.measureClock(), a.peekAll(env)); err != nil {
			return err
		}
		moved := false
		if err := a.pictures(env, func(g *glimpse, p *sockmem.Picture) { moved = g.compare(p) || moved }); err != nil {
			return err
		}
		again, a.twice = moved && !a.twice, true
	}
	return nil
}

// see takes the first of two pictures.
func (g *glimpse) see(p *sockmem.Picture) {
	g.picture, g.still, g.queue = *p, usual(p), nil
}

// compare takes the second of two pictures, which is the first of another two if it
// isn't the same, and tells whether those might be.
func (g *glimpse) compare(p *sockmem.Picture) (moved bool) {
	if !g.same {
		g.same = g.picture == *p
	}
	if g.same {
		return false
	}
	g.see(p)
	return g.still
}

// pictures takes a picture of every socket that has a group.
func (a *alikes) pictures(env *kind.DumpEnv, fn func(*glimpse, *sockmem.Picture)) error {
	var p sockmem.Picture
	for t, all := range a.tasks {
		err := a.memory.Each(t.Pidfd.Int(), func(m sockmem.Socket) error {
			if g := all[m.FD]; g != nil && a.memory.TCP.Picture.Picture(m.Sock, &p) {
				fn(g, &p)
			}
			return env.Check()
		})
		if err != nil {
			return fmt.Errorf("task %d: %w", t.PID, err)
		}
	}
	return nil
}

// measureClock finds out, once, what the clock of time stamps shows, when packets are held
// back: until then segments leave, and none that a restore sends may have an earlier one.
func (a *alikes) measureClock() error {
	for t, some := range a.tasks {
		for n, g := range some {
			if !g.still || a.clocked || g.picture.Word[sockmem.TstampOK] == 0 {
				continue
			}
			if err := a.readClock(t, n, g); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *alikes) readClock(t *scan.Task, n int32, g *glimpse) error {
	d, err := fd.Borrow(t.Pidfd.Int(), n)
	if err != nil {
		return err
	}
	defer d.Close()
	now, err := unix.GetsockoptInt(d.Int(), unix.IPPROTO_TCP, unix.TCP_TIMESTAMP)
	if err != nil {
		return fmt.Errorf("read TCP_TIMESTAMP: %w", err)
	}
	a.clock, a.clocked = tcp.ClockOf(uint32(now), g.picture.Word[sockmem.Tsoffset]), true
	return nil
}

// makeRoom gets memory for what waits to be read, page by page, as the kernel
// would else find it in frozen time.
func (a *alikes) makeRoom(connections int) {
	a.room, a.more = make([]byte, min(connections*roomEach, roomMost)), allQueues
	for i := 0; i < len(a.room); i += os.Getpagesize() {
		a.room[i] = 1
	}
}

// queued is a connection with something to be read.
type queued struct {
	task *scan.Task
	fd   int32
	*glimpse
}

// peekSome reads what waits to be read at connections that are still, one after the
// other, until there is enough of it.
func (a *alikes) peekSome(env *kind.DumpEnv, enough func() bool) error {
	for t, some := range a.tasks {
		for n, g := range some {
			if enough() {
				return nil
			}
			if q, ok := a.toPeek(t, n, g); ok {
				q.peek()
			}
			if err := env.Check(); err != nil {
				return err
			}
		}
	}
	return nil
}

// peekAll reads all that nobody has read, on all CPUs.
func (a *alikes) peekAll(env *kind.DumpEnv) error {
	var all []queued
	for t, some := range a.tasks {
		for n, g := range some {
			if q, ok := a.toPeek(t, n, g); ok {
				all = append(all, q)
			}
		}
	}
	return par.Do(len(all), func(i int) error {
		all[i].peek()
		return env.Check()
	})
}

// toPeek makes room for what waits to be read at a connection; false if nothing does, if
// somebody has read it, or if it is too much.
func (a *alikes) toPeek(t *scan.Task, n int32, g *glimpse) (q queued, ok bool) {
	in := int(unread(&g.picture))
	if !g.still || g.same || in == 0 || g.queue != nil {
		return queued{}, false
	}
	if in <= len(a.room) {
		g.queue, a.room = a.room[:in:in], a.room[in:]
	} else {
		a.more -= in
		g.still = a.more >= 0
	}
	return queued{t, n, g}, g.still
}

// peek reads the queue; the socket isn't still if it isn't as long as expected.
func (q *queued) peek() {
	d, err := fd.Borrow(q.task.Pidfd.Int(), q.fd)
	if err != nil {
		q.still = false
		return
	}
	defer d.Close()
	if q.queue == nil {
		q.queue = make([]byte, unread(&q.picture))
	}
	q.still = tcp.Peek(d.Int(), q.queue) == nil
}

// stillOf returns what memory tells of a connection if that is all, nil if
// system calls have to be made.
func (k *Kind) stillOf(env *kind.DumpEnv, f *scan.File) *glimpse {
	g := k.glimpse(f)
	if g == nil || env.Options.TCPClose {
		return nil
	}
	if !k.alike.watched {
		if err := k.alike.watch(env); err != nil {
			k.distrust(env, err)
		}
	}
	if !g.still || !g.same || k.alike.doubt {
		return nil
	}
	return g
}

// distrust has all that is dumped from now on be asked by system calls.
func (k *Kind) distrust(env *kind.DumpEnv, why error) {
	k.alike.doubt = true
	env.Log.Debug("the state of connections is asked one by one", "why", why)
}

// dumpStill dumps a connection without a system call; nil if that can't be done.
func (k *Kind) dumpStill(env *kind.DumpEnv, f *scan.File, g *glimpse) (*fdinfo.FileEntry, error) {
	opts, ok := k.alike.options(g)
	if !ok {
		return nil, nil
	}
	r, put := k.roomForStill()
	l := &r.look
	*l = look{
		sort: sort{family: int(g.picture.Family), protocol: unix.IPPROTO_TCP, connected: true},
		kind: k, env: env, file: f, typ: unix.SOCK_STREAM, state: tcp.Established, opts: opts, group: g.group, put: put,
	}
	if l.value("TCP_SAVE_SYN") != 0 {
		return nil, nil
	}
	l.at, l.peer = endsOf(&g.picture)
	s := r.stream.From(&g.picture, k.alike.clock, g.queue)
	g.queue, l.pace, l.came = nil, s.Pace, s.Came
	if err := env.Guard.Leave(f, tcp.Repair(), k.backOf(l)...); err != nil {
		return nil, err
	}
	r.extra.Reset()
	l.more = &r.extra
	if err := l.putLocal(); err != nil {
		return nil, err
	}
	if err := put(env.Images, image.TCPStream, s.Entry, s.Queues, uint32(f.Stat.Ino)); err != nil {
		return nil, err
	}
	if err := l.putExtra(); err != nil {
		return nil, err
	}
	owner := k.noOwner()
	if g.owned {
		d, err := f.Borrow()
		if err != nil {
			return nil, err
		}
		defer d.Close()
		if owner, err = file.ReadOwner(env, f, d); err != nil {
			return nil, err
		}
	}
	return l.entryIn(&r.entry, owner), nil
}

// room is memory for a connection that is dumped without a system call: thousands of
// them use it in turn.
type room struct {
	look   look
	stream tcp.Room
	extra  extra.SocketEntry
	entry  entryRoom
}

// roomForStill returns memory for one more, and how its images are put. Those that
// may be rehearsed have memory of their own.
func (k *Kind) roomForStill() (*room, putter) {
	put := k.putterOfNext()
	if k.stills <= mostRehearsed+1 {
		return new(room), put
	}
	return &k.room, put
}

// putterOfNext is putter for one more connection.
func (k *Kind) putterOfNext() putter {
	k.stills++
	return k.putter()
}

// putter returns how images of a socket are put: where there are more connections than a
// restore is rehearsed of, or as many listeners, they are encoded, which takes a tenth of the memory.
func (k *Kind) putter() putter {
	if max(k.stills, len(k.awaits)) <= mostRehearsed+1 {
		return kind.Sink.Put
	}
	return kind.PutNow
}

// putter is kind.Sink.Put or kind.PutNow.
type putter func(s kind.Sink, row *image.Row, m proto.Message, payload []byte, ids ...uint32) error

// Reused implements kind.Reuser. A program that is attached takes up to 32 KiB.
func (k *Kind) Reused(e *fdinfo.FileEntry) bool {
	return e == &k.room.entry.file || len(e.GetIsk().GetOpts().GetSoFilter()) > 0
}

// backOf is what undoes the changes that a dump leaves, the same for most.
func (k *Kind) backOf(l *look) []linux.SockOpt {
	back := l.back()
	if slices.Equal(back, k.lastBack) {
		return k.lastBack
	}
	k.lastBack = back
	return back
}

func endsOf(p *sockmem.Picture) (at, peer address) {
	local, remote := p.Ends()
	return address{local.Addr(), local.Port()}, address{remote.Addr(), remote.Port()}
}

// options returns what a connection of a known group has, with what its memory
// tells of the options that each has for itself.
func (a *alikes) options(g *glimpse) (socket.Saved, bool) {
	if !g.group.Known() || !a.sure[g.group] {
		return socket.Saved{}, false
	}
	w := &g.picture.Word
	told := a.told[:0]
	congestion, ok := a.congestion[g.picture.Long[sockmem.CongestionOps]]
	quick, too := a.quick[w[sockmem.Pingpong]]
	if !ok || !too {
		return socket.Saved{}, false
	}
	told = append(told,
		socket.Told{Name: "SO_SNDBUF", Value: socket.Uint(w[sockmem.Sndbuf])}, socket.Told{Name: "SO_RCVBUF", Value: socket.Uint(w[sockmem.Rcvbuf])},
		socket.Told{Name: "TCP_WINDOW_CLAMP", Value: socket.Uint(w[sockmem.WindowClamp])}, socket.Told{Name: "TCP_CONGESTION", Value: congestion},
		socket.Told{Name: "TCP_QUICKACK", Value: quick})
	if g.picture.Family == unix.AF_INET6 {
		hops, ok := a.hops[hopsOf(&g.picture)]
		if !ok {
			return socket.Saved{}, false
		}
		told = append(told, socket.Told{Name: "IPV6_UNICAST_HOPS", Value: hops}, socket.Told{Name: "IPV6_V6ONLY", Value: socket.Uint(w[sockmem.V6Only])})
	}
	a.told = told
	return g.group.Fill(told)
}

// hops is what decides about IPV6_UNICAST_HOPS.
type hops struct {
	own uint32
	dst uint64
}

func hopsOf(p *sockmem.Picture) hops { return hops{p.Word[sockmem.HopLimit], p.Long[sockmem.Dst]} }

// learnStill compares what system calls told of a connection with what memory
// does, and notes what else memory doesn't tell by itself.
func (l *look) learnStill(s *tcp.Stream) {
	g := l.kind.glimpse(l.file)
	if g == nil || !g.still || !g.same || !l.group.Known() {
		return
	}
	a := l.kind.alike
	v := l.opts.Values
	if n, ok := l.kind.kernels[l.sort].Value(v, "TCP_CONGESTION"); ok {
		a.congestion[g.picture.Long[sockmem.CongestionOps]] = n
	}
	if n, ok := l.kind.kernels[l.sort].Value(v, "IPV6_UNICAST_HOPS"); ok {
		a.hops[hopsOf(&g.picture)] = n
	}
	if n, ok := l.kind.kernels[l.sort].Value(v, "TCP_QUICKACK"); ok {
		a.quick[g.picture.Word[sockmem.Pingpong]] = n
	}
	a.sure[l.group] = true
	at, peer := endsOf(&g.picture)
	told := tcp.FromPicture(&g.picture, a.clock, g.queue)
	opts, ok := a.options(g)
	if l.confirms(at, peer, opts, ok) && !s.Same(told) {
		l.kind.distrust(l.env, fmt.Errorf("%v: %v, but its memory tells %v", l.file, s.Numbers(), told.Numbers()))
	}
}

// confirms compares what system calls told of a socket with what memory does: its
// addresses, and its options if they are known. False: its group is not believed, or
// nothing is.
func (l *look) confirms(at, peer address, opts socket.Saved, known bool) bool {
	switch {
	case !known: // system calls go on
		delete(l.kind.alike.sure, l.group)
	case at != l.at || peer != l.peer:
		l.kind.distrust(l.env, fmt.Errorf("%v has other addresses than its memory tells", l.file))
	case !opts.Same(&l.opts):
		l.kind.distrust(l.env, fmt.Errorf("%v has other options than its memory tells", l.file))
	default:
		return true
	}
	return false
}
