package packet

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
)

// injector has packets come by an interface, as if from outside (TCX, Linux 6.6). They
// leave by the loopback interface, where a program of ours sends them on, to come by the
// other one. There those who listen to all get them, and a second program ends them: no
// protocol of the kernel's sees them.
type injector struct {
	device *net.Interface
	lo     int
	out    int    // socket that sends
	mark   uint32 // of our packets: with ways
	sights []bpf.Sight
	fds    []int // programs, and where they are attached
}

// Marks of injectors begin behind those of gates, see inet.
const (
	firstMark = netlock.PassMark + 1<<13
	markCount = 1 << 12
)

// Ways in which a packet comes, added to the mark.
const (
	heard    = 1 // it is heard when it is sent, by the loopback interface
	verified = 2 // the kernel is told that its checksum is right
	passing  = 4 // it goes on, to those who listen to one protocol
	ways     = 8
)

// tryInject says why packets can't come by an interface. It does all that newInjector does
// but to wait, since the tree may stand still.
func tryInject(device string) string {
	in, err := loadedInjector(device)
	if err != nil {
		return err.Error()
	}
	if err := errors.Join(bpf.CanAttach(in.sights), in.Close()); err != nil {
		return err.Error()
	}
	return ""
}

// newInjector has the kernel wait until no packet is on its way that does not know of the
// programs, some tens of milliseconds, and once more in Close.
func newInjector(device string) (*injector, error) {
	in, err := loadedInjector(device)
	if err != nil {
		return nil, err
	}
	for _, s := range in.sights {
		l, err := s.Attach()
		if err != nil {
			return nil, errors.Join(err, in.Close())
		}
		in.fds = append(in.fds, l)
	}
	return in, nil
}

func loadedInjector(device string) (*injector, error) {
	in := &injector{out: -1, mark: firstMark + ways*rand.Uint32N(markCount)}
	if err := in.open(device); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

func (in *injector) open(device string) (err error) {
	if in.device, err = net.InterfaceByName(device); err != nil {
		return fmt.Errorf("find interface %q: %w", device, err)
	}
	if in.device.Flags&net.FlagUp == 0 {
		return fmt.Errorf("interface %q is down", device)
	}
	if err := reachable(); err != nil {
		return err
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	in.lo = lo.Index
	if err := in.load(in.device.Index, linux.BPF_TCX_INGRESS, ending(in.mark)); err != nil {
		return err
	}
	if err := in.load(in.lo, linux.BPF_TCX_EGRESS, sendingOn(in.mark, in.device.Index)); err != nil {
		return err
	}
	if in.out, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	// What is sent begins with a struct virtio_net_hdr, which tells of its checksum.
	if err := unix.SetsockoptInt(in.out, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return fmt.Errorf("set PACKET_VNET_HDR: %w", err)
	}
	return nil
}

// load loads a program that is to see packets.
func (in *injector) load(index int, where uint32, text []bpf.Insn) error {
	p, err := linux.BPFLoadClassifier(text, bpf.License)
	if err != nil {
		return fmt.Errorf("bpf(BPF_PROG_LOAD) for packets (it needs CAP_BPF and CAP_NET_ADMIN): %w", err)
	}
	in.fds = append(in.fds, p)
	in.sights = append(in.sights, bpf.Sight{Program: p, Index: index, Where: where, First: true})
	return nil
}

// What a program of TCX says is to become of a packet, include/uapi/linux/bpf.h.
const (
	tcxNext = -1
	tcxDrop = 2
)

// each does something with packets of each of our marks, and leaves others alone. What
// is done finds the packet in r6.
func each(mark uint32, then func(way int) []bpf.Insn) []bpf.Insn {
	const skbMark = 8 // offset in struct __sk_buff
	all := []bpf.Insn{bpf.In(bpf.Move, 6, 1, 0, 0), bpf.In(bpf.Load32, 7, 1, skbMark, 0)}
	for way := range ways {
		do := append(then(way), bpf.In(bpf.Exit, 0, 0, 0, 0))
		all = append(append(all, bpf.In(bpf.JumpNe, 7, 0, len(do), int(mark)+way)), do...)
	}
	return append(all, bpf.In(bpf.MoveImm, 0, 0, 0, tcxNext), bpf.In(bpf.Exit, 0, 0, 0, 0))
}

// ending is the program that ends our packets, but for those that are of a VLAN which
// nobody has: these no protocol takes.
func ending(mark uint32) []bpf.Insn {
	return each(mark, func(way int) []bpf.Insn {
		if way&passing != 0 {
			return []bpf.Insn{bpf.In(bpf.MoveImm, 0, 0, 0, tcxNext)}
		}
		return []bpf.Insn{bpf.In(bpf.MoveImm, 0, 0, 0, tcxDrop)}
	})
}

// sendingOn is the program that has our packets come by an interface.
func sendingOn(mark uint32, index int) []bpf.Insn {
	return each(mark, func(way int) (do []bpf.Insn) {
		const ingress, increase = 1, 1 // BPF_F_INGRESS, BPF_CSUM_LEVEL_INC
		if way&verified != 0 {
			do = append(do, bpf.In(bpf.Move, 1, 6, 0, 0), bpf.In(bpf.MoveImm, 2, 0, 0, increase), bpf.In(bpf.Call, 0, 0, 0, bpf.CsumLevel))
		}
		if way&heard != 0 {
			return append(do, bpf.In(bpf.MoveImm, 0, 0, 0, tcxNext))
		}
		return append(do, bpf.In(bpf.MoveImm, 1, 0, 0, index), bpf.In(bpf.MoveImm, 2, 0, 0, ingress), bpf.In(bpf.Call, 0, 0, 0, bpf.Redirect))
	})
}

// all is ETH_P_ALL, in network order.
var all = bits.ReverseBytes16(unix.ETH_P_ALL)

// letIn has a socket get a packet of ours, of which it gets so many bytes, and nothing else.
func (in *injector) letIn(own, way, most int) error {
	const kind, mark = 0xfffff000 + 4, 0xfffff000 + 20 // SKF_AD_OFF with SKF_AD_PKTTYPE, SKF_AD_MARK of include/uapi/linux/filter.h
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: mark}, {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: in.mark + uint32(way)},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: kind}, {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: unix.PACKET_OUTGOING},
		{Code: unix.BPF_RET | unix.BPF_K, K: uint32(most)}, {Code: unix.BPF_RET | unix.BPF_K},
	}
	if way&heard != 0 {
		filter[3].Jt, filter[3].Jf = 0, 1
	}
	if err := unix.SetsockoptSockFprog(own, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return fmt.Errorf("set SO_ATTACH_FILTER: %w", err)
	}
	return nil
}

