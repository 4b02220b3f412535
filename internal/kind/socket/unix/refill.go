package unix

import (
	"errors"
	"fmt"
	"math"
	"sort"

	sk_packet "glis.dev/glis/image/criu/sk-packet"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// queuedMessage is a message, or a piece of a stream, to be queued anew.
type queuedMessage struct {
	data   []byte
	far    *image.Far // in place of data, if that is in the image until it is sent
	rights []plan.ID
	who    *sys.Ucred
	urgent uint32
	gone   bool    // its sender, of datagrams, is closed
	name   []byte  // of a sender that is closed
	from   plan.ID // its sender, 0 if that is the peer, or closed
	sender *node   // the same, or one of the same name; nil if that is the peer, or closed
}

// size is how many bytes it has.
func (m *queuedMessage) size() int { return len(m.data) + m.far.Len() }

// use calls f with what it has.
func (m *queuedMessage) use(f func(data []byte) error) error {
	if m.far != nil {
		return m.far.Use(f)
	}
	return f(m.data)
}

// message checks a message of an image.
func (n *node) message(in plan.Entry) (*queuedMessage, error) {
	e := in.Message.(*sk_packet.SkPacketEntry)
	if uint64(e.GetLength()) != uint64(in.Size()) {
		return nil, fmt.Errorf("%d bytes of %d are there", in.Size(), e.GetLength())
	}
	m := &queuedMessage{data: in.Payload, far: in.Far}
	for _, s := range e.GetScm() {
		if s.GetType() != sys.SCM_RIGHTS {
			return nil, fmt.Errorf("what comes along is of type %d, which this Glis doesn't know", s.GetType())
		}
		for _, id := range s.GetRights() {
			m.rights = append(m.rights, plan.ID(id))
		}
	}
	x, err := messageOf(e)
	if err != nil {
		return nil, err
	}
	m.urgent, m.name, m.from = x.GetUrgent(), x.GetName(), plan.ID(x.GetSender())
	m.gone = x != nil && x.Sender != nil && m.from == 0
	m.who = credentialsOf(x.GetWho())
	return m, m.check(n)
}

func credentialsOf(w *extra.SocketCredentials) *sys.Ucred {
	if w == nil {
		return nil
	}
	return &sys.Ucred{Pid: int32(w.GetPid()), Uid: w.GetUid(), Gid: w.GetGid()}
}

func (m *queuedMessage) check(n *node) error {
	switch {
	case len(m.rights) > fd.MaxRights:
		return fmt.Errorf("%d files come along, more than %d", len(m.rights), fd.MaxRights)
	case m.who != nil && (m.who.Pid <= 0 || m.who.Pid > maxPID || m.who.Uid == math.MaxUint32 || m.who.Gid == math.MaxUint32):
		return fmt.Errorf("a sender with process %d, user %d, group %d can't be", m.who.Pid, m.who.Uid, m.who.Gid)
	case m.urgent > urgentRead || m.urgent != 0 && (n.typ != sys.SOCK_STREAM || m.size() != int(2-m.urgent) || len(m.rights) > 0):
		return fmt.Errorf("urgent data of state %d, %d bytes: that can't be", m.urgent, m.size())
	case len(m.name) > maxName || (m.gone || m.from != 0) && n.typ != sys.SOCK_DGRAM:
		return fmt.Errorf("its sender can't be another than the peer")
	case n.typ == sys.SOCK_STREAM && m.size() == 0 && (len(m.rights) > 0 || m.who != nil):
		return fmt.Errorf("something comes along with no data")
	}
	return nil
}

// plain tells whether nothing comes along with a message.
func (m *queuedMessage) plain() bool { return len(m.rights) == 0 && m.who == nil && m.urgent == 0 }

// divisible tells whether a piece of a stream comes to the same if it is sent in
// several.
func (m *queuedMessage) divisible() bool { return len(m.rights) == 0 && m.urgent == 0 }

// sender fills the queue of a socket from another one's end.
type sender struct {
	fd     int
	to     []byte // address, if that isn't the peer
	joined bool   // that is its peer
	raised *bool  // its buffer size isn't what it was
}

// send sends one message; in a stream, bytes that may be split.
func (s *sender) send(data, control []byte, stream bool) error {
	for first := true; first || stream && len(data) > 0; first = false {
		n, err := linux.Sendmsg(s.fd, data, control, s.to, sys.MSG_DONTWAIT|sys.MSG_NOSIGNAL)
		full := errors.Is(err, sys.EAGAIN) || errors.Is(err, sys.EMSGSIZE) || errors.Is(err, sys.ENOBUFS)
		if full && !*s.raised {
			if err := s.raise(); err != nil {
				return err
			}
			n, err = linux.Sendmsg(s.fd, data, control, s.to, sys.MSG_DONTWAIT|sys.MSG_NOSIGNAL)
		}
		if errors.Is(err, sys.EAGAIN) && !stream {
			return fmt.Errorf("queue %d bytes anew: as many messages as net.unix.max_dgram_qlen allows are there; raise it: %w", len(data), err)
		}
		if err != nil {
			return fmt.Errorf("queue %d bytes anew: %w", len(data), err)
		}
		data, control = data[n:], credentialsOnly(control)
	}
	if len(data) > 0 {
		return fmt.Errorf("queue a message anew: %d bytes of it are left over", len(data))
	}
	return nil
}

// credentialsOnly drops descriptors, which come with the first byte only, from
// control messages as controlOf makes them.
func credentialsOnly(control []byte) []byte {
	if n := sys.CmsgSpace(sys.SizeofUcred); len(control) >= n {
		if all, err := sys.ParseSocketControlMessage(control[:n]); err == nil && len(all) == 1 && all[0].Header.Type == sys.SCM_CREDENTIALS {
			return control[:n]
		}
	}
	return nil
}

// control returns what comes along with a message: credentials first.
func (m *queuedMessage) control(env *plan.Env) ([]byte, error) {
	var out []byte
	if m.who != nil {
		out = append(out, sys.UnixCredentials(m.who)...)
	}
	var fds []int
	for _, id := range m.rights {
		f, err := env.File(id)
		if err != nil {
			return nil, err
		}
		fds = append(fds, f.Int())
	}
	if len(fds) > 0 {
		out = append(out, sys.UnixRights(fds...)...)
	}
	return out, nil
}

// refill is what is to be queued at a socket.
type refill struct {
	typ      int
	messages []*queuedMessage
	memory   uint32 // bytes of the kernel's that it took at its sender
}

// send queues it from one end so that it is to be read at the other. A stream
// comes in as few pieces as possible; if its sender had used more memory for
// it, which decides when a writer blocks, it is sent again in smaller pieces.
func (r *refill) send(k *Kind, env *plan.Env, from *sender, to int) error {
	if err := r.sendIn(env, from, to, math.MaxInt); err != nil || r.typ != sys.SOCK_STREAM || len(r.messages) == 0 {
		return err
	}
	took, err := unread(from.fd)
	if err != nil || took >= r.memory {
		return err
	}
	pad, err := r.padding(k, took)
	if err != nil {
		return err
	}
	piece := math.MaxInt
	if pad == 0 {
		if piece, err = r.piece(k); err != nil || piece == math.MaxInt {
			return err
		}
	}
	if err := discard(to); err != nil {
		return err
	}
	return r.sendBehind(env, from, to, pad, piece)
}

// padding returns how many bytes have to be sent before the first message, and
// read again, so that the whole takes as much memory as it did: a reader has
// read so far. It is 0 if that can't be it.
func (r *refill) padding(k *Kind, took uint32) (int, error) {
	first := r.messages[0]
	if !first.divisible() {
		return 0, nil
	}
	own, err := k.size(sys.SOCK_STREAM, first.size())
	if err != nil {
		return 0, err
	}
	want := own + r.memory - took
	n := sort.Search(maxPiece, func(n int) bool {
		size, e := k.size(sys.SOCK_STREAM, first.size()+n)
		err = errors.Join(err, e)
		return size >= want
	})
	if size, e := k.size(sys.SOCK_STREAM, first.size()+n); err != nil || e != nil || size != want {
		return 0, errors.Join(err, e)
	}
	return n, nil
}

// sendBehind is sendIn behind some bytes that are read again.
func (r *refill) sendBehind(env *plan.Env, from *sender, to, pad, piece int) error {
	if pad == 0 {
		return r.sendIn(env, from, to, piece)
	}
	padded, first := *r, *r.messages[0]
	err := first.use(func(data []byte) error {
		first.data, first.far = append(make([]byte, pad), data...), nil
		return nil
	})
	padded.messages = append([]*queuedMessage{&first}, r.messages[1:]...)
	if err == nil {
		err = padded.sendIn(env, from, to, piece)
	}
	if err != nil {
		return err
	}
	if n, err := linux.Recvmsg(to, make([]byte, pad), nil, nil, sys.MSG_DONTWAIT); err != nil || n.N != pad {
		return fmt.Errorf("read %d bytes that were read before: %w", pad, errors.Join(err, fmt.Errorf("%d were", n.N)))
	}
	return nil
}

func (r *refill) sendIn(env *plan.Env, from *sender, to, piece int) error {
	for _, m := range r.messages {
		if m.urgent != 0 {
			control, err := m.control(env)
			if err == nil {
				err = m.sendUrgent(from.fd, to, control)
			}
			if err != nil {
				return err
			}
			continue
		}
		control, err := m.control(env)
		if err != nil {
			return err
		}
		most := math.MaxInt
		if r.typ == sys.SOCK_STREAM && m.divisible() {
			most = piece
		}
		err = m.use(func(data []byte) error { return from.sendPieces(data, control, most, r.typ == sys.SOCK_STREAM) })
		if err != nil {
			return err
		}
	}
	return nil
}

// sendPieces sends one message, or in pieces of a size what may be divided.
func (s *sender) sendPieces(data, control []byte, piece int, stream bool) error {
	for first := true; first || len(data) > 0; first = false {
		n := min(len(data), piece)
		if err := s.send(data[:n], control, stream); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// sendUrgent queues urgent data (MSG_OOB), and reads it if it had been.
func (m *queuedMessage) sendUrgent(from, to int, control []byte) error {
	b := m.data
	if m.urgent == urgentRead {
		b = []byte{0}
	}
	if _, err := linux.Sendmsg(from, b, control, nil, sys.MSG_OOB|sys.MSG_DONTWAIT|sys.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("queue urgent data anew (needs a kernel with CONFIG_AF_UNIX_OOB): %w", err)
	}
	if m.urgent == urgentWaits {
		return nil
	}
	if _, err := linux.Recvmsg(to, make([]byte, 1), nil, nil, sys.MSG_OOB|sys.MSG_DONTWAIT); err != nil {
		return fmt.Errorf("read urgent data that was read: %w", err)
	}
	return nil
}

// piece returns the largest size of pieces, of what is plain, with which all
// together takes as much memory as is wanted at least.
func (r *refill) piece(k *Kind) (int, error) {
	want, most := int64(r.memory), 0
	for _, m := range r.messages {
		if m.divisible() {
			most = max(most, m.size())
			continue
		}
		if m.urgent != 0 {
			// Linux 6.18 goes on counting urgent data that was stepped over.
			return math.MaxInt, nil
		}
		size, err := k.size(sys.SOCK_STREAM, max(m.size(), 1))
		if err != nil {
			return 0, err
		}
		want -= int64(size)
	}
	if most == 0 {
		return math.MaxInt, nil
	}
	var failed error
	takes := func(n int) (sum int64) {
		for _, m := range r.messages {
			if m.divisible() {
				size, err := k.inPieces(m.size(), n)
				failed = errors.Join(failed, err)
				sum += size
			}
		}
		return sum
	}
	// From n+1 bytes a piece on it is too little, but for a few sizes whose
	// last piece is just so long.
	n := sort.Search(min(most, maxPiece), func(n int) bool { return takes(n+1) < want })
	// Writers mostly write so much at a time that it comes out even.
	for even := n; even > max(n-evenTries, 0) && failed == nil; even-- {
		if takes(even) == want {
			return even, nil
		}
	}
	return max(n, 1), failed
}

// evenTries is how many sizes are tried for one with which a queue takes just
// the memory it took.
const evenTries = 64

// inPieces returns how much memory bytes of a stream take in pieces of a size.
func (k *Kind) inPieces(length, piece int) (int64, error) {
	piece = min(piece, length)
	if length == 0 {
		return 0, nil
	}
	one, err := k.size(sys.SOCK_STREAM, piece)
	sum := int64(one) * int64(length/piece)
	if rest := length % piece; err == nil && rest > 0 {
		one, err = k.size(sys.SOCK_STREAM, rest)
		sum += int64(one)
	}
	return sum, err
}

// maxPiece is more than the kernel ever puts into one piece.
const maxPiece = 64 << 10

// discard reads away everything that is queued in a stream.
func discard(fd int) error {
	buf := make([]byte, 64<<10)
	for {
		_, err := linux.Recvmsg(fd, buf, nil, nil, sys.MSG_DONTWAIT)
		if errors.Is(err, sys.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read back what was queued: %w", err)
		}
	}
}

// raise makes the buffer as large as is allowed: what was queued may have been
// sent while it was larger than it is now.
func (s *sender) raise() error {
	*s.raised = true
	err := sys.SetsockoptInt(s.fd, sys.SOL_SOCKET, sys.SO_SNDBUFFORCE, math.MaxInt32/2)
	if errors.Is(err, sys.EPERM) {
		err = sys.SetsockoptInt(s.fd, sys.SOL_SOCKET, sys.SO_SNDBUF, math.MaxInt32/2)
	}
	if err != nil {
		return fmt.Errorf("raise SO_SNDBUF: %w", err)
	}
	return nil
}
