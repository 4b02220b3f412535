package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
)

// feeder puts datagrams into the queues of UDP sockets, whomever they were sent
// to: by a program that the loopback interface calls (TCX, Linux 6.6), which
// says whose a packet of ours is.
type feeder struct {
	scratch  int
	memory   []byte
	socket   int // map with the socket that gets what comes
	programs []int
	links    []int
	lo       int                // number of the loopback interface
	groups   map[netip.Addr]int // sockets by which it is in groups of IPv6
}

// newFeeder has the loopback interface call programs: the kernel waits until no packet is on
// its way that does not know of them, some tens of milliseconds, and once more in Close.
func newFeeder() (*feeder, error) {
	f, err := loadedFeeder()
	if err != nil {
		return nil, err
	}
	for _, s := range f.sights() {
		l, err := s.Attach()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.links = append(f.links, l)
	}
	return f, nil
}

// canFeed tells why newFeeder would fail; nil: it would not. It does all but to wait, since
// the tree may stand still.
func canFeed() error {
	f, err := loadedFeeder()
	if err != nil {
		return err
	}
	return errors.Join(bpf.CanAttach(f.sights()), f.Close())
}

// sights are where the programs are to be called.
func (f *feeder) sights() (all []bpf.Sight) {
	for _, p := range f.programs {
		all = append(all, bpf.Sight{Program: p, Index: f.lo, Where: linux.BPF_TCX_INGRESS})
	}
	return all
}

func loadedFeeder() (*feeder, error) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find the loopback interface: %w", err)
	}
	f := &feeder{scratch: -1, socket: -1, lo: lo.Index, groups: map[netip.Addr]int{}}
	if err := f.load(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *feeder) load() (err error) {
	if f.scratch, f.memory, err = linux.BPFSharedArray(os.Getpagesize()); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_CREATE): %w", err)
	}
	if f.socket, err = linux.BPFSockMap(); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_CREATE) for sockets (CONFIG_NET): %w", err)
	}
	for _, at := range []int{14 + ip4Header, 14 + ip6Header} {
		p, err := linux.BPFLoadClassifier(feeding(f.scratch, f.socket, at), bpf.License)
		if err != nil {
			return fmt.Errorf("bpf(BPF_PROG_LOAD) for datagrams (it needs CAP_BPF and CAP_NET_ADMIN): %w", err)
		}
		f.programs = append(f.programs, p)
	}
	return nil
}

// Close takes the programs from the interface.
func (f *feeder) Close() error {
	var errs []error
	for _, n := range append(f.links, f.programs...) { // an interface takes 64: these are waited for
		errs = append(errs, unix.Close(n))
	}
	for _, n := range f.groups {
		errs = append(errs, unix.Close(n))
	}
	clear(f.groups)
	if f.socket >= 0 {
		errs = append(errs, unix.Close(f.socket))
	}
	if f.scratch >= 0 {
		errs = append(errs, unix.Munmap(f.memory), unix.Close(f.scratch))
	}
	f.links, f.programs, f.scratch, f.socket = nil, nil, -1, -1
	return errors.Join(errs...)
}

// Places behind the header of UDP that the program waits for.
const (
	fedResult = 16 // what the kernel said
	fedTime   = 24 // when it came
	fedSum    = 32 // BPF_CSUM_LEVEL_*: whether its checksum isn't to be computed
)

// feeding is the program, for packets with the header of UDP at a place.
//
//	r6 packet, r7 socket, r9 what it is told
func feeding(scratch, sockets, at int) []bpf.Insn {
	const skbMark, skbTime, head, key = 8, 152, -16, -24 // offsets in struct __sk_buff; on the stack
	body := []bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.Load32, 2, 6, skbMark, 0),
		bpf.In(bpf.JumpNe, 2, 0, 0, netlock.PassMark),
		bpf.In(bpf.Move, 1, 6, 0, 0), bpf.In(bpf.MoveImm, 2, 0, 0, at),
		bpf.In(bpf.Move, 3, 10, 0, 0), bpf.In(bpf.AddImm, 3, 0, 0, head), bpf.In(bpf.MoveImm, 4, 0, 0, udpHeader),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SkbLoadBytes),
		bpf.In(bpf.JumpNe, 0, 0, 0, 0),
		bpf.In(bpf.Imm64, 9, bpf.PseudoMapValue, 0, scratch), bpf.In(0, 0, 0, 0, 0),
	}
	for i := 0; i < udpHeader; i += 4 {
		body = append(body, bpf.In(bpf.Load32, 2, 10, head+i, 0), bpf.In(bpf.Load32, 3, 9, i, 0), bpf.In(bpf.JumpNeR, 2, 3, 0, 0))
	}
	body = append(body,
		bpf.In(bpf.MoveImm, 2, 0, 0, 0), bpf.In(bpf.Store64, 10, 2, key, 0),
		bpf.In(bpf.Imm64, 1, bpf.PseudoMapFD, 0, sockets), bpf.In(0, 0, 0, 0, 0),
		bpf.In(bpf.Move, 2, 10, 0, 0), bpf.In(bpf.AddImm, 2, 0, 0, key),
		bpf.In(bpf.Call, 0, 0, 0, bpf.MapLookupElem),
		bpf.In(bpf.JumpEq, 0, 0, 0, 0),
		bpf.In(bpf.Move, 7, 0, 0, 0),
		bpf.In(bpf.Move, 1, 6, 0, 0), bpf.In(bpf.Move, 2, 7, 0, 0), bpf.In(bpf.MoveImm, 3, 0, 0, 0),
		bpf.In(bpf.Call, 0, 0, 0, bpf.SkAssign),
		bpf.In(bpf.Store32, 9, 0, fedResult, 0),
		bpf.In(bpf.Move, 1, 7, 0, 0), bpf.In(bpf.Call, 0, 0, 0, bpf.SkRelease),
		bpf.In(bpf.Load64, 2, 9, fedTime, 0), bpf.In(bpf.Store64, 6, 2, skbTime, 0),
		bpf.In(bpf.Move, 1, 6, 0, 0), bpf.In(bpf.Load32, 2, 9, fedSum, 0), bpf.In(bpf.Call, 0, 0, 0, bpf.CsumLevel),
		// Once more: what is known to be right once only, IP_CHECKSUM has computed.
		bpf.In(bpf.Move, 1, 6, 0, 0), bpf.In(bpf.Load32, 2, 9, fedSum, 0), bpf.In(bpf.Call, 0, 0, 0, bpf.CsumLevel),
	)
	for i := range body {
		switch body[i].Code {
		case bpf.JumpEq, bpf.JumpNe, bpf.JumpNeR:
			body[i].Off = int16(len(body) - i - 1)
		}
	}
	const next = -1 // TCX_NEXT
	return append(body, bpf.In(bpf.MoveImm, 0, 0, 0, next), bpf.In(bpf.Exit, 0, 0, 0, 0))
}