// inject puts a packet into the queue of a socket: for this it listens to all that comes
// by the interface, or to the protocol of one of a VLAN that was taken off.
func (in *injector) inject(ctx context.Context, own int, w *waiting, typ uint32) error {
	way := w.way()
	if way&heard != 0 && in.device.Index != in.lo {
		return fmt.Errorf("interface %q would send it: %w", in.device.Name, unix.EINVAL)
	}
	if err := in.letIn(own, way, len(w.data)); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(in.out, unix.SOL_SOCKET, unix.SO_MARK, int(in.mark)+way); err != nil {
		return fmt.Errorf("set SO_MARK: %w", err)
	}
	if err := unix.Bind(own, &unix.SockaddrLinklayer{Protocol: w.listensTo(), Ifindex: in.device.Index}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	before, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
	if err != nil {
		return err
	}
	if err := unix.Sendto(in.out, append(w.virtio(), w.frame(typ)...), 0, &unix.SockaddrLinklayer{Ifindex: in.lo, Halen: 6}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	var failed error
	err = arrived(ctx, func() bool {
		now, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
		failed = err
		return now > before || err != nil
	})
	return errors.Join(err, failed)
}

// leave has the socket hear nothing more, until it is bound to what it is to hear.
func (in *injector) leave(own int) error {
	if err := unix.Bind(own, &unix.SockaddrLinklayer{Protocol: someProtocol(), Ifindex: in.lo}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
		return fmt.Errorf("set SO_DETACH_FILTER: %w", err)
	}
	return nil
}

// Close takes the programs from the interfaces.
func (in *injector) Close() error {
	var errs []error
	for _, n := range in.fds {
		errs = append(errs, unix.Close(n))
	}
	if in.out >= 0 {
		errs = append(errs, unix.Close(in.out))
	}
	in.fds, in.out = nil, -1
	return errors.Join(errs...)
}
