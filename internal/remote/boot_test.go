package remote_test

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/tracee"
)

// mapping is what a tracer does to a child until it dies.
type mapping struct {
	th    *remote.Thread
	insn  remote.Addr
	arena *remote.Arena
}

func (m *mapping) lay() error {
	if !m.th.LayBoot() {
		return fmt.Errorf("the vdso can't be written")
	}
	return nil
}

func (m *mapping) registers() error {
	r := m.th.Regs
	arch.SetCall(&r, uint64(m.th.Boot()), unix.SYS_GETPID, [6]uint64{1, 2, 3, 4, 5, 6})
	return tracee.SetRegs(m.th.TID, &r)
}

func (m *mapping) start() (err error) {
	m.arena, err = remote.StartArena(m.th, m.insn, 0, 1<<16)
	return err
}

// mdwe has the child be one that may have no memory that is writable and executable,
// if the kernel can (Linux 6.3).
func (m *mapping) mdwe() error {
	_, err := m.th.Inject(m.insn, unix.SYS_PRCTL, unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
	if err == unix.EINVAL {
		err = nil
	}
	return err
}

func (m *mapping) wait() error   { _, err := tracee.Wait(m.th.TID); return err }
func (m *mapping) mask() error   { return tracee.SetSigmask(m.th.TID, m.th.Mask) }
func (m *mapping) finish() error { return m.arena.FinishMap(m.th, m.insn) }
func (m *mapping) take() error   { return m.arena.StartUnmap(m.th, m.insn) }
func (m *mapping) taken() error  { return m.arena.FinishUnmap(m.th) }
func (m *mapping) restore() error {
	return m.th.Restore()
}

func (m *mapping) batch() error {
	b := m.arena.Batch(m.th)
	b.Call("getpid", unix.SYS_GETPID)
	return b.Run()
}

// TestTracerDiesMapping lets the tracer's thread end at every step of mapping
// and unmapping an arena: the child must go on from where it was, with its own
// registers and mask.
func TestTracerDiesMapping(t *testing.T) {
	needRoot(t)
	type step = func(*mapping) error
	mapped := []step{(*mapping).start, (*mapping).finish}
	used := append(mapped[:2:2], (*mapping).batch)
	left := append(used[:3:3], (*mapping).restore)
	for name, steps := range map[string][]step{
		"code is there":             {(*mapping).lay},
		"registers are set":         {(*mapping).lay, (*mapping).registers},
		"mmap runs":                 {(*mapping).start},
		"mmap has run":              {(*mapping).start, (*mapping).wait},
		"mask is back":              {(*mapping).start, (*mapping).wait, (*mapping).mask},
		"mapped":                    mapped,
		"after a batch":             used,
		"after a batch, mask back":  append(used[:3:3], (*mapping).mask),
		"arena left":                left,
		"munmap runs":               append(left[:4:4], (*mapping).take),
		"munmap runs after a batch": append(used[:3:3], (*mapping).take),
		"munmap has run":            append(left[:4:4], (*mapping).take, (*mapping).wait),
		"munmap has run, mask back": append(left[:4:4], (*mapping).take, (*mapping).wait, (*mapping).mask),
		"mapped, code apart":        append([]step{(*mapping).mdwe}, mapped...),
		"after a batch, code apart": append([]step{(*mapping).mdwe}, used...),
		"unmapped, code apart":      append([]step{(*mapping).mdwe}, append(left[:4:4], (*mapping).take, (*mapping).taken)...),
		"unmapped":                  append(left[:4:4], (*mapping).take, (*mapping).taken),
	} {
		t.Run(name, func(t *testing.T) { dieAfter(t, steps) })
	}
}

func dieAfter(t *testing.T, steps []func(*mapping) error) {
	pid, echo := child(t)
	const mask = 1<<(unix.SIGUSR1-1) | 1<<(unix.SIGHUP-1)
	tracer(t, pid, func(m *mapping) error {
		m.th.Mask = mask
		return tracee.SetSigmask(m.th.TID, mask)
	})
	for range 3 { // what is left behind must not be in the way of the next
		before := asleep(t, pid)
		regs := tracer(t, pid, func(m *mapping) error {
			if m.th.Boot() == 0 {
				return fmt.Errorf("no room in the vdso")
			}
			for _, s := range steps {
				if err := s(m); err != nil {
					return err
				}
			}
			return nil
		})
		if got := echo("alive"); got != "alive" {
			t.Fatalf("echo after the tracer's death: %q", got)
		}
		if after := asleep(t, pid); after != before {
			t.Errorf("it slept in %q, now in %q", before, after)
		}
		if s := status(t, pid, "SigBlk"); s != fmt.Sprintf("%016x", mask) {
			t.Errorf("signal mask %s", s)
		}
		if again := tracer(t, pid, nil); again != regs {
			t.Errorf("registers\n%+v\nwere\n%+v", again, regs)
		}
	}
}

// tracer stops the child, lets f do something to it and ends. It returns the
// registers as they were before.
func tracer(t *testing.T, pid proc.PID, f func(*mapping) error) (regs arch.Regs) {
	t.Helper()
	err := tracee.Run(func() error {
		th, insn, err := stop(pid)
		if err != nil {
			return err
		}
		if regs = th.Regs; f == nil {
			return nil
		}
		return f(&mapping{th: th, insn: insn})
	})
	if err != nil {
		t.Fatal(err)
	}
	for status(t, pid, "TracerPid") != "0" { // the tracer's thread ends after Run
		runtime.Gosched()
	}
	return regs
}

// asleep waits until the child sleeps in its read and returns what the kernel
// says of that call: number, arguments, stack and instruction pointer.
func asleep(t *testing.T, pid proc.PID) string {
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		if err != nil {
			t.Fatal(err)
		}
		if s := string(b); strings.HasPrefix(s, fmt.Sprintf("%d ", unix.SYS_READ)) {
			return s
		}
		runtime.Gosched()
	}
}

