package unix

import (
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
	"glis.dev/glis/internal/sockmem"
)

// gather finds, once, all unix sockets of the tree, and reads their queues:
// sockets that are on their way inside messages are part of it, too, and which
// those are is only known then. If that fails, it fails for whoever asks: with a part of
// them, the others would seem to be outside of the tree.
func (k *Kind) gather(env *kind.DumpEnv) error {
	if !k.gathered {
		k.gathered = true
		k.ungathered = k.gatherAll(env)
	}
	return k.ungathered
}

// Discover implements kind.Discoverer.
func (k *Kind) Discover(env *kind.DumpEnv) error { return k.gather(env) }

func (k *Kind) gatherAll(env *kind.DumpEnv) error {
	p := &k.picture
	p.abroad, p.check = map[uint32]role{}, env.Check
	if err := k.survey(env); err != nil {
		return err
	}
	n := unixSockets(env)
	p.tree, p.files, p.waiting = make(map[uint32]bool, n), make(map[uint32]*scan.File, n), map[uint32]uint32{}
	k.arrived, k.unheld = map[uint32][]*arrived{}, map[uint32]*unheld{}
	if err := p.expect(n); err != nil {
		return err
	}
	if err := p.open(func(*sockdiag.Conn) error { return k.gatherQueues(env) }); err != nil {
		return err
	}
	if err := k.gatherWaiting(env); err != nil {
		return err
	}
	if err := k.gatherStrangers(env); err != nil {
		return err
	}
	return k.assign()
}

// unixSockets counts the unix sockets of the tree.
func unixSockets(env *kind.DumpEnv) (n int) {
	for _, f := range env.Tree.Files {
		if isSocket(f) {
			n++
		}
	}
	return n
}

// gatherQueues reads all queues.
func (k *Kind) gatherQueues(env *kind.DumpEnv) error {
	if err := k.readAhead(env); err != nil {
		return err
	}
	p := &k.picture
	for i := 0; i < len(env.Tree.Files); i++ {
		f := env.Tree.Files[i]
		if err := env.Check(); err != nil {
			return err
		}
		if !isSocket(f) {
			if f.NoFamily != nil { // as somebody's peer it would be missed
				return socket.NoFamily(f)
			}
			continue
		}
		p.tree[uint32(f.Stat.Ino)], p.files[uint32(f.Stat.Ino)] = true, f
		u, err := p.get(uint32(f.Stat.Ino))
		if err != nil {
			return fmt.Errorf("%v: %w", f, err)
		}
		if u == nil || !mayQueue(u) || k.ahead[u.Ino] {
			continue
		}
		if err := k.gatherQueue(env, f, u); err != nil {
			return err
		}
	}
	return nil
}

// mayQueue tells whether something may be queued at a socket: sock_diag doesn't
// count empty messages.
func mayQueue(u *sockdiag.Unix) bool {
	return u.State != listening && (u.RQueue > 0 || u.Type == sys.SOCK_DGRAM || u.Type == sys.SOCK_SEQPACKET && u.State == established)
}

// gatherQueue reads one queue.
func (k *Kind) gatherQueue(env *kind.DumpEnv, f *scan.File, u *sockdiag.Unix) error {
	l := &look{env: env, file: f, u: u}
	var err error
	if l.fd, err = f.Borrow(); err != nil {
		return err
	}
	defer l.giveBack()
	seen := k.seen.of(f)
	q := &peeker{look: l, fd: l.fd.Int(), rooms: &k.rooms, fresh: seen.seen && seen.options, count: func() (int, error) { return k.queued(l) }}
	q.uneven = func(m []*message) (bool, error) { return k.uneven(u, m) }
	q.far = u.Type == sys.SOCK_STREAM && k.isFar(int(u.RQueue))
	q.lengths = func() ([]int, error) { return k.bufferLengths(l) }
	q.whole = func() ([]*message, error) { return k.asPeeked(l) }
	defer q.drop()
	messages, err := q.all()
	switch {
	case q.region == nil:
	case err == nil:
		err = q.forget(messages)
	default:
		err = errors.Join(err, q.release()) // what is read of it from elsewhere is in other memory
	}
	// Urgent data that became ordinary looks as if an outsider had sent it.
	for _, why := range []error{errBetween, errBehind, errOutsider} {
		if !errors.Is(err, why) {
			continue
		}
		if messages, err = k.fromMemory(l); errors.Is(err, sockmem.ErrUnavailable) {
			err = fmt.Errorf("%w (%w)", why, err)
		}
	}
	switch {
	case err != nil && isReason(err):
		return l.refuse("%v; this isn't supported yet: let the process read its queue first", err)
	case err != nil:
		return l.fail(err)
	case len(messages) == 0 && !q.counts:
		return nil
	}
	k.queues[u.Ino] = &queued{messages: messages, inq: q.counts, region: q.region, length: lengthOf(messages)}
	q.region = nil
	return nil
}

// queued is what was found in a queue.
type queued struct {
	messages []*message
	inq      bool   // SO_INQ is on
	region   []byte // messages are there, once they were fetched; nil: they are in memory
	length   int    // how many bytes
}

// message is one message, or a piece of a stream that one thing comes along
// with.
type message struct {
	data   []byte
	rights []*scan.File
	who    *credentials // of the sender, if they were recorded
	name   []byte       // of the sender
	urgent uint32       // urgentWaits, urgentRead
	sender *scan.File   // nil: it is closed, or outside of the tree
	peer   bool         // the sender is the peer
	at     int          // where it begins in a stream
	known  bool         // sender is what the kernel says
}

// What is special about a byte of a stream, as in extra.SocketMessage.
const (
	urgentWaits = 1
	urgentRead  = 2
)

// credentials are who sent a message (SCM_CREDENTIALS).
type credentials struct{ pid, uid, gid uint32 }

// isReason tells whether an error is a state that can't be carried over.
func isReason(err error) bool {
	for _, r := range []error{errAncillary, errHidden, errOutsider, errBehind, errLonely, errBetween} {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// receive makes files known that came with a message.
func (q *peeker) receive(fds []*fd.FD) (files []*scan.File, err error) {
	if q.told && len(fds) > 0 {
		return nil, errors.Join(errNotPlain, closeAll(fds))
	}
	for i, d := range fds {
		if q.look.env.Files == nil {
			return nil, errors.Join(errAncillary, closeAll(fds[i:]))
		}
		f, err := q.look.env.Files.Received(d, q.look.file)
		if err != nil {
			return nil, errors.Join(err, closeAll(fds[i+1:]))
		}
		files = append(files, f)
	}
	return files, nil
}

func closeAll(fds []*fd.FD) error {
	var errs []error
	for _, d := range fds {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}
