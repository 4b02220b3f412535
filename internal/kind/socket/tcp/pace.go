package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// No system call sets how fast a connection may send, or that it takes part in ECN.
// But a congestion control can, and one may be a program (struct_ops, Linux 5.6):
// ours is made known to the kernel, a connection is given it for a moment, in which
// it sets what it is told to, and then its own again.

// Pace is how fast a connection may send.
type Pace struct {
	Window    uint32    // segments that may be on their way (snd_cwnd)
	Threshold uint32    // window up to which it grows fast (snd_ssthresh)
	ECN       uint32    // how it takes part in ECN (ecn_flags): see ecnKept
	At        time.Time // when that was
}

// Bits of ecn_flags, include/net/tcp.h; the second and third are named otherwise
// there: it has to tell its peer that it has slowed down, and that it should.
const (
	ecnOK       = 1
	ecnQueueCWR = 2
	ecnDemand   = 4
	ecnSeen     = 8
	ecnAccurate = 16 // Linux 6.18

	ecnKept = ecnOK | ecnQueueCWR | ecnDemand | ecnSeen
)

// noThreshold is TCP_INFINITE_SSTHRESH.
const noThreshold = math.MaxInt32

// maxPace is the largest window that an image may ask for, in segments: more than a
// receiver's window holds.
const maxPace = 1 << 20

// stale is after which time without an answer a connection sends again that does
// not know its path (TCP_TIMEOUT_INIT).
const stale = time.Second

// AccurateECN returns a bit of ecn_flags: the connection takes part in ECN in a way
// that has numbers of its own (RFC 9768), which can't be set.
func AccurateECN(flags uint32) uint32 { return flags & ecnAccurate }

// ecnFlags are where the kernel has ecn_flags.
const ecnFlags = "tcp_sock.ecn_flags"

// ReadECN looks in the kernel's memory how a connection takes part in ECN. Without m
// it is taken for one that does not.
func (s *Stream) ReadECN(m *kmem.Reader, fd int) error {
	s.Pace.ECN = 0
	if m == nil {
		return nil
	}
	at, err := m.Sock(fd)
	if err != nil {
		return err
	}
	own, err := m.Struct("tcp_sock", at)
	if err != nil {
		return err
	}
	s.Pace.ECN = uint32(own.U8(ecnFlags))
	return nil
}

// usual tells whether a connection that has just been made has it, or does after one
// round trip.
func (p *Pace) usual() bool {
	return p.Window >= burst && p.Window < 2*burst && p.Threshold >= noThreshold && p.ECN&ecnOK == 0
}

// Entry returns what images have of it, nil if that is nothing.
func (p *Pace) Entry() *extra.Pace {
	if p == nil || p.usual() || p.Window == 0 {
		return nil
	}
	e := &extra.Pace{Window: &p.Window, Time: proto.Uint64(uint64(time.Now().UnixMilli()))}
	if p.Threshold < noThreshold {
		e.Threshold = &p.Threshold
	}
	if p.ECN&ecnOK != 0 && AccurateECN(p.ECN) == 0 {
		e.Ecn = proto.Uint32(p.ECN & ecnKept)
	}
	return e
}

// ParsePace checks what images have of it, which is not trusted.
func ParsePace(e *extra.Pace) (*Pace, error) {
	if e == nil {
		return nil, nil
	}
	p := &Pace{Window: e.GetWindow(), Threshold: noThreshold, ECN: e.GetEcn(), At: time.UnixMilli(int64(min(e.GetTime(), math.MaxInt64)))}
	if e.Threshold != nil {
		p.Threshold = e.GetThreshold()
	}
	if p.Window == 0 || p.Window > maxPace || p.Threshold == 0 || p.Threshold > noThreshold || p.ECN&^ecnKept != 0 {
		return nil, fmt.Errorf("windows of %d and %d segments, ECN %#x can't be", p.Window, p.Threshold, p.ECN)
	}
	return p, nil
}

// Rested is what is left of it after a time in which nothing was sent: the kernel
// makes connections slower then, see tcp_cwnd_restart() in net/ipv4/tcp_output.c.
func (p Pace) Rested(now time.Time) *Pace {
	idle := now.Sub(p.At)
	if idle > stale {
		p.Threshold = max(p.Threshold, p.Window/2+p.Window/4)
	}
	for ; idle > stale && p.Window > burst; idle -= stale {
		p.Window = max(p.Window/2, burst)
	}
	return &p
}

// Pacer sets the pace of connections.
type Pacer struct {
	mu     sync.Mutex
	told   int    // map
	memory []byte // is what the program reads
	link   int
	name   string
}

// What the program is told: 0 of what it is to leave as it is.
const (
	toldWindow    = 0
	toldThreshold = 4
	toldECN       = 8
)

// NewPacer prepares it: some 5 ms. It says why this kernel can't (Linux 6.4, CAP_BPF,
// CAP_PERFMON, BTF).
func NewPacer() (*Pacer, error) {
	l, err := findPace()
	if err != nil {
		return nil, err
	}
	var number [5]byte // others may be under way at the same time, in whatever PID namespace
	if err := linux.Random(number[:]); err != nil {
		return nil, err
	}
	p := &Pacer{told: -1, link: -1, name: fmt.Sprintf("glis%x", number)}
	if err := p.register(l); err != nil {
		return nil, errors.Join(fmt.Errorf("make a congestion control: %w", err), p.Close())
	}
	return p, nil
}

