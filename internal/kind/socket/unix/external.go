package unix

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	sk_opts "glis.dev/glis/image/criu/sk-opts"
	sk_unix "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/proto"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
	"glis.dev/glis/internal/sockmem"
)

// stranger is a peer that is outside of the tree, and may be: it has an entry
// of its own, as criu has it.
type stranger struct {
	name []byte // by which it can be connected to again; nil if it can't
	dir  string // directory that a relative path begins at
}

// permitted tells whether a socket's peer may be outside (--ext-unix-sk), and
// whether it need not be there afterwards (--external unix[INODE]).
func permitted(env *kind.DumpEnv, u *sockdiag.Unix) (ext, gone bool) {
	x := &env.Options.ExtUnixSk
	gone = env.Options.IsExternal("unix", uint64(u.Ino)) || slices.Contains(x.Inodes, u.Ino)
	return gone || x.Allowed, gone
}

// gatherStrangers decides on all sockets whose peers are outside.
func (k *Kind) gatherStrangers(env *kind.DumpEnv) error {
	k.strangers, k.connectors = map[uint32]*stranger{}, map[uint32]*connector{}
	who := &connectors{}
	defer who.close()
	for _, f := range slices.Clone(env.Tree.Files) {
		if !isSocket(f) {
			continue
		}
		u, err := k.picture.get(uint32(f.Stat.Ino))
		if err != nil {
			return fmt.Errorf("%v: %w", f, err)
		}
		if u == nil || u.Peer == 0 || k.picture.tree[u.Peer] {
			continue
		}
		l := &look{env: env, file: f, u: u}
		if err := k.stranger(l); err != nil {
			return err
		}
		if u.Type == sys.SOCK_DGRAM {
			continue
		}
		if k.connectors[u.Ino], err = who.find(l); err != nil {
			return err
		}
	}
	return nil
}

// isSocket tells whether a file of the tree is an open unix socket. Of another
// family's sock_diag would tell nothing, and that after a search.
func isSocket(f *scan.File) bool {
	return f.Stat.Mode&sys.S_IFMT == sys.S_IFSOCK && socket.IsFamily(f, sys.AF_UNIX)
}

// stranger decides on one.
func (k *Kind) stranger(l *look) error {
	peer, err := k.picture.get(l.u.Peer)
	if err != nil {
		return l.fail(err)
	}
	ext, gone := permitted(l.env, l.u)
	if !ext || k.unheld[l.u.Ino] != nil {
		return l.refuse("%s", outside(l.u, peer))
	}
	s, why := k.wayTo(l, peer)
	switch {
	case s == nil && !gone:
		return l.refuse("its peer, socket %d, is outside of the tree, and %s; --external unix[%d] says that the connection may end, or that you hand in another one at the restore (--inherit-fd)", l.u.Peer, why, l.u.Ino)
	case s == nil:
		s = &stranger{}
	}
	if unread := k.unread(l); unread && s.name != nil && !gone {
		return l.refuse("data from its peer, socket %d (%s), which is outside of the tree, waits to be read, and can't be carried over; let the process read it first", l.u.Peer, nameString(s.name))
	}
	k.picture.abroad[l.u.Ino] = abroad
	if k.strangers[l.u.Peer] == nil {
		k.strangers[l.u.Peer] = s
		f := &scan.File{Task: l.file.Task, FD: -1, MntID: -1, Link: fmt.Sprintf("socket:[%d]", l.u.Peer)}
		f.Stat.Mode, f.Stat.Ino = sys.S_IFSOCK, uint64(l.u.Peer)
		l.env.Files.Named(f)
	}
	return nil
}

// unread tells whether something is queued that only the peer can have sent.
func (k *Kind) unread(l *look) bool {
	if l.u.Type == sys.SOCK_DGRAM && len(l.u.Name) > 0 {
		return false // it is sent again before it is connected
	}
	q := k.queues[l.u.Ino]
	return q != nil && len(q.messages) > 0
}

// wayTo returns how the peer can be connected to again, or why it can't.
func (k *Kind) wayTo(l *look, peer *sockdiag.Unix) (*stranger, string) {
	if peer == nil || len(peer.Name) == 0 {
		return nil, "has no name to connect to again"
	}
	if l.u.Type != sys.SOCK_DGRAM && (k.picture.listens(l.u.Type, l.u.Name) || !k.picture.listens(l.u.Type, peer.Name)) {
		return nil, fmt.Sprintf("nobody listens at its name, %s", nameString(peer.Name))
	}
	s := &stranger{name: peer.Name}
	if !isPath(peer.Name) {
		return s, ""
	}
	leads, err := s.find(l.file.Task, peer)
	if err != nil || !leads {
		return nil, fmt.Sprintf("its name, %s, doesn't lead to it (any more)", nameString(peer.Name))
	}
	return s, ""
}

