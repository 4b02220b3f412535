package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
)

// Errors that wait at a socket of ping, or at a raw one, come again as those of UDP do:
// the kernel finds a ping by its number. What an ICMP message says of a raw socket's packet
// it tells all raw sockets of that protocol and these addresses, so there must be one.

// saveErrors writes down errors that wait.
func (l *bareLook) saveErrors() error {
	if l.Sock == nil {
		return nil
	}
	p := []unix.PollFd{{Fd: int32(l.FD.Int())}}
	if _, err := linux.PollNow(p); err != nil || p[0].Revents&unix.POLLERR == 0 {
		return l.Fail(err)
	}
	m, err := l.kind.memory()
	if err != nil {
		return l.Fail(err)
	}
	box := &inbox{err: unix.Errno(l.Sock.U32("sock.sk_err"))}
	if err = box.readErrors(m, l.Sock.At+m.Off("sock.sk_error_queue")); err == nil {
		err = l.checkErrors(box)
	}
	if errors.Is(err, errInbox) {
		return l.Refuse("%v; let the process read it first", err)
	}
	if err != nil {
		return l.Fail(err)
	}
	if l.ErrorsKept = true; box.err != 0 {
		l.More.Error = proto.Uint32(uint32(box.err))
	}
	return box.save(l.Env, &l.File.ID)
}

// checkErrors refuses those that can't be brought about again.
func (l *bareLook) checkErrors(box *inbox) error {
	ends, err := l.kind.bareEnds(l.Plain, l.sort)
	if err != nil {
		return err
	}
	f := &failed{
		inbox: box, at: address{ends.Local.Addr(), ends.Local.Port()}, peer: address{ends.Remote.Addr(), ends.Remote.Port()},
		protocol: l.protocol, raw: l.bare == unix.SOCK_RAW,
	}
	if !f.possible() || f.at.port == 0 {
		return fmt.Errorf("%w: an error (%v) waits to be reported", errInbox, box.err)
	}
	if f.raw {
		return l.checkRaw(f, ends)
	}
	if l.kind.shares(l.sort, ends) {
		return fmt.Errorf("%w: errors wait, and another ping has its number (SO_REUSEADDR)", errInbox)
	}
	return nil
}

// checkRaw refuses errors of a raw socket that others would be told of, too, or that it
// would not be told of any more.
func (l *bareLook) checkRaw(f *failed, ends proc.NetSocket) error {
	why, err := l.kind.heard(f, l.sort, ends)
	if err != nil {
		return err
	}
	if why != "" {
		return fmt.Errorf("%w: an error (%v) waits to be reported, and %s", errInbox, f.err, why)
	}
	if dev := l.Opts.Entry.GetSoBoundDev(); dev != "" && dev != "lo" {
		return fmt.Errorf("%w: an error (%v) waits to be reported at a socket that belongs to interface %s", errInbox, f.err, dev)
	}
	if l.kind.gates {
		return nil
	}
	g, err := newGate()
	if err != nil {
		return fmt.Errorf("%w: an error (%v) waits to be reported, and couldn't be brought about again (%w)", errInbox, f.err, err)
	}
	l.kind.gates = true
	return g.Close()
}

// heard is failed.heard with the sockets that there are.
func (k *Kind) heard(f *failed, s sort, self proc.NetSocket) (string, error) {
	raws, err := k.listOf(s.listed())
	if err != nil {
		return "", err
	}
	pings, err := k.listOf(sort{family: s.family, bare: unix.SOCK_DGRAM}.listed())
	if err != nil {
		return "", err
	}
	return f.heard(self, raws, pings), nil
}

