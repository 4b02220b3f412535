package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
)

// gate lets packets of ours into one socket alone, and nothing else into that:
// by a program that is asked for every socket of any cgroup (BPF_PROG_TYPE_CGROUP_SKB,
// Linux 4.10). All raw sockets of a protocol get what comes for one of them.
type gate struct {
	scratch, program, link int
	mark                   uint32 // of packets that only the one socket is to get
	memory                 []byte // begins with the cookie of the socket (SO_COOKIE)
}

// Marks of gates begin behind that of the lock, and are so many. Two restores at
// once would keep each other's packets out if both had the same.
const (
	firstMark = netlock.PassMark + 1
	gateMarks = 1 << 12
)

func newGate() (*gate, error) {
	g := &gate{scratch: -1, program: -1, link: -1, mark: firstMark + rand.Uint32N(gateMarks)}
	if err := g.load(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *gate) load() (err error) {
	h, err := cgroupfs.Open("")
	if err != nil {
		return err
	}
	defer h.Close() //nolint:errcheck // nothing was written
	var st unix.Stat_t
	if err := unix.Fstat(h.FD(), &st); err != nil {
		return fmt.Errorf("look at the root of cgroups: %w", err)
	}
	const root = 1 // inode
	if st.Ino != root {
		return errors.New("sockets may be outside of Glis's cgroup namespace")
	}
	if g.scratch, g.memory, err = linux.BPFSharedArray(os.Getpagesize()); err != nil {
		return fmt.Errorf("bpf(BPF_MAP_CREATE): %w", err)
	}
	if g.program, err = linux.BPFLoadCgroup(gating(g.scratch, g.mark), bpf.License); err != nil {
		return fmt.Errorf("bpf(BPF_PROG_LOAD) for sockets (it needs CAP_BPF and CAP_NET_ADMIN): %w", err)
	}
	if g.link, err = linux.BPFAttachCgroup(g.program, h.FD()); err != nil {
		return fmt.Errorf("see what sockets get (CONFIG_CGROUP_BPF, Linux 5.7): %w", err)
	}
	return nil
}

// gating is the program: a packet has our mark and the socket is the one, or
// neither is true.
//
//	r6 packet, r7 whether it has our mark
func gating(scratch int, mark uint32) []bpf.Insn {
	const skbMark = 8 // offset in struct __sk_buff
	return []bpf.Insn{
		bpf.In(bpf.Move, 6, 1, 0, 0),
		bpf.In(bpf.MoveImm, 7, 0, 0, 0),
		bpf.In(bpf.Load32, 2, 6, skbMark, 0),
		bpf.In(bpf.JumpNe, 2, 0, 1, int(mark)),
		bpf.In(bpf.MoveImm, 7, 0, 0, 1),
		bpf.In(bpf.Call, 0, 0, 0, bpf.GetSocketCookie),
		bpf.In(bpf.Imm64, 2, bpf.PseudoMapValue, 0, scratch), bpf.In(0, 0, 0, 0, 0),
		bpf.In(bpf.Load64, 2, 2, 0, 0),
		bpf.In(bpf.MoveImm, 3, 0, 0, 0),
		bpf.In(bpf.JumpNeR, 2, 0, 1, 0),
		bpf.In(bpf.MoveImm, 3, 0, 0, 1),
		bpf.In(bpf.MoveImm, 0, 0, 0, 1),
		bpf.In(bpf.JumpNeR, 3, 7, 1, 0),
		bpf.In(bpf.Exit, 0, 0, 0, 0),
		bpf.In(bpf.MoveImm, 0, 0, 0, 0),
		bpf.In(bpf.Exit, 0, 0, 0, 0),
	}
}

// open lets packets into a socket.
func (g *gate) open(own int) error {
	cookie, err := unix.GetsockoptUint64(own, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return fmt.Errorf("read SO_COOKIE: %w", err)
	}
	binary.NativeEndian.PutUint64(g.memory, cookie)
	return nil
}

// Close opens the gate for all.
func (g *gate) Close() error {
	var errs []error
	for _, n := range []int{g.link, g.program} {
		if n >= 0 {
			errs = append(errs, unix.Close(n))
		}
	}
	if g.scratch >= 0 {
		errs = append(errs, unix.Munmap(g.memory), unix.Close(g.scratch))
	}
	g.link, g.program, g.scratch = -1, -1, -1
	return errors.Join(errs...)
}