// find looks for the peer's file.
func (s *stranger) find(t *scan.Task, peer *sockdiag.Unix) (bool, error) {
	if s.name[0] != '/' {
		var err error
		if s.dir, err = t.Dir.Link("cwd"); err != nil {
			return false, err
		}
	}
	root, err := t.Dir.Link("root")
	if err != nil || root != "/" {
		return false, errors.Join(err, fmt.Errorf("the task has a root directory of its own"))
	}
	path := string(s.name)
	if s.dir != "" {
		path = s.dir + "/" + path
	}
	var st sys.Stat_t
	if err := sys.Stat(path, &st); err != nil {
		return false, err
	}
	return !peer.HasVFS || uint32(st.Ino) == peer.VFSIno, nil
}

// dumpStranger returns the entry of a peer that is outside: criu calls all of
// them datagram sockets that listen.
func (k *Kind) dumpStranger(f *scan.File, s *stranger) *fdinfo.FileEntry {
	at := address{name: s.name}
	zero := new(uint32)
	e := &sk_unix.UnixSkEntry{
		Id: &f.ID, Ino: proto.Uint32(uint32(f.Stat.Ino)), Type: proto.Uint32(sys.SOCK_DGRAM), State: proto.Uint32(listening),
		Flags: zero, Uflags: proto.Uint32(flagExternal), Backlog: zero, Peer: zero, Name: at.encoded(),
		Fown: &fown.FownEntry{Uid: zero, Euid: zero, Signum: zero, PidType: zero, Pid: zero},
		Opts: &sk_opts.SkOptsEntry{
			SoSndbuf: zero, SoRcvbuf: zero,
			SoSndTmoSec: new(uint64), SoSndTmoUsec: new(uint64), SoRcvTmoSec: new(uint64), SoRcvTmoUsec: new(uint64),
		},
	}
	if s.dir != "" {
		e.NameDir = &s.dir
	}
	return &fdinfo.FileEntry{Usk: e}
}

// connector is who connected a stream to a peer outside, which that may ask
// (SO_PEERCRED).
type connector struct {
	who    sys.Ucred
	groups []byte
}

// connectors finds out who connected, which the kernel keeps at the peers.
// Where its memory can't be read it is the user whose the task is.
type connectors struct {
	memory *sockmem.Memory
	asked  bool
}

func (c *connectors) close() {
	if c.memory != nil {
		c.memory.Close() //nolint:errcheck // nothing was written
	}
}

func (c *connectors) find(l *look) (*connector, error) {
	if !c.asked {
		c.asked = true
		var err error
		if c.memory, err = sockmem.OpenMemory(); err != nil && !errors.Is(err, sockmem.ErrUnavailable) {
			return nil, err
		}
	}
	if c.memory == nil {
		st := &l.file.Task.Status
		return &connector{sys.Ucred{Pid: int32(l.file.Task.PID), Uid: st.Uid[1], Gid: st.Gid[1]}, groupBytes(st.Groups)}, nil
	}
	var err error
	if l.fd, err = l.file.Borrow(); err != nil {
		return nil, err
	}
	defer l.giveBack()
	files, err := ownFiles(c.memory)
	if err != nil {
		return nil, err
	}
	who, groups, err := c.memory.PeerOfPeer(files[int32(l.fd.Int())])
	if err != nil {
		return nil, l.fail(err)
	}
	return &connector{*who, groupBytes(groups)}, nil
}

// outside says why a socket whose peer no descriptor of the tree refers to
// can't be carried over. peer may be nil.
func outside(u, peer *sockdiag.Unix) string {
	var how []string
	name := ""
	if peer != nil && len(peer.Name) > 0 {
		name = " (" + nameString(peer.Name) + ")"
		how = append(how, "let Glis connect to it again by --ext-unix-sk")
	}
	who := processOf(u.Peer)
	if who == "" {
		how = append(how, "close the connection first, or dump again (of one that is only in its own queue the kernel soon gets rid)")
		return fmt.Sprintf("its peer, socket %d%s, is a descriptor of no process that is visible here: it is in another PID namespace, or only in messages (SCM_RIGHTS) that can't be received in the tree, as in its own queue, or that are empty, were peeked at before and are no longer shown; %s", u.Peer, name, strings.Join(how, ", or "))
	}
	how = append(how, "dump the process at the other end too", "close the connection first")
	return fmt.Sprintf("its peer, socket %d%s, is outside of the tree: %s has it; %s", u.Peer, name, who, strings.Join(how, ", or "))
}