// heard says why the errors of a raw socket would be told to others, or not to itself; ""
// if they would not.
func (f *failed) heard(self proc.NetSocket, raws, pings map[uint64]proc.NetSocket) string {
	all := f.errs
	if len(all) == 0 {
		all = []*datagram{f.message()}
	}
	for _, d := range all {
		protocol, from, to, body, ok := d.about()
		switch {
		case !ok || protocol != uint8(f.protocol) || !matches(self, from, to):
			return "it is about a packet that isn't the socket's"
		case handled[protocol]:
			return fmt.Sprintf("the kernel, too, acts upon errors of protocol %d", protocol)
		}
		for _, o := range raws {
			if o.Inode != self.Inode && int(o.Local.Port()) == f.protocol && matches(o, from, to) {
				return "another raw socket of that protocol would be told of it"
			}
		}
		number := binary.BigEndian.Uint16(body[4:])
		for _, o := range pings {
			if (protocol == unix.IPPROTO_ICMP || protocol == unix.IPPROTO_ICMPV6) && o.Local.Port() == number {
				return "a ping would be told of it"
			}
		}
	}
	return ""
}

// matches tells whether a raw socket sends, and gets, packets between these addresses.
func matches(s proc.NetSocket, from, to netip.Addr) bool {
	fits := func(own, a netip.Addr) bool { return own.IsUnspecified() || own == a }
	return fits(s.Local.Addr(), from) && fits(s.Remote.Addr(), to)
}

// about returns what an ICMP message tells of the packet that it is about; false if that
// is less than the kernel needs, or has headers of extensions.
func (d *datagram) about() (protocol uint8, from, to netip.Addr, body []byte, ok bool) {
	const least = 8 // bytes of either header, and behind the packet's
	b := d.body[min(least, len(d.body)):]
	size := ip4Header
	if d.to.Is6() {
		size = ip6Header
	} else if len(b) > 0 {
		size = int(b[0]&15) * 4
	}
	if len(b) < size+least || size < ip4Header {
		return 0, from, to, nil, false
	}
	if d.to.Is6() {
		return b[6], netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:])), b[size:], true
	}
	return b[9], netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])), b[size:], true
}

// failAgain has the errors wait. A raw socket, and all others, do not hear the messages
// themselves.
func (n *bareNode) failAgain(own int) (err error) {
	if n.failed == nil {
		return nil
	}
	if n.failed.raw {
		g, err := newGate()
		if err != nil {
			return fmt.Errorf("have an error wait: %w", err)
		}
		defer func() { err = errors.Join(err, g.Close()) }()
		n.failed.mark = int(g.mark)
	}
	return n.failed.again(own)
}

// checkHeard makes sure, before there is a tree, that nobody else is told of errors.
func (n *bareNode) checkHeard() error {
	if n.failed == nil || !n.failed.raw {
		return nil
	}
	self := proc.NetSocket{Local: netip.AddrPortFrom(n.at.ip, n.at.port), Remote: netip.AddrPortFrom(n.peer.ip, n.peer.port)}
	why, err := n.kind.heard(n.failed, n.sort, self)
	if err != nil {
		return err
	}
	if why != "" {
		return fmt.Errorf("file %#x, %v: an error (%v) waits to be reported, and %s", n.Self, n, n.failed.err, why)
	}
	return nil
}

// planErrors checks what waits to be reported.
func (n *bareNode) planErrors() error {
	box, number := n.kind.datagrams[n.Self], n.More.GetError()
	if box == nil && number == 0 {
		return nil
	}
	if box == nil {
		box = &inbox{}
	}
	if n.kind.pings == nil {
		n.kind.pings = map[plan.ID]bool{}
	}
	n.kind.pings[n.Self] = true
	box.err = unix.Errno(number)
	n.failed = &failed{inbox: box, at: n.at, peer: n.peer, protocol: n.protocol, device: n.entry.GetIfname(), raw: n.bare == unix.SOCK_RAW}
	switch {
	case len(box.waiting) > 0:
		return errors.New("datagrams wait at a socket without ports: that can't be")
	case !n.failed.possible() || n.at.port == 0:
		return fmt.Errorf("an error that waits (%v) can't be made again", box.err)
	}
	for _, d := range box.errs {
		if d.to.Is6() != (n.family == unix.AF_INET6) {
			return errors.New("an ICMP message of the other family waits: that can't be")
		}
	}
	return nil
}
