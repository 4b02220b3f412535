package unix

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/sockdiag"
	"glis.dev/glis/internal/sockmem"
)

// assign finds out who sent what is queued. Of a message the kernel tells the
// sender's name only; of a socket it tells how much memory what it has sent
// and nobody has read takes. So a message is of a socket of that name that has
// so much left, else of one that is closed.
func (k *Kind) assign() error {
	if err := k.askSenders(); err != nil {
		return err
	}
	left := map[uint32]uint64{} // bytes sent and not accounted for
	for ino := range k.picture.files {
		u, err := k.picture.get(ino)
		if err != nil {
			return err
		}
		if u != nil && u.Type == sys.SOCK_DGRAM && u.HasMem {
			left[ino] = uint64(u.Mem.WmemAlloc)
		}
	}
	// Those that are connected to a receiver have the first claim.
	for _, far := range []bool{false, true} {
		if err := k.assignAll(left, far); err != nil {
			return err
		}
	}
	return nil
}

// askSenders asks the kernel's memory who sent what several sockets may have
// sent. Where that can't be read it stays a guess.
func (k *Kind) askSenders() error {
	var m *sockmem.Memory
	for _, ino := range k.receivers() {
		u, err := k.picture.get(ino)
		if err != nil {
			return err
		}
		if u.Type != sys.SOCK_DGRAM || k.unheld[ino] != nil || !k.ambiguous(u) {
			continue
		}
		if m == nil {
			if m, err = sockmem.OpenMemory(); errors.Is(err, sockmem.ErrUnavailable) {
				return nil
			}
			if err != nil {
				return err
			}
			defer m.Close()
		}
		if err := k.askSendersOf(m, ino); err != nil {
			return err
		}
	}
	return nil
}

// ambiguous tells whether the names of senders don't tell who they are.
func (k *Kind) ambiguous(u *sockdiag.Unix) bool {
	if peer := k.picture.socks[u.Peer]; len(u.Name) == 0 && peer != nil && peer.Peer == u.Ino {
		return false // nobody else can send to it
	}
	for _, m := range k.queues[u.Ino].messages {
		n := len(k.sending(m.name))
		if n > 1 || n == 1 && (len(m.name) == 0 || len(u.Name) == 0) {
			return true
		}
	}
	return false
}

func (k *Kind) askSendersOf(m *sockmem.Memory, ino uint32) error {
	d, err := k.picture.files[ino].Borrow()
	if err != nil {
		return err
	}
	defer d.Close()
	at, err := m.File(d.Int())
	if err != nil {
		return err
	}
	all, err := m.Queue(at)
	if err != nil {
		return err
	}
	messages := k.queues[ino].messages
	if len(all) != len(messages) {
		return nil // complete sees to it
	}
	for i := range all {
		messages[i].sender, messages[i].known = k.picture.files[uint32(all[i].Sender)], true
	}
	return nil
}

// receivers returns the sockets that something is queued at, in order.
func (k *Kind) receivers() []uint32 {
	var all []uint32
	for ino := range k.queues {
		all = append(all, ino)
	}
	slices.Sort(all)
	return all
}

func (k *Kind) assignAll(left map[uint32]uint64, far bool) error {
	for _, ino := range k.receivers() {
		u, err := k.picture.get(ino)
		if err != nil {
			return err
		}
		for _, m := range k.queues[ino].messages {
			if m.peer = u.Type != sys.SOCK_DGRAM; m.peer || m.sender != nil || m.known {
				continue
			}
			if err := k.assignOne(u, m, left, far); err != nil {
				return err
			}
		}
		if far {
			k.assignRest(u)
		}
	}
	return nil
}

// assignOne finds the sender of one message, far or near.
func (k *Kind) assignOne(u *sockdiag.Unix, m *message, left map[uint32]uint64, far bool) error {
	size, err := k.size(u.Type, len(m.data))
	if err != nil {
		return err
	}
	for _, s := range k.candidates(u, m.name, far) {
		if left[s.Ino] < uint64(size) || !bytes.Equal(s.Name, m.name) {
			continue
		}
		left[s.Ino] -= uint64(size)
		m.sender = k.picture.files[s.Ino]
		return nil
	}
	return nil
}

// assignRest says of messages of a datagram socket whether the peer sent them,
// also one that is closed. To a socket without a name nobody else can send.
func (k *Kind) assignRest(u *sockdiag.Unix) {
	for _, m := range k.queues[u.Ino].messages {
		peer := k.picture.socks[u.Peer]
		mutual := peer != nil && peer.Peer == u.Ino
		switch {
		case u.Type != sys.SOCK_DGRAM:
		case m.sender != nil:
			m.peer = mutual && m.sender == k.picture.files[u.Peer]
		case m.known && len(u.Name) == 0 && u.Peer != 0: // who was made with it, and is closed
		case len(u.Name) == 0 && peer != nil && !mutual && !bytes.Equal(peer.Name, m.name): // likewise
		case len(u.Name) == 0 && u.Peer != 0:
			m.sender, m.peer = k.picture.files[u.Peer], mutual
		default:
			m.peer = len(u.Name) == 0 || u.HasPeer && u.Peer == 0 && len(m.name) == 0
		}
	}
}

