package unix

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"glis.dev/glis/image/proto"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/standin"
)

// arrived is a connection that waits to be accepted. Nobody has its end as a
// descriptor, and accepting it couldn't be taken back, so what is in it is read
// from the kernel's memory.
type arrived struct {
	client   *scan.File // nil if it is closed
	name     []byte     // of a client that is closed
	who      sys.Ucred
	groups   []byte // as SO_PEERGROUPS has them
	passing  int    // see sockmem.Waiting
	ended    uint8
	messages []*message
}

// gatherWaiting reads, of all listeners of the tree, the connections that wait.
func (k *Kind) gatherWaiting(env *kind.DumpEnv) error {
	var all []*look
	for _, f := range env.Tree.Files {
		if !isSocket(f) {
			continue
		}
		u, err := k.picture.get(uint32(f.Stat.Ino))
		if err != nil {
			return fmt.Errorf("%v: %w", f, err)
		}
		if u != nil && u.State == listening && u.RQueue > 0 {
			all = append(all, &look{env: env, file: f, u: u, role: listener})
		}
	}
	if len(all) == 0 {
		return nil
	}
	m, err := sockmem.OpenMemory(standin.Names()...)
	if errors.Is(err, sockmem.ErrUnavailable) {
		return all[0].refuse("%d connections to %s wait to be accepted, and what is in them can't be read (%v); let the server accept them, or end its clients", all[0].u.RQueue, nameString(all[0].u.Name), err)
	}
	if err != nil {
		return err
	}
	defer m.Close()
	m.Until(env.Check)
	w := &waitingRoom{kind: k, env: env, memory: m, epolls: map[kmem.Addr]*look{}}
	if err := w.readAll(all); err != nil {
		return errors.Join(err, w.close())
	}
	return errors.Join(w.finish(), w.close())
}

// ownFiles returns where the kernel has the engine's files.
func ownFiles(m *sockmem.Memory) (map[int32]kmem.Addr, error) {
	n, err := sys.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open: %w", err)
	}
	self := fd.New(n)
	defer self.Close()
	return m.Files(n)
}

// arrived makes of what the kernel has what images have; nil if it is to be
// left out.
func (w *waitingRoom) arrived(l *look, x *sockmem.Waiting) (*arrived, error) {
	a := &arrived{name: pathName(x.Name), who: x.Who, passing: x.Passing, ended: x.Ended}
	if x.Client != 0 {
		if a.name, a.client = nil, w.kind.picture.files[uint32(x.Client)]; a.client == nil {
			return nil, w.stranger(l, x)
		}
	}
	if err := w.mayBeNamed(l, a); err != nil {
		return nil, err
	}
	a.groups = groupBytes(x.Groups)
	for i := range x.Buffers {
		m, err := w.message(&x.Buffers[i])
		if isReason(err) {
			return nil, l.refuseWaiting(err)
		}
		if err != nil {
			return nil, err
		}
		a.messages = append(a.messages, m)
	}
	return a, nil
}

// refuseWaiting says that something in a connection that waits can't be carried over.
func (l *look) refuseWaiting(why error) error {
	return l.refuse("a connection to %s waits to be accepted, and %v, which isn't supported; let the server accept it", nameString(l.u.Name), why)
}

// mayBeNamed refuses a client that is closed and whose abstract name a socket outside of
// the tree has by now: a restore has to connect by that name once more. One of the
// tree gets it afterwards.
func (w *waitingRoom) mayBeNamed(l *look, a *arrived) error {
	if a.client != nil || len(a.name) == 0 || isPath(a.name) {
		return nil
	}
	ino, who, err := w.kind.bearer(l, a.name)
	if err != nil || ino == 0 {
		return err
	}
	return l.refuse("a connection to %s waits to be accepted whose client is closed, and its name %s belongs by now to socket %d outside of the tree (%s), so that nobody could connect by it once more; let the server accept it, or end that program", nameString(l.u.Name), nameString(a.name), ino, who)
}

// groupBytes is groups as SO_PEERGROUPS has them.
func groupBytes(groups []uint32) (out []byte) {
	for _, g := range groups {
		out = binary.NativeEndian.AppendUint32(out, g)
	}
	return out
}

// stranger decides on a client that is outside of the tree.
func (w *waitingRoom) stranger(l *look, x *sockmem.Waiting) error {
	if w.env.Options.SkipInFlight {
		w.env.Log.Warn("A connection that waits to be accepted is left out", "listener", nameString(l.u.Name), "client", x.Who.Pid)
		return nil
	}
	return l.refuse("a connection to %s waits to be accepted whose client, socket %d of process %d, is outside of the tree; let the server accept it, dump the client too, or leave it out by --skip-in-flight", nameString(l.u.Name), x.Client, x.Who.Pid)
}

