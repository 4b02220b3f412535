package dump

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/testkit"
)

// calls counts the system calls of this process, all but those that come and go with
// the moods of Go's runtime and with how long others let it wait: to count what is
// done says how long it takes, on a machine that has other things to do as well.
type calls struct{ count []byte }

// uncounted are those.
var uncounted = []int{
	unix.SYS_FUTEX, unix.SYS_SCHED_YIELD, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_EPOLL_PWAIT, unix.SYS_TGKILL, unix.SYS_GETPID,
	unix.SYS_RT_SIGRETURN, unix.SYS_MADVISE, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_WAIT4, unix.SYS_RT_SIGPROCMASK, unix.SYS_MINCORE,
}

// countCalls begins to count, until the test ends. It skips the test where no program
// of BPF can be had.
func countCalls(t testing.TB) *calls {
	t.Helper()
	values, count, err := linux.BPFSharedArray(os.Getpagesize())
	testkit.KernelMemory(t, err)
	defer unix.Close(values)
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		t.Fatal(err)
	}
	trace, err := traced(t, "sys_enter", counter(values, st.Dev, st.Ino, os.Getpid()))
	testkit.KernelMemory(t, err)
	t.Cleanup(func() {
		unix.Close(trace)
		_ = unix.Munmap(count)
	})
	return &calls{count}
}

// n is how many there were so far. It makes none itself.
func (c *calls) n() int { return int(binary.NativeEndian.Uint64(c.count)) }

// counter counts calls of a process, by its number in the namespace with the device
// and inode numbers given.
func counter(values int, dev, ino uint64, pid int) []bpf.Insn {
	const (
		nsCurrentPIDTGID = 120 // bpf_get_ns_current_pid_tgid (dev, ino, to, size), Linux 5.7
		atomicAdd        = 0xdb
		number           = 8 // of the call, behind the registers, in what the program gets
		stack            = 10
	)
	p := []bpf.Insn{bpf.In(bpf.Load64, 6, 1, number, 0)}
	for _, nr := range uncounted {
		p = append(p, bpf.In(bpf.JumpEq, 6, 0, 0, nr))
	}
	p = append(p, wide(1, 0, dev)...)
	p = append(p, wide(2, 0, ino)...)
	p = append(p,
		bpf.In(bpf.Move, 3, stack, 0, 0), bpf.In(bpf.AddImm, 3, 0, 0, -8), bpf.In(bpf.MoveImm, 4, 0, 0, 8),
		bpf.In(bpf.Call, 0, 0, 0, nsCurrentPIDTGID),
		bpf.In(bpf.Load32, 1, stack, -4, 0),
		bpf.In(bpf.MoveImm, 2, 0, 0, 1),
		bpf.In(bpf.JumpNe, 1, 0, 4, pid), // over what is left
	)
	p = append(p, wide(3, bpf.PseudoMapValue, uint64(values))...)
	p = append(p, bpf.In(atomicAdd, 3, 2, 0, 0))
	return bpf.Finish(p)
}

func wide(to, what uint8, v uint64) []bpf.Insn {
	return []bpf.Insn{bpf.In(bpf.Imm64, to, what, 0, int(int32(uint32(v)))), bpf.In(0, 0, 0, 0, int(int32(uint32(v>>32))))}
}