// Close takes the program away, when no connection uses it any more.
func (p *Pacer) Close() error {
	var errs []error
	if p.link >= 0 {
		errs = append(errs, unix.Close(p.link))
	}
	if p.told >= 0 {
		errs = append(errs, unix.Munmap(p.memory), unix.Close(p.told))
	}
	p.link, p.told = -1, -1
	return errors.Join(errs...)
}

// Set gives a connection its pace. It may have sent nothing yet.
func (p *Pacer) Set(fd int, pace *Pace) error {
	own, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		return fmt.Errorf("read TCP_CONGESTION: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, v := range map[int]uint32{toldWindow: pace.Window, toldThreshold: pace.Threshold, toldECN: pace.ECN & ecnKept} {
		binary.NativeEndian.PutUint32(p.memory[at:], v)
	}
	for _, name := range []string{p.name, own} {
		if err := linux.Setsockopt(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, []byte(name)); err != nil {
			return fmt.Errorf("set TCP_CONGESTION to %s: %w", name, err)
		}
	}
	return nil
}

// paceLayout is where things are.
type paceLayout struct {
	ops, value               bpf.Type // struct tcp_congestion_ops, and with what a map adds
	data                     int      // offset of the one in the other
	function                 map[string][2]int
	name                     int
	window, threshold, flags int // in struct tcp_sock
}

// errNoPacer says that the kernel isn't as it is known to be.
var errNoPacer = errors.New("the kernel has no congestion controls that are programs (CONFIG_BPF_JIT, CONFIG_DEBUG_INFO_BTF)")

// paceFunctions are those that a congestion control must have, and the one that sets.
var paceFunctions = []string{"init", "ssthresh", "cong_avoid", "undo_cwnd"}

func findPace() (*paceLayout, error) {
	x, err := bpf.Kernel()
	if err != nil {
		return nil, err
	}
	defer x.Close() //nolint:errcheck // nothing was written
	found, err := x.Find(bpf.Name{Kind: bpf.KindStruct, Name: "tcp_congestion_ops"},
		bpf.Name{Kind: bpf.KindStruct, Name: "bpf_struct_ops_tcp_congestion_ops"}, bpf.Name{Kind: bpf.KindStruct, Name: "tcp_sock"})
	if err != nil {
		return nil, err
	}
	l := &paceLayout{ops: found[0], value: found[1], function: map[string][2]int{}}
	l.data, l.name = x.Member(&l.value, "data"), x.Member(&l.ops, "name")
	l.window, l.threshold, l.flags = x.Member(&found[2], "snd_cwnd"), x.Member(&found[2], "snd_ssthresh"), x.Member(&found[2], "ecn_flags")
	least := min(l.data, l.name, l.window, l.threshold, l.flags)
	for _, f := range paceFunctions {
		l.function[f] = [2]int{x.Index(&l.ops, f), x.Member(&l.ops, f)}
		least = min(least, l.function[f][1])
		if l.data+l.function[f][1]+8 > int(l.value.Size) {
			return nil, errNoPacer
		}
	}
	if least < 0 || l.data+l.name+congestionSize > int(l.value.Size) {
		return nil, errNoPacer
	}
	return l, nil
}

// register makes the program known.
func (p *Pacer) register(l *paceLayout) (err error) {
	if p.told, p.memory, err = linux.BPFSharedArray(os.Getpagesize()); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_CREATE): %w", err)
	}
	value := make([]byte, l.value.Size)
	for _, f := range paceFunctions {
		place := l.function[f]
		prog, err := linux.BPFLoadOp(l.program(f, p.told), bpf.License, l.ops.ID, uint32(place[0]))
		if err != nil {
			return fmt.Errorf("bpf(BPF_PROG_LOAD) of %s (it needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN): %w", f, err)
		}
		defer unix.Close(prog)
		binary.NativeEndian.PutUint64(value[l.data+place[1]:], uint64(prog))
	}
	copy(value[l.data+l.name:], p.name)
	p.link, err = linux.BPFRegisterOps(value, l.value.ID)
	return err
}

// program is one of its functions, which are given the connection first.
//
//	r1 arguments, r6 struct tcp_sock, r9 what it is told
func (l *paceLayout) program(function string, told int) []bpf.Insn {
	body := []bpf.Insn{bpf.In(bpf.Load64, 6, 1, 0, 0)}
	switch function {
	case "ssthresh":
		return append(body, bpf.In(bpf.Load32, 0, 6, l.threshold, 0), bpf.In(bpf.Exit, 0, 0, 0, 0))
	case "undo_cwnd":
		return append(body, bpf.In(bpf.Load32, 0, 6, l.window, 0), bpf.In(bpf.Exit, 0, 0, 0, 0))
	case "init":
		body = append(body, bpf.In(bpf.Imm64, 9, bpf.PseudoMapValue, 0, told), bpf.In(0, 0, 0, 0, 0))
		for _, w := range []struct {
			from, to int
			store    uint8
		}{{toldWindow, l.window, bpf.Store32}, {toldThreshold, l.threshold, bpf.Store32}, {toldECN, l.flags, bpf.Store8}} {
			body = append(body, bpf.In(bpf.Load32, 2, 9, w.from, 0), bpf.In(bpf.JumpEq, 2, 0, 1, 0), bpf.In(w.store, 6, 2, w.to, 0))
		}
	}
	return append(body, bpf.In(bpf.MoveImm, 0, 0, 0, 0), bpf.In(bpf.Exit, 0, 0, 0, 0))
}
