package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// A socket of IPv6 leases flow labels by IPV6_FLOWLABEL_MGR. Which it has no call tells,
// but memory does; /proc/net/ip6_flowlabel tells for how long, and for whom a label is. A
// label that is for one socket, process or user only stays nobody's for some seconds when
// it was given back: net/ipv6/ip6_flowlabel.c.

// What include/uapi/linux/in6.h has for IPV6_FLOWLABEL_MGR.
const (
	ipv6FlowlabelMgr = 32
	flCreate         = 1 // IPV6_FL_F_CREATE
	flReflect        = 4 // IPV6_FL_F_REFLECT

	// IPV6_FL_S_EXCL, PROCESS, USER and ANY.
	shareNone, shareProcess, shareUser, shareAny = 1, 2, 3, 255

	mostLabel    = 0xfffff
	mostLabels   = 1 << 16 // leases of one socket; few may have more than 32
	mostHeaders6 = 2048    // bytes of a header that packets get
)

// labelNames are the members of structures that tell which flow labels a socket has.
func labelNames() []string {
	return []string{
		// Linux 6.18, and before.
		"?inet_sock.ipv6_fl_list", "?ipv6_pinfo.ipv6_fl_list",
		"?ipv6_fl_socklist", "?ipv6_fl_socklist.next", "?ipv6_fl_socklist.fl",
		"?ip6_flowlabel", "?ip6_flowlabel.label", "?ip6_flowlabel.dst", "?ip6_flowlabel.opt", "?ip6_flowlabel.share", "?ip6_flowlabel.owner",
		"?ipv6_txoptions", "?ipv6_txoptions.hopopt", "?ipv6_txoptions.dst0opt", "?ipv6_txoptions.srcrt",
	}
}

// errLabels says that a socket has labels that can't be carried over.
var errLabels = errors.New("let the process give its flow labels back (IPV6_FLOWLABEL_MGR, IPV6_FL_A_PUT)")

func noLabels(why string, args ...any) error {
	return fmt.Errorf("%w: "+why, append([]any{errLabels}, args...)...)
}

// readLabels notes which labels a socket has leased, as far as memory tells.
func readLabels(m *kmem.Reader, own, six *kmem.Struct, e *extra.SocketEntry) error {
	var at kmem.Addr
	if m.Has("inet_sock.ipv6_fl_list") {
		at = own.Pointer("inet_sock.ipv6_fl_list")
	} else if m.Has("ipv6_pinfo.ipv6_fl_list") {
		at = six.Pointer("ipv6_pinfo.ipv6_fl_list")
	}
	if at != 0 && !(m.Has("ipv6_fl_socklist.fl") && m.Has("ip6_flowlabel.label") && m.Has("ipv6_txoptions.hopopt")) {
		return noLabels("the kernel's memory doesn't tell which they are")
	}
	for at != 0 {
		lease, err := m.Struct("ipv6_fl_socklist", at)
		if err != nil {
			return err
		}
		l, err := readLabel(m, lease.Pointer("ipv6_fl_socklist.fl"))
		if err != nil {
			return err
		}
		if e.Labels = append(e.Labels, l); len(e.Labels) > mostLabels {
			return noLabels("it has more than %d", mostLabels)
		}
		at = lease.Pointer("ipv6_fl_socklist.next")
	}
	return nil
}

