// Package unix is the kind of AF_UNIX sockets.
package unix

import (
	"context"
	"errors"
	"fmt"
	"sync"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	sk_unix "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
)

// Kind is AF_UNIX sockets in one dump or one restore: it keeps what it has
// learnt, so the next one needs a new Kind. It is not for use by several
// goroutines at once.
type Kind struct {
	picture picture
	seen    survey
	glance  glance
	mem     *kmem.Shared
	own     bool // it is this kind's own
	kernel  *socket.Kernel
	values  []socket.Value
	spare   *extra.SocketEntry // with nothing in it; may be nil
	rooms   sync.Pool          // for control messages
	nobody  *fown.FownEntry    // shared by all that have no owner
	sizes   map[sizeKey]uint32
	marking *bool // SIOCATMARK shows what is read, too; nil: it wasn't tried yet

	gathered   bool
	ungathered error                       // why it failed
	kept       int                         // bytes of long queues, see isFar
	queues     map[uint32]*queued          // what is queued, by inode
	ahead      map[uint32]bool             // it is known what is, see readAhead
	arrived    map[uint32][]*arrived       // connections to be accepted, by the listener's inode
	unheld     map[uint32]*unheld          // sockets that only such connections have, by inode
	strangers  map[uint32]*stranger        // peers outside of the tree, by inode
	connectors map[uint32]*connector       // of sockets whose peer is one
	senders    map[string][]*sockdiag.Unix // by name, see sending
	known      map[identityKey]uint32
	groups     []byte

	restorer
}

// New returns the kind for one dump or restore.
func New() *Kind {
	return &Kind{
		sizes: map[sizeKey]uint32{}, seen: survey{from: many}, queues: map[uint32]*queued{}, known: map[identityKey]uint32{},
		restorer: restorer{nodes: map[uint32]*node{}, loader: socket.Loader{Table: Table()}, connecting: map[uint32]int32{}, askPeer: askPeer},
	}
}

// Table is the options of a unix socket.
func Table() socket.Table {
	return append(append(socket.Common(), socket.Passing()...), socket.Ends()...)
}

// Type implements kind.File.
func (k *Kind) Type() fdinfo.FdTypes { return fdinfo.FdTypes_UNIXSK }

// Match implements kind.File.
func (k *Kind) Match(f *scan.File) bool {
	if f.Stat.Mode&sys.S_IFMT != sys.S_IFSOCK || f.Flags&sys.O_PATH != 0 {
		return false
	}
	if f.FD >= 0 {
		return socket.IsFamily(f, sys.AF_UNIX)
	}
	u, err := k.picture.get(uint32(f.Stat.Ino))
	f.NoFamily = err
	return err == nil && u != nil
}

// Dump implements kind.File.
func (k *Kind) Dump(_ context.Context, env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	if err := k.gather(env); err != nil {
		return nil, err
	}
	if s := k.strangers[uint32(f.Stat.Ino)]; s != nil && f.FD < 0 {
		return k.dumpStranger(f, s), nil
	}
	u, err := k.picture.get(uint32(f.Stat.Ino))
	if err != nil {
		return nil, fmt.Errorf("%v: %w", f, err)
	}
	if u == nil {
		return nil, kind.Unsupported(f, "AF_UNIX socket of another network namespace than Glis's: run Glis in that namespace (nsenter -n)")
	}
	what, why, err := k.picture.state(u)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", f, err)
	}
	if why != "" {
		return nil, kind.Unsupported(fmt.Sprintf("%v: %s", f, describe(u)), "%s", why)
	}
	if err := k.survey(env); err != nil {
		return nil, fmt.Errorf("%v: %w", f, err)
	}
	l := &look{env: env, file: f, u: u, role: what, skip: k.seen.of(f), unheld: k.unheld[u.Ino]}
	if err := l.borrow(); err != nil {
		return nil, err
	}
	defer l.giveBack()
	return k.dump(l)
}

// look is one socket while it is looked at.
type look struct {
	env    *kind.DumpEnv
	file   *scan.File
	fd     *fd.FD  // nil if nothing has to be asked through it
	unheld *unheld // fd is of another socket then, which has the same options
	u      *sockdiag.Unix
	role   role
	skip   defaults
	kernel *socket.Kernel
	opts   socket.Saved
	more   *extra.SocketEntry // what criu's entry has no place for
}