// hear has the loopback interface listen to a group of IPv6, of which it would
// drop what comes before it is known whose it is.
func (f *feeder) hear(group netip.Addr) error {
	if _, ok := f.groups[group]; ok || !group.Is6() || !group.IsMulticast() {
		return nil
	}
	n, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	f.groups[group] = n
	if err := unix.SetsockoptIPv6Mreq(n, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(f.lo)}); err != nil {
		return fmt.Errorf("listen to %v at the loopback interface: %w", group, err)
	}
	return nil
}

// feed puts datagrams into the queue of a socket that has a port, in order.
func (f *feeder) feed(own int, all []*datagram) error {
	if err := linux.BPFSetSock(f.socket, own); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_UPDATE_ELEM) with a socket: %w", err)
	}
	for _, d := range all {
		if err := f.hear(d.to); err != nil {
			return err
		}
		before, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
		if err != nil {
			return err
		}
		p := d.packet(unix.IPPROTO_UDP, 6)
		binary.NativeEndian.PutUint32(f.memory[fedResult:], 0)
		binary.NativeEndian.PutUint64(f.memory[fedTime:], d.time)
		f.memory[fedSum] = 1 // BPF_CSUM_LEVEL_INC
		if d.summed {
			f.memory[fedSum] = 0
		}
		copy(f.memory, p.Body[:udpHeader])
		if err := d.send(p); err != nil {
			return fmt.Errorf("send it a datagram as if from %v: %w", d.from, err)
		}
		err = arrived(func() (bool, error) {
			now, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
			return now > before, err
		})
		if err != nil {
			return fmt.Errorf("a datagram of %d bytes from %v (the kernel says %d): %w", len(d.body)-udpHeader, d.from, int32(binary.NativeEndian.Uint32(f.memory[fedResult:])), err)
		}
	}
	return linux.BPFClearSock(f.socket)
}

// packet is the datagram, or ICMP message, as it came. Its checksum is at a
// place in the body.
func (d *datagram) packet(protocol uint8, sum int) *socket.Packet {
	p := &socket.Packet{From: d.from, To: d.to, Protocol: protocol, Hops: d.hops, Class: d.class, Label: d.label, Device: d.device, Body: append([]byte(nil), d.body...)}
	clear(p.Body[sum : sum+2])
	p.Sum(sum)
	return p
}

// send hands it to the kernel. What comes by way of an address of the interface that
// a link-local one belongs to is that interface's, though it comes over loopback.
func (d *datagram) send(p *socket.Packet) error {
	if d.device == "" {
		return p.Send(loopbackOf(d.to))
	}
	if !d.to.IsMulticast() {
		return p.Send(d.to)
	}
	i, err := net.InterfaceByName(d.device)
	if err != nil {
		return fmt.Errorf("interface %q: %w", d.device, err)
	}
	all, err := i.Addrs()
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", d.device, err)
	}
	for _, a := range all {
		if n, err := netip.ParsePrefix(a.String()); err == nil && n.Addr().Is6() {
			return p.Send(n.Addr().WithZone(""))
		}
	}
	return fmt.Errorf("interface %s has no address of IPv6: add one", d.device)
}

// loopbackOf is an address of this machine of the same family.
func loopbackOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// patience is how long a packet may need to arrive: it does so within
// microseconds.
const patience = 2 * time.Second

var errLost = errors.New("it doesn't arrive: does a firewall hold back packets on the loopback interface?")

// arrived waits for what a packet does.
func arrived(done func() (bool, error)) error {
	for end := time.Now().Add(patience); ; {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return errLost
		}
		time.Sleep(10 * time.Microsecond)
	}
}