// candidates returns datagram sockets of the tree that may have sent a message with that
// name: first the peer, then those that are connected to u, or, far, all others. Nobody
// but the former can have sent to a socket without a name.
func (k *Kind) candidates(u *sockdiag.Unix, name []byte, far bool) (out []*sockdiag.Unix) {
	near := func(s *sockdiag.Unix) bool { return s.Ino == u.Peer || s.Peer == u.Ino }
	all, aimed := k.sending(name), k.picture.aimed(u)
	if far {
		if len(u.Name) == 0 {
			return nil
		}
		return slices.DeleteFunc(slices.Clone(all), near)
	}
	if peer := k.picture.socks[u.Peer]; peer != nil && k.sent(peer) {
		out = append(out, peer)
	}
	if len(all) < len(aimed) { // whichever are fewer
		return append(out, slices.DeleteFunc(slices.Clone(all), func(s *sockdiag.Unix) bool { return s.Peer != u.Ino })...)
	}
	for _, ino := range aimed {
		if s := k.picture.socks[ino]; k.sent(s) {
			out = append(out, s)
		}
	}
	return out
}

// sent tells whether a socket is a datagram socket of the tree and has sent something
// that waits to be read.
func (k *Kind) sent(s *sockdiag.Unix) bool {
	return s.Type == sys.SOCK_DGRAM && s.Mem.WmemAlloc > 0 && k.picture.files[s.Ino] != nil
}

// sending returns the datagram sockets of the tree of that name that have sent
// something, in order.
func (k *Kind) sending(name []byte) []*sockdiag.Unix {
	if k.senders == nil {
		k.senders = map[string][]*sockdiag.Unix{}
		for ino := range k.picture.files {
			if s := k.picture.socks[ino]; s != nil && k.sent(s) {
				k.senders[string(s.Name)] = append(k.senders[string(s.Name)], s)
			}
		}
		for _, all := range k.senders {
			slices.SortFunc(all, func(a, b *sockdiag.Unix) int { return cmp.Compare(a.Ino, b.Ino) })
		}
	}
	return k.senders[string(name)]
}

// complete makes sure that all messages at a socket were found. An empty
// message is shown to one peek only (Linux: skb->peeked), so there may be more.
func (k *Kind) complete(l *look) error {
	if l.unheld != nil {
		return nil // its queue was read from there
	}
	if l.u.Type == sys.SOCK_STREAM {
		return k.trace(l)
	}
	if l.role == listener || l.role == alone && l.u.Type == sys.SOCK_SEQPACKET {
		return nil
	}
	var found []*message
	if q := k.queues[l.u.Ino]; q != nil {
		found = q.messages
	}
	events, err := poll(l.fd.Int(), sys.POLLIN|sys.POLLRDHUP)
	if err != nil {
		return l.fail(err)
	}
	if events&sys.POLLIN == 0 || events&sys.POLLERR != 0 {
		return nil
	}
	// To a datagram socket with a name others may have sent; to one without, whose peer is not
	// connected to it, only who was made with it, before. One that is shut down can be read
	// from without any message.
	mate := l.role == paired && (l.u.Type != sys.SOCK_DGRAM || len(l.u.Name) == 0)
	if mate && l.u.Type == sys.SOCK_DGRAM && (events&sys.POLLRDHUP == 0 || len(found) > 0) {
		if mate, err = k.mutual(l); err != nil {
			return l.fail(err)
		}
	}
	for _, m := range found {
		mate = mate && m.peer
	}
	if !mate || l.u.Type == sys.SOCK_DGRAM {
		err = k.count(l, found)
	}
	// To one without who was made with it may have, before it was connected to its peer:
	// if that can't be known it isn't noticed, see docs/limits.md.
	if mate && (l.u.Type != sys.SOCK_DGRAM || errors.Is(err, sockmem.ErrUnavailable)) {
		err = k.compare(l, found)
	}
	if errors.Is(err, errHidden) && !errors.Is(err, sockmem.ErrUnavailable) {
		if found, err = k.fromMemory(l); err == nil {
			k.queues[l.u.Ino] = &queued{messages: found}
			k.assignRest(l.u)
		}
	}
	if isReason(err) {
		return l.refuse("%v; this isn't supported yet: let the process read its queue first", err)
	}
	return l.fail(err)
}

// mutual tells whether the peer of a socket is connected to it.
func (k *Kind) mutual(l *look) (bool, error) {
	peer, err := k.picture.get(l.u.Peer)
	return peer != nil && peer.Peer == l.u.Ino, err
}

// compare holds the messages that were found against the memory that the
// peer's unread messages take, if it can have sent to nobody else.
func (k *Kind) compare(l *look, messages []*message) error {
	peer, err := k.picture.get(l.u.Peer)
	if err != nil || peer == nil || !peer.HasMem {
		return err
	}
	sum := uint64(0)
	for _, m := range messages {
		n, err := k.size(l.u.Type, len(m.data))
		if err != nil {
			return err
		}
		sum += uint64(n)
	}
	if uint64(peer.Mem.WmemAlloc) > sum {
		return k.count(l, messages)
	}
	return nil
}

// count asks the kernel's memory how many messages there are: nothing else
// tells it of a socket whose peer is closed.
func (k *Kind) count(l *look, messages []*message) error {
	n, err := k.queued(l)
	if errors.Is(err, sockmem.ErrUnavailable) {
		return fmt.Errorf("%w: whether there are isn't known (%w)", errHidden, err)
	}
	if err != nil {
		return err
	}
	if n != len(messages) {
		return errHidden
	}
	return nil
}
