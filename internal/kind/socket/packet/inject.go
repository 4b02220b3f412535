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
	mark   uint32 // of our packets
	fds    []int  // programs, and where they are attached
}

// Marks of injectors begin behind those of gates, see inet.
const (
	firstMark = netlock.PassMark + 1<<13
	markCount = 1 << 12
)

// tryInject says why packets can't come by an interface.
func tryInject(device string) string {
	in, err := newInjector(device)
	if err == nil {
		err = in.Close()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func newInjector(device string) (*injector, error) {
	in := &injector{out: -1, mark: firstMark + rand.Uint32N(markCount)}
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
	if err := in.attach(in.device.Index, linux.BPF_TCX_INGRESS, ending(in.mark)); err != nil {
		return err
	}
	if err := in.attach(in.lo, linux.BPF_TCX_EGRESS, sendingOn(in.mark, in.device.Index)); err != nil {
		return err
	}
	if in.out, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := unix.SetsockoptInt(in.out, unix.SOL_SOCKET, unix.SO_MARK, int(in.mark)); err != nil {
		return fmt.Errorf("set SO_MARK: %w", err)
	}
	return nil
}

func (in *injector) attach(index int, where uint32, text []bpf.Insn) error {
	p, err := linux.BPFLoadClassifier(text, bpf.License)
	if err != nil {
		return fmt.Errorf("bpf(BPF_PROG_LOAD) for packets (it needs CAP_BPF and CAP_NET_ADMIN): %w", err)
	}
	in.fds = append(in.fds, p)
	l, err := linux.BPFAttachFirst(p, index, where)
	if err != nil {
		return fmt.Errorf("see packets at interface %d (CONFIG_NET_XGRESS, Linux 6.6): %w", index, err)
	}
	in.fds = append(in.fds, l)
	return nil
}

// What a program of TCX says is to become of a packet, include/uapi/linux/bpf.h.
const (
	tcxNext = -1
	tcxDrop = 2
)

// marked does something with packets of a mark, and leaves others alone.
func marked(mark uint32, then ...bpf.Insn) []bpf.Insn {
	const skbMark = 8 // offset in struct __sk_buff
	all := []bpf.Insn{bpf.In(bpf.Load32, 2, 1, skbMark, 0), bpf.In(bpf.JumpNe, 2, 0, len(then)+1, int(mark))}
	all = append(append(all, then...), bpf.In(bpf.Exit, 0, 0, 0, 0))
	return append(all, bpf.In(bpf.MoveImm, 0, 0, 0, tcxNext), bpf.In(bpf.Exit, 0, 0, 0, 0))
}

// ending is the program that ends our packets.
func ending(mark uint32) []bpf.Insn { return marked(mark, bpf.In(bpf.MoveImm, 0, 0, 0, tcxDrop)) }

// sendingOn is the program that has our packets come by an interface.
func sendingOn(mark uint32, index int) []bpf.Insn {
	const ingress = 1 // BPF_F_INGRESS
	return marked(mark, bpf.In(bpf.MoveImm, 1, 0, 0, index), bpf.In(bpf.MoveImm, 2, 0, 0, ingress), bpf.In(bpf.Call, 0, 0, 0, bpf.Redirect))
}

// all is ETH_P_ALL, in network order.
var all = bits.ReverseBytes16(unix.ETH_P_ALL)

// inject puts a packet into the queue of a socket, of which it gets so many bytes: for
// this it listens to all that comes by the interface, but lets ours in only.
func (in *injector) inject(ctx context.Context, own int, frame []byte, most int) error {
	const mark = 0xfffff000 + 20 // SKF_AD_OFF + SKF_AD_MARK of include/uapi/linux/filter.h
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: mark}, {Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: in.mark},
		{Code: unix.BPF_RET | unix.BPF_K, K: uint32(most)}, {Code: unix.BPF_RET | unix.BPF_K},
	}
	if err := unix.SetsockoptSockFprog(own, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return fmt.Errorf("set SO_ATTACH_FILTER: %w", err)
	}
	if err := unix.Bind(own, &unix.SockaddrLinklayer{Protocol: all, Ifindex: in.device.Index}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	before, err := socket.MemInfo(own, unix.SK_MEMINFO_RMEM_ALLOC)
	if err != nil {
		return err
	}
	if err := unix.Sendto(in.out, frame, 0, &unix.SockaddrLinklayer{Ifindex: in.lo, Halen: 6}); err != nil {
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