// borrow gets the socket into the engine, unless sock_diag and the survey have
// told all there is to know.
func (l *look) borrow() error {
	if l.skip.options && l.skip.owner && l.skip.known && len(l.u.Name) == 0 && l.role == paired && l.u.Type == sys.SOCK_STREAM && (l.skip.buffers == 0 || l.u.RQueue > 0) {
		return nil
	}
	var err error
	l.fd, err = l.file.Borrow()
	return err
}

func (l *look) giveBack() {
	if l.fd != nil {
		l.fd.Close()
	}
}

// refuse says that the socket can't be carried over.
func (l *look) refuse(why string, args ...any) error {
	return kind.Unsupported(fmt.Sprintf("%v: %s", l.file, describe(l.u)), why, args...)
}

// fail adds to an error which socket it is about.
func (l *look) fail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%v: %s: %w", l.file, describe(l.u), err)
}

// dump returns the entry of a socket, and puts its queue and what criu's entry
// has no place for into other images.
func (k *Kind) dump(l *look) (*fdinfo.FileEntry, error) {
	owner, err := k.owner(l)
	if err != nil {
		return nil, err
	}
	if err := k.options(l); err != nil {
		return nil, l.fail(err)
	}
	if err := k.unseen(l); err != nil {
		return nil, err
	}
	at, err := k.name(l)
	if err != nil {
		return nil, err
	}
	if err := k.complete(l); err != nil {
		return nil, err
	}
	if err := errors.Join(k.putQueue(l), k.putWaiting(l)); err != nil {
		return nil, err
	}
	peer, err := k.peerFor(l, l.more)
	if err != nil {
		return nil, err
	}
	backlog := k.backlogFor(l, l.more)
	if err := k.putExtra(l, &at); err != nil {
		return nil, err
	}
	// One piece of memory: to find many takes longer.
	room := &struct {
		file                    fdinfo.FileEntry
		usk                     sk_unix.UnixSkEntry
		typ, state, flags, peer uint32
	}{typ: uint32(l.u.Type), state: l.state(), peer: peer}
	e := &room.usk
	*e = sk_unix.UnixSkEntry{
		Id: &l.file.ID, Ino: &l.u.Ino, Type: &room.typ, State: &room.state,
		Flags: &l.file.Flags, Uflags: &room.flags, Backlog: backlog, Peer: &room.peer,
		Fown: owner, Opts: l.opts.Entry, Name: at.encoded(), FilePerms: at.perms,
	}
	room.file.Usk = e
	if at.dir != "" {
		e.NameDir = &at.dir
	}
	if at.deleted {
		e.Deleted = &at.deleted
	}
	if l.u.Shutdown != 0 {
		e.Shutdown = sk_opts.SkShutdown(l.u.Shutdown).Enum()
	}
	return &room.file, nil
}

// state is the socket's state as images have it. The kernel also calls a
// datagram socket connected that others are connected to.
func (l *look) state() uint32 {
	switch {
	case l.u.Type != sys.SOCK_DGRAM:
	case l.role == alone:
		return closed
	case l.role == orphan:
		return established
	}
	return uint32(l.u.State)
}

// owner reads whom the socket's signals go to.
func (k *Kind) owner(l *look) (*fown.FownEntry, error) {
	if !l.skip.owner {
		return file.ReadOwner(l.env, l.file, l.fd)
	}
	if k.nobody == nil {
		k.nobody = &fown.FownEntry{Uid: new(uint32), Euid: new(uint32), Signum: new(uint32), PidType: new(uint32), Pid: new(uint32)}
	}
	return k.nobody, nil
}

// options reads the socket's options; sizes and whether there is a filter come
// from the picture.
func (k *Kind) options(l *look) error {
	if err := k.learn(); err != nil {
		return err
	}
	l.kernel = k.kernel
	if l.skip.options {
		l.opts = k.kernel.New()
		return nil
	}
	clear(k.values)
	filter := true
	if l.u.HasMem {
		k.kernel.Know(k.values, "SO_SNDBUF", socket.Uint(l.u.Mem.Sndbuf))
		k.kernel.Know(k.values, "SO_RCVBUF", socket.Uint(l.u.Mem.Rcvbuf))
		filter = l.u.Mem.Optmem != 0 // a filter is charged to it
	}
	var err error
	l.opts, err = k.kernel.Save(l.fd.Int(), k.values, filter)
	return err
}