// readLabel reads one. Of one of a process that has ended it notes an owner, for tellOwner.
func readLabel(m *kmem.Reader, at kmem.Addr) (*extra.FlowLabel, error) {
	s, err := m.Struct("ip6_flowlabel", at)
	if err != nil {
		return nil, err
	}
	label := binary.BigEndian.Uint32(s.Raw("ip6_flowlabel.label", 4))
	l := &extra.FlowLabel{
		Label: &label, Peer: s.Raw("ip6_flowlabel.dst", 16), Share: proto.Uint32(uint32(s.U8("ip6_flowlabel.share"))), Linger: new(uint32),
	}
	if l.GetShare() == shareProcess {
		alive, err := m.Pointer(s.Pointer("ip6_flowlabel.owner") + m.Off("pid.tasks"))
		if err != nil {
			return nil, err
		}
		if alive == 0 {
			l.Owner = new(uint32)
		}
	}
	opt := s.Pointer("ip6_flowlabel.opt")
	if opt == 0 {
		return l, nil
	}
	o, err := m.Struct("ipv6_txoptions", opt)
	if err != nil {
		return nil, err
	}
	for _, h := range labelHeaders {
		if err := h.read(m, o, l); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// labelHeader is a header of IPv6 that packets with a label may get.
type labelHeader struct {
	member string
	name   int
}

var labelHeaders = []labelHeader{
	{"ipv6_txoptions.hopopt", unix.IPV6_HOPOPTS}, {"ipv6_txoptions.dst0opt", unix.IPV6_RTHDRDSTOPTS}, {"ipv6_txoptions.srcrt", unix.IPV6_RTHDR},
}

func (h labelHeader) read(m *kmem.Reader, o *kmem.Struct, l *extra.FlowLabel) error {
	at := o.Pointer(h.member)
	if at == 0 {
		return nil
	}
	var begin [2]byte // the next header, and its own length in 8 bytes, but for the first 8
	if err := m.ReadAt(begin[:], at); err != nil {
		return err
	}
	value := make([]byte, 8+8*int(begin[1]))
	if err := m.ReadAt(value, at); err != nil {
		return err
	}
	l.Headers = append(l.Headers, &extra.SocketOption{Level: proto.Uint32(unix.IPPROTO_IPV6), Name: proto.Uint32(uint32(h.name)), Value: value})
	return nil
}

// tellLabels adds what /proc tells of the labels of a socket.
func (k *Kind) tellLabels(env *kind.DumpEnv, e *extra.SocketEntry) error {
	if len(e.Labels) == 0 {
		return nil
	}
	if k.labels == nil {
		var err error
		if k.labels, err = proc.FlowLabels(); err != nil {
			return err
		}
	}
	for _, l := range e.Labels {
		i := slices.IndexFunc(k.labels, func(f proc.FlowLabel) bool { return f.Label == l.GetLabel() })
		if i < 0 {
			return noLabels("/proc/net/ip6_flowlabel doesn't have %#x", l.GetLabel())
		}
		f := &k.labels[i]
		l.Linger = proto.Uint32(uint32(min(max(f.Linger, 0), math.MaxUint16)))
		if f.Expires > f.Linger {
			l.Expires = proto.Uint32(uint32(min(f.Expires, math.MaxUint16)))
		}
		if err := tellOwner(env.Tree, f, l); err != nil {
			return err
		}
	}
	return nil
}

// tellOwner adds who alone may lease a label. A process of the tree has the same number
// afterwards; one that has ended is stood in for, as nobody may lease its label any more.
func tellOwner(tree *scan.Tree, f *proc.FlowLabel, l *extra.FlowLabel) error {
	ended := l.Owner != nil
	switch l.GetShare() {
	case shareNone, shareAny:
		return nil
	case shareUser:
		l.Owner = &f.Owner
		return nil
	}
	for _, t := range tree.Tasks {
		if uint32(t.PID) == f.Owner && !ended && !t.Zombie && t.Ended == nil {
			l.Owner = proto.Uint32(uint32(t.VPID))
			return nil
		}
	}
	if ended && f.Owner != 0 && unix.Kill(int(f.Owner), 0) == unix.ESRCH {
		l.Owner = &f.Owner
		return nil
	}
	return noLabels("%#x may be leased by process or thread %d only (IPV6_FL_S_PROCESS), which is no process of the tree's, or has ended", l.GetLabel(), f.Owner)
}

// readReflects finds out whether the socket answers with the labels that come: then it
// tells one that is nobody's lease.
func (s sort) readReflects(fd int, e *extra.SocketEntry) error {
	if s.family != unix.AF_INET6 || s.protocol != unix.IPPROTO_TCP || s.bare != 0 {
		return nil
	}
	request := flowRequest{}.bytes()
	_, err := linux.Getsockopt(fd, unix.IPPROTO_IPV6, ipv6FlowlabelMgr, request)
	switch linger := binary.NativeEndian.Uint16(request[26:]); {
	case errors.Is(err, unix.ENOENT): // neither that, nor a lease
		return nil
	case err != nil:
		return fmt.Errorf("read IPV6_FLOWLABEL_MGR: %w", err)
	case linger == 0:
		e.Reflects = proto.Bool(true)
	}
	return nil
}

// flowRequest is a struct in6_flowlabel_req, of IPV6_FL_A_GET.
type flowRequest struct {
	peer            [16]byte
	label           uint32
	share           uint8
	flags           uint16
	expires, linger uint16
}

func (r flowRequest) bytes() []byte {
	b := binary.BigEndian.AppendUint32(slices.Clone(r.peer[:]), r.label)
	b = append(b, 0, r.share)
	for _, v := range []uint16{r.flags, r.expires, r.linger} {
		b = binary.NativeEndian.AppendUint16(b, v)
	}
	return append(b, 0, 0, 0, 0)
}

// checkLabels refuses what an entry can't have.
func (s sort) checkLabels(e *extra.SocketEntry) error {
	if e.GetReflects() && (s.family != unix.AF_INET6 || s.protocol != unix.IPPROTO_TCP || s.bare != 0) {
		return errors.New("it can't answer with flow labels")
	}
	if n := len(e.GetLabels()); n > mostLabels || n > 0 && s.family != unix.AF_INET6 {
		return fmt.Errorf("%d flow labels can't be", n)
	}
	for _, l := range e.GetLabels() {
		peer, ok := netip.AddrFromSlice(l.GetPeer())
		owned := l.GetShare() == shareProcess || l.GetShare() == shareUser
		switch {
		case !ok || !peer.Is6() || l.GetLabel() == 0 || l.GetLabel() > mostLabel,
			l.GetShare() != shareNone && l.GetShare() != shareAny && !owned,
			owned != (l.Owner != nil), l.GetShare() == shareProcess && (l.GetOwner() == 0 || l.GetOwner() > mostPID),
			l.GetLinger() > math.MaxUint16, l.GetExpires() > math.MaxUint16:
			return fmt.Errorf("flow label %#x can't be", l.GetLabel())
		}
		for _, h := range l.GetHeaders() {
			known := slices.ContainsFunc(labelHeaders, func(x labelHeader) bool { return x.name == int(h.GetName()) })
			if n := len(h.GetValue()); !known || h.GetLevel() != unix.IPPROTO_IPV6 || n == 0 || n > mostHeaders6 || n%8 != 0 {
				return fmt.Errorf("option %d of level %d, of %d bytes, can't go with a flow label", h.GetName(), h.GetLevel(), n)
			}
		}
	}
	return nil
}

// mostPID is PID_MAX_LIMIT of include/linux/threads.h on 64 bits.
const mostPID = 1 << 22

// How long is waited for a label that can't be shared, in seconds: for one that nobody has
// any more as long as programs without CAP_NET_ADMIN may ask for it to be kept, and for one
// that somebody has as long as it may take the kernel to put away a socket that was closed.
const (
	mostIdle = 60
	mostHeld = 1
)

// awaitLabels makes sure that the labels can be leased. Those that lie idle, as they do for
// some seconds after their socket was saved here and its tree ended, are waited for: each
// question of the kernel's own would have that begin anew.
func (u *unseen) awaitLabels(env *plan.CheckEnv) error {
	if len(u.entry.GetLabels()) == 0 {
		return nil
	}
	told := false
	for since := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		all, err := proc.FlowLabels()
		if err != nil {
			return err
		}
		f, wait := u.barred(all), time.Since(since)
		switch {
		case f == nil:
			return nil
		case f.Users > 0 && wait > mostHeld*time.Second:
			return fmt.Errorf("another program has flow label %#x, and it can't be shared (see /proc/net/ip6_flowlabel); end it", f.Label)
		case f.Users == 0 && (f.Expires > mostIdle || wait > 2*mostIdle*time.Second):
			return fmt.Errorf("flow label %#x, which nobody has any more, is kept for another %d seconds (see /proc/net/ip6_flowlabel); try again then", f.Label, f.Expires)
		}
		if !told {
			env.Log.Info("A flow label is still kept for who had it", "label", f.Label, "seconds", f.Expires)
			told = true
		}
		if env.Ended != nil {
			if err := env.Ended(); err != nil {
				return err
			}
		}
	}
}

// barred returns a label that can't be leased now, nil if there is none.
func (u *unseen) barred(all []proc.FlowLabel) *proc.FlowLabel {
	for _, l := range u.entry.GetLabels() {
		i := slices.IndexFunc(all, func(f proc.FlowLabel) bool { return f.Label == l.GetLabel() })
		if i >= 0 && !sharedLabel(&all[i], l) {
			return &all[i]
		}
	}
	return nil
}

// sharedLabel tells whether a label that is there may be leased in the place of another.
func sharedLabel(f *proc.FlowLabel, l *extra.FlowLabel) bool {
	size := 0
	for _, h := range l.GetHeaders() {
		size += len(h.GetValue())
	}
	peer, _ := netip.AddrFromSlice(l.GetPeer())
	shared := f.Share == shareAny || f.Share == shareUser && f.Owner == l.GetOwner()
	return shared && uint32(f.Share) == l.GetShare() && f.Peer == peer && f.Headers == uint64(size)
}

// setLabels leases the labels, but those that somebody else has to, see lessee.
func (u *unseen) setLabels(own int) error {
	if u.entry.GetReflects() {
		request := flowRequest{flags: flReflect}.bytes()
		if err := linux.Setsockopt(own, unix.IPPROTO_IPV6, ipv6FlowlabelMgr, request); err != nil {
			return fmt.Errorf("have it answer with the flow labels of its peer (IPV6_FL_F_REFLECT; the sysctl net.ipv6.flowlabel_consistency must be 0): %w", err)
		}
	}
	for _, l := range slices.Backward(u.entry.GetLabels()) {
		if _, others := lessee(l); others {
			if !u.leased {
				return fmt.Errorf("flow label %#x can't be leased by whom it is for, since the socket was made another way", l.GetLabel())
			}
			continue
		}
		if err := linux.Setsockopt(own, unix.IPPROTO_IPV6, ipv6FlowlabelMgr, leaseOf(l)); err != nil {
			return fmt.Errorf("lease flow label %#x (IPV6_FLOWLABEL_MGR; see /proc/net/ip6_flowlabel for who has it): %w", l.GetLabel(), err)
		}
	}
	return nil
}

// leaseOf is what a label is leased with.
func leaseOf(l *extra.FlowLabel) []byte {
	r := flowRequest{
		peer: [16]byte(l.GetPeer()), label: l.GetLabel(), share: uint8(l.GetShare()), flags: flCreate,
		expires: uint16(l.GetExpires()), linger: uint16(l.GetLinger()),
	}
	b := r.bytes()
	for _, h := range l.GetHeaders() {
		b = append(b, linux.Cmsg(int(h.GetLevel()), int(h.GetName()), h.GetValue())...)
	}
	return b
}
