package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
)

// What a segment of IPv6 brought besides its data the kernel keeps of the one that made a
// connection, and of those that came while the process asked for it: IPV6_FLOWLABEL_MGR with
// IPV6_FL_F_REMOTE tells it, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_IF, and
// IPV6_2292PKTOPTIONS. No option sets it. A segment without data does, if it is what the
// connection waits for: ipv6_pktoptions in tcp_v6_do_rcv(), net/ipv6/tcp_ipv6.c.

// Came is what an end of a connection knows of what came from its peer; of IPv4 only one that
// waits to be accepted can be told.
type Came struct {
	Flow uint32 // label and class, of IPv4 the TOS in its place
	Hops uint32 // how far it might have gone yet
	By   bool   // by which interface it came is known
}

// freshHops is IPV6_MULTICAST_HOPS of a socket to which nothing came.
const freshHops = 1

// mostFlow is IPV6_FLOWINFO_MASK, of which so many bits are the label.
const (
	mostFlow  = 1<<28 - 1
	labelBits = 20
)

// mostHops is the most that a packet can have.
const mostHops = 255

// known tells whether anything has come.
func (c *Came) known() bool {
	return c.Hops > 0 && c.Hops <= mostHops && (c.Flow != 0 || c.By || c.Hops != freshHops)
}

// CameBy is what memory tells of it.
func CameBy(p *sockmem.Picture) (c Came) {
	if _, remote := p.Ends(); !remote.Addr().Is6() || remote.Addr().Is4In6() {
		return c
	}
	w := &p.Word
	c = Came{bits.ReverseBytes32(w[sockmem.RcvFlowInfo]) & mostFlow, w[sockmem.McastHops], w[sockmem.McastIf] != 0}
	if !c.known() {
		return Came{}
	}
	return c
}

// Entry is how images have it; nil if nothing is known.
func (c *Came) Entry() *extra.Came {
	if !c.Told() {
		return nil
	}
	e := &extra.Came{Hops: &c.Hops}
	if c.Flow != 0 {
		e.FlowInfo = &c.Flow
	}
	if c.By {
		e.Interface = proto.Bool(true)
	}
	return e
}

// ParseCame is the inverse of Entry. Images are not trusted.
func ParseCame(e *extra.Came) (Came, error) {
	if e == nil {
		return Came{}, nil
	}
	c := Came{e.GetFlowInfo(), e.GetHops(), e.GetInterface()}
	if c.Flow > mostFlow || !c.known() {
		return c, fmt.Errorf("that a segment came with flow label %#x and hop limit %d can't be", c.Flow, c.Hops)
	}
	return c, nil
}

// ReadCame asks a connection of IPv6; of flow, what memory tells, the class is taken, since
// no option tells it.
func ReadCame(fd int, flow uint32) (c Came, err error) {
	const labelManager, remote = 32, 8 // IPV6_FLOWLABEL_MGR, IPV6_FL_F_REMOTE
	var request [32]byte               // struct in6_flowlabel_req
	binary.NativeEndian.PutUint16(request[22:], remote)
	if _, err := linux.Getsockopt(fd, unix.IPPROTO_IPV6, labelManager, request[:]); err != nil {
		return c, fmt.Errorf("read IPV6_FLOWLABEL_MGR, IPV6_FL_F_REMOTE: %w", err)
	}
	hops, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS)
	if err != nil {
		return c, fmt.Errorf("read IPV6_MULTICAST_HOPS: %w", err)
	}
	by, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF)
	if err != nil {
		return c, fmt.Errorf("read IPV6_MULTICAST_IF: %w", err)
	}
	const class = 0xff << labelBits
	c = Came{binary.BigEndian.Uint32(request[16:]) | flow&class, uint32(hops), by != 0}
	if !c.known() {
		return Came{}, nil
	}
	return c, nil
}

// HearCame has a connection that was just made, in repair mode, hear of what came. option
// tells what its options are by now. It returns what takes them back when all is heard, also
// with ErrUnheard.
func (s *Stream) HearCame(fd int, p Path, option func(name string) int) (back func() error, err error) {
	back, err = s.Came.listen(fd, option)
	if err != nil {
		return nil, err
	}
	bound, err := unbind(fd, p.Device)
	if err != nil {
		return nil, err
	}
	seg := segment{Path: p, flags: flagAck, seq: s.start(), ack: s.acknowledged(), came: &s.Came}
	err = seg.send()
	if err == nil {
		err = awaitInfo(fd, "it isn't heard", func(i *info) bool { return i.segsIn != 0 })
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnheard, err)
	}
	return back, errors.Join(err, bound())
}

// ErrUnheard is that nothing gets to a connection as if from its peer.
var ErrUnheard = errors.New("it isn't told of what came with a segment")

// Told tells whether anything is known to have come.
func (c *Came) Told() bool { return *c != Came{} }

// listen has the connection note what comes with a segment, no more than that was, and
// returns what has it be as before.
func (c *Came) listen(fd int, option func(name string) int) (back func() error, err error) {
	const flowInfo, oldPacketInfo, oldHopLimit = 11, 2, 8 // IPV6_FLOWINFO, IPV6_2292PKTINFO, IPV6_2292HOPLIMIT
	on := func(yes bool) int {
		if yes {
			return 1
		}
		return 0
	}
	var was []linux.SockOpt
	for _, o := range []struct {
		name       string
		opt, value int
	}{
		{"IPV6_RECVTCLASS", unix.IPV6_RECVTCLASS, on(c.Flow != 0)}, {"IPV6_FLOWINFO", flowInfo, on(c.Flow != 0 && option("IPV6_FLOWINFO") != 0)},
		{"IPV6_RECVHOPLIMIT", unix.IPV6_RECVHOPLIMIT, on(c.Hops != freshHops)}, {"IPV6_2292HOPLIMIT", oldHopLimit, 0},
		{"IPV6_RECVPKTINFO", unix.IPV6_RECVPKTINFO, on(c.By)}, {"IPV6_2292PKTINFO", oldPacketInfo, 0},
		{"IPV6_MINHOPCOUNT", unix.IPV6_MINHOPCOUNT, 0},
	} {
		if now := option(o.name); now != o.value {
			was = append(was, linux.SockOpt{Level: unix.IPPROTO_IPV6, Name: o.opt, Value: now})
			set := linux.SockOpt{Level: unix.IPPROTO_IPV6, Name: o.opt, Value: o.value}
			if err := set.Set(fd); err != nil {
				return nil, fmt.Errorf("set %s: %w", o.name, err)
			}
		}
	}
	return func() (err error) {
		for _, o := range was {
			err = errors.Join(err, o.Set(fd))
		}
		return err
	}, nil
}