// learn finds out, once, which options the kernel has.
func (k *Kind) learn() error {
	if k.kernel != nil {
		return nil
	}
	pair, err := sys.Socketpair(sys.AF_UNIX, sys.SOCK_STREAM|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket to learn from: %w", err)
	}
	defer sys.Close(pair[0])
	defer sys.Close(pair[1])
	if k.kernel, err = socket.NewKernel(k.loader.Table, pair[0]); err != nil {
		return err
	}
	k.values = make([]socket.Value, len(k.kernel.Table))
	return nil
}

// name returns the socket's own name, or, if that is not its own, what it is
// called.
func (k *Kind) name(l *look) (address, error) {
	if len(l.u.Name) == 0 {
		return address{}, nil
	}
	if l.role == paired || l.role == orphan || l.role == abroad {
		peer, err := k.peerOf(l)
		if err != nil {
			return address{}, err
		}
		accepted, err := k.picture.accepted(l.u, peer)
		if errors.Is(err, errWhose) {
			if accepted, err = k.whose(l); err != nil {
				return address{}, err
			}
		}
		if err == nil && !accepted && isPath(l.u.Name) && l.u.Type != sys.SOCK_DGRAM {
			var owns bool
			owns, err = l.owns()
			accepted = !owns
		}
		if err != nil {
			return address{}, l.fail(err)
		}
		if accepted {
			return address{name: l.u.Name, accepted: true}, k.lendable(l, l.u.Name, "the name of the listener that it was accepted from,")
		}
	}
	return l.address()
}

// peerOf returns the name of the socket's peer, also of one that is closed.
func (k *Kind) peerOf(l *look) ([]byte, error) {
	if l.role == paired || l.role == abroad {
		peer, err := k.picture.get(l.u.Peer)
		if err != nil || peer == nil {
			return nil, l.fail(err)
		}
		return peer.Name, nil
	}
	if l.unheld != nil {
		return pathName(l.unheld.PeerName), nil
	}
	name, err := peerName(l.fd.Int())
	return name, l.fail(err)
}

// pending returns the error that the next call on the socket would report (an
// errno, 0 if none), without taking it away.
func (l *look) pending() (uint32, error) {
	// Nothing but the end of the peer makes one on a stream; on a datagram socket
	// it is that the peer went elsewhere and left messages unread.
	if l.unheld != nil {
		return uint32(l.unheld.Err), nil
	}
	if l.role == listener || l.u.Type == sys.SOCK_STREAM && l.role != orphan {
		return 0, nil
	}
	events, err := poll(l.fd.Int(), 0)
	switch {
	case err != nil:
		return 0, l.fail(err)
	case events&sys.POLLERR == 0:
		return 0, nil
	}
	return uint32(sys.ECONNRESET), nil
}

// putExtra writes what criu's entry has no place for.
func (k *Kind) putExtra(l *look, at *address) error {
	pending, err := l.pending()
	if err != nil {
		return err
	}
	e := l.more
	e.Options, e.Inode, e.File = l.opts.Options, socket.InodeOf(&l.file.Stat), at.file
	if pending != 0 {
		e.Error = &pending
	}
	if l.wasMet() {
		e.Met = proto.Bool(true)
	}
	if at.root != "" {
		e.Root = &at.root
	}
	if at.accepted {
		e.Accepted = &at.accepted
	}
	if q := k.queues[l.u.Ino]; q != nil && q.inq {
		e.Inq = &q.inq
	}
	if l.role == orphan {
		if e.PeerName, err = k.peerOf(l); err == nil {
			err = k.lendable(l, e.PeerName, "the name of its peer, which is closed,")
		}
		if err != nil {
			return err
		}
	}
	if err := k.putWho(l, e); err != nil {
		return err
	}
	if proto.Size(e) == 0 { // so has most sockets', and the next one gets it
		k.spare = e
		return nil
	}
	e.Id = &l.file.ID
	if err := kind.PutNow(l.env.Images, extra.Sockets, e, nil); err != nil {
		return err
	}
	e.Reset()
	k.spare = e
	return nil
}

// putWho adds who the peer is, unless that is the first of all.
func (k *Kind) putWho(l *look, e *extra.SocketEntry) error {
	who, err := uint32(0), error(nil)
	if c := k.connectors[l.u.Ino]; c != nil {
		who, err = k.number(l, &c.who, c.groups)
	} else {
		who, err = k.who(l)
	}
	if err != nil {
		return err
	}
	usual := uint32(0)
	if l.u.Type != sys.SOCK_DGRAM && l.role != alone {
		usual = 1
	}
	if who != usual {
		e.Who = &who
	}
	return nil
}