// message makes a message of a buffer.
func (w *waitingRoom) message(b *sockmem.Buffer) (*message, error) {
	m := &message{data: b.Data}
	if b.Urgent {
		m.urgent = urgentWaits
	}
	if b.Told {
		if b.Who.Pid == 0 {
			return nil, errOutsider
		}
		m.who = &credentials{uint32(b.Who.Pid), b.Who.Uid, b.Who.Gid}
	}
	for _, at := range b.Files {
		f, err := w.fileAt(at)
		if err == nil && f == nil {
			err = errLonely
		}
		if err != nil {
			return nil, err
		}
		m.rights = append(m.rights, f)
	}
	return m, nil
}

// pathName is a name as the kernel has it without what ends a path.
func pathName(name []byte) []byte {
	if isPath(name) {
		return bytes.TrimRight(name, "\x00")
	}
	return name
}

// fromMemory reads a queue that doesn't show all of it to who peeks. What comes
// along was received before.
func (k *Kind) fromMemory(l *look) ([]*message, error) {
	m, err := sockmem.OpenMemory()
	if err != nil {
		return nil, err
	}
	defer m.Close()
	m.Until(l.env.Check)
	at, err := m.File(l.fd.Int())
	if err != nil {
		return nil, err
	}
	all, err := m.Queue(at)
	if err != nil {
		return nil, err
	}
	w := &waitingRoom{kind: k, env: l.env, memory: m}
	return w.convert(l, all)
}

// asPeeked is fromMemory before it is known which sockets there are: who sent what is left
// to assign.
func (k *Kind) asPeeked(l *look) ([]*message, error) {
	all, err := k.fromMemory(l)
	for _, m := range all {
		m.sender, m.known = nil, false
	}
	return all, err
}

// convert makes messages of what is queued at a socket.
func (w *waitingRoom) convert(l *look, all []sockmem.Buffer) ([]*message, error) {
	var out []*message
	for i := range all {
		b := &all[i]
		x, err := w.message(b)
		if err != nil {
			return nil, err
		}
		x.peer = l.u.Type != sys.SOCK_DGRAM
		if l.u.Type == sys.SOCK_STREAM {
			if len(x.data) == 0 && !b.Urgent {
				x = &message{urgent: urgentRead, peer: true} // all that is left of it is its place
			}
		}
		if l.u.Type == sys.SOCK_DGRAM {
			x.name, x.sender, x.known = pathName(b.Name), w.kind.picture.files[uint32(b.Sender)], true
		}
		out = append(out, x)
	}
	return out, nil
}

// putWaiting writes down what waits at a listener.
func (k *Kind) putWaiting(l *look) error {
	for _, a := range k.arrived[l.u.Ino] {
		who, err := k.number(l, &a.who, a.groups)
		if err != nil {
			return err
		}
		e := &extra.WaitingConnection{Listener: &l.file.ID, Who: &who, Name: a.name}
		if a.client != nil {
			e.Client = &a.client.ID
			if err := k.putEarly(a, e); err != nil {
				return err
			}
		}
		if a.passing >= 0 {
			e.Passing = proto.Uint32(uint32(a.passing))
		}
		for _, m := range a.messages {
			e.Data = append(e.Data, m.data...)
			e.Messages = append(e.Messages, m.waiting(l))
		}
		if err := l.env.Images.Put(extra.Waiting, e, nil); err != nil {
			return err
		}
	}
	return nil
}

// putEarly notes which halves of its client were shut down before it connected: the
// other end doesn't know of them.
func (k *Kind) putEarly(a *arrived, e *extra.WaitingConnection) error {
	u, err := k.picture.get(uint32(a.client.Stat.Ino))
	if err != nil || u == nil {
		return err
	}
	if early := u.Shutdown &^ mirrored(a.ended); early != 0 {
		e.Early = proto.Uint32(uint32(early))
	}
	return nil
}

// mirrored is what a socket's shutdown does to its peer.
func mirrored(how uint8) uint8 { return how>>1&shutRead | how<<1&shutWrite }

// waiting is the entry of a message that a client sent which waits.
func (m *message) waiting(l *look) *extra.WaitingMessage {
	e := &extra.WaitingMessage{Length: proto.Uint32(uint32(len(m.data))), Files: numbers(m.rights)}
	if m.urgent != 0 {
		e.Urgent = proto.Bool(true)
	}
	if m.who != nil {
		e.Who = &extra.SocketCredentials{Pid: proto.Uint32(m.pid(l)), Uid: &m.who.uid, Gid: &m.who.gid}
	}
	return e
}

// peerNumber is the peer's inode as images have it: of a client that waits it
// is the listener's.
func (p *picture) peerNumber(u *sockdiag.Unix) uint32 {
	if n := p.waiting[u.Ino]; n != 0 {
		return n
	}
	return u.Peer
}