// TestVdsoClean checks that nothing of ours is in the vdso but while a call
// runs, and that a task without room in it is served, too.
func TestVdsoClean(t *testing.T) {
	needRoot(t)
	for _, boot := range []bool{true, false} {
		pid, echo := child(t)
		start, end, err := vdso(pid)
		if err != nil {
			t.Fatal(err)
		}
		text := func() []byte {
			b := make([]byte, end-start)
			if err := remote.ReadFull(pid, start, b); err != nil {
				t.Error(err)
			}
			return b
		}
		before := text()
		same := func(when string) {
			if !bytes.Equal(before, text()) {
				t.Errorf("%s: the vdso is not as it was", when)
			}
		}
		tracer(t, pid, func(m *mapping) error {
			if !boot {
				m.th.NoBoot()
			}
			a, err := remote.MapArena(m.th, m.insn, 0, 1<<16)
			if err != nil {
				return err
			}
			same("mapped")
			if err := a.Unmap(m.th, m.insn); err != nil {
				return err
			}
			same("unmapped")
			return m.th.Release()
		})
		if got := echo("well"); got != "well" {
			t.Errorf("echo: %q", got)
		}
	}
}

// TestOnItsWay stops a child in the room behind its vdso's image.
func TestOnItsWay(t *testing.T) {
	needRoot(t)
	pid, _ := child(t)
	tracer(t, pid, func(m *mapping) error {
		start, end, err := vdso(pid)
		if err != nil {
			return err
		}
		own := m.th.Regs
		arch.SetIP(&m.th.Regs, uint64(end)-1)
		if _, err := remote.UseVdso(m.th, start, end, m.th); err == nil {
			t.Error("a thread behind the vdso's image is accepted")
		}
		m.th.Regs = own
		return nil
	})
}

func TestRoom(t *testing.T) {
	own := arch.Boot(1, 2, 3, &arch.Regs{}, 0)
	next := (arch.BootSize + 15) &^ 15
	text := func(n int, used ...[]byte) []byte {
		b := make([]byte, n)
		for i, u := range used {
			copy(b[112+i*next:], u)
		}
		return b
	}
	for name, x := range map[string]struct {
		text []byte
		used int
		tid  uint64
		at   int // -1: none
	}{
		"empty":          {text(4096), 100, 2, 112},
		"own leftover":   {text(4096, own), 100, 2, 112},
		"another's":      {text(4096, own), 100, 7, 112 + next},
		"something else": {text(4096, []byte{1}), 100, 2, 112 + next},
		"just fits":      {text(arch.BootSize), 0, 2, 0},
		"too small":      {text(arch.BootSize + 100), 101, 2, -1},
		"full":           {text(4096), 4096, 2, -1},
		"none":           {nil, 0, 2, -1},
	} {
		at, ok := remote.Room(x.text, x.used, x.tid)
		if ok != (x.at >= 0) || ok && at != x.at {
			t.Errorf("%s: %d, %v; want %d", name, at, ok, x.at)
		}
	}
}

func FuzzImageEnd(f *testing.F) {
	pid := proc.PID(os.Getpid())
	if start, end, err := vdso(pid); err == nil {
		text := make([]byte, end-start)
		if err := remote.ReadFull(pid, start, text); err != nil {
			f.Fatal(err)
		}
		if n, ok := remote.ImageEnd(text); !ok || n < len(bytes.TrimRight(text, "\x00")) {
			f.Errorf("the vdso of %d bytes ends at %d, %v", len(text), n, ok)
		}
		f.Add(text)
	}
	f.Add([]byte("\x7fELF\x02"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, ok := remote.ImageEnd(text); ok && (n < 0 || n > len(text)) {
			t.Errorf("%d bytes end at %d", len(text), n)
		}
	})
}
