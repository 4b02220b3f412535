package arch

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestCalledNr(t *testing.T) {
	tests := []struct {
		code []byte
		nr   uint64
		ok   bool
	}{
		{[]byte{0xb8, 0xe6, 0, 0, 0, 0x0f, 0x05}, 230, true},
		{[]byte{0x90, 0xb8, 0x23, 0, 0, 0, 0x0f, 0x05}, 35, true},
		{[]byte{0x48, 0x89, 0xf8, 0x90, 0x90, 0x0f, 0x05}, 0, false}, // mov rax,rdi
		{[]byte{0xb8, 0xe6, 0, 0, 0, 0xcd, 0x80}, 0, false},          // int 0x80
		{[]byte{0x0f, 0x05}, 0, false},
		{nil, 0, false},
	}
	for _, x := range tests {
		if nr, ok := CalledNr(x.code); nr != x.nr || ok != x.ok {
			t.Errorf("%x: %d, %v; want %d, %v", x.code, nr, ok, x.nr, x.ok)
		}
	}
}

func TestBlockCall(t *testing.T) {
	const p, q = 0x7f0000001000, 0x7fff00002000
	tests := []struct {
		name string
		args [6]uint64
		nr   uint64 // 0: can't be told
	}{
		{"nanosleep", [6]uint64{p, q}, unix.SYS_NANOSLEEP},
		{"clock_nanosleep", [6]uint64{1, 0, p, q}, unix.SYS_CLOCK_NANOSLEEP},
		{"clock_nanosleep realtime", [6]uint64{0, 0, p, 0}, unix.SYS_CLOCK_NANOSLEEP},
		{"poll", [6]uint64{p, 3, 5000}, unix.SYS_POLL},
		{"poll for ever, sign extended", [6]uint64{p, 3, ^uint64(0)}, unix.SYS_POLL},
		{"poll for ever, zero extended", [6]uint64{p, 3, 0xffffffff}, unix.SYS_POLL},
		{"poll of nothing", [6]uint64{0, 0, 5000}, unix.SYS_POLL},
		{"futex, private", [6]uint64{p, 128, 0xffffffff00000001, q}, unix.SYS_FUTEX},
		{"futex or poll", [6]uint64{p, 128, 7, q}, 0},
		{"nanosleep without rest or poll of nothing", [6]uint64{p, 0, 7}, 0},
		{"garbage", [6]uint64{5, 6, 1 << 40, 8}, 0},
	}
	for _, x := range tests {
		if nr, ok := BlockCall(x.args); ok != (x.nr != 0) || ok && nr != x.nr {
			t.Errorf("%s: %d, %v; want %d", x.name, nr, ok, x.nr)
		}
	}
}

func TestCallOf(t *testing.T) {
	const p, q = 0x7f0000001000, 0x7fff00002000
	tests := []struct {
		name  string
		args  [6]uint64
		block [2]uint64
		nr    uint64 // 0: can't be told
	}{
		{"futex", [6]uint64{p, 0, 0, q}, [2]uint64{p, 0x52 << 32}, unix.SYS_FUTEX},
		{"futex, private", [6]uint64{p, 128, 7, q}, [2]uint64{p, 0x42<<32 | 7}, unix.SYS_FUTEX},
		{"futex of older kernels", [6]uint64{p, 128, 7, q}, [2]uint64{p, 4<<32 | 7}, unix.SYS_FUTEX},
		{"poll", [6]uint64{p, 3, 5000}, [2]uint64{p, 1<<32 | 3}, unix.SYS_POLL},
		{"poll for ever", [6]uint64{p, 3, ^uint64(0)}, [2]uint64{p, 3}, unix.SYS_POLL},
		{"poll of nothing", [6]uint64{0, 0, 5000}, [2]uint64{0, 1 << 32}, unix.SYS_POLL},
		{"nanosleep", [6]uint64{p, q}, [2]uint64{1<<32 | 1, q}, unix.SYS_NANOSLEEP},
		{"nanosleep without rest", [6]uint64{p, 0, 7}, [2]uint64{1, 99}, unix.SYS_NANOSLEEP},
		{"clock_nanosleep", [6]uint64{7, 0, p, q}, [2]uint64{1<<32 | 7, q}, unix.SYS_CLOCK_NANOSLEEP},
		{"clock_nanosleep without rest", [6]uint64{1, 0, p, 0}, [2]uint64{1, 99}, unix.SYS_CLOCK_NANOSLEEP},
		{"poll, of a futex's arguments", [6]uint64{p, 9, 9, q}, [2]uint64{p, 1<<32 | 9}, unix.SYS_POLL},
		{"another's", [6]uint64{p, 0, 0, q}, [2]uint64{q, 0}, 0},
	}
	for _, x := range tests {
		if nr, ok := CallOf(x.args, x.block); ok != (x.nr != 0) || ok && nr != x.nr {
			t.Errorf("%s: %d, %v; want %d", x.name, nr, ok, x.nr)
		}
	}
}

func TestRenewable(t *testing.T) {
	tests := []struct {
		nr   uint64
		args [6]uint64
		want bool
	}{
		{unix.SYS_EPOLL_WAIT, [6]uint64{3, 1, 1, ^uint64(0)}, true},
		{unix.SYS_EPOLL_WAIT, [6]uint64{3, 1, 1, 0xffffffff}, true},
		{unix.SYS_EPOLL_WAIT, [6]uint64{3, 1, 1, 1000}, false},
		{unix.SYS_EPOLL_PWAIT, [6]uint64{3, 1, 1, ^uint64(0)}, true},
		{unix.SYS_EPOLL_PWAIT2, [6]uint64{3, 1, 1, 0}, true},
		{unix.SYS_EPOLL_PWAIT2, [6]uint64{3, 1, 1, 4096}, false},
		{unix.SYS_RT_SIGTIMEDWAIT, [6]uint64{1, 1, 0}, true},
		{unix.SYS_RT_SIGTIMEDWAIT, [6]uint64{1, 1, 1}, false},
		{unix.SYS_SEMOP, [6]uint64{}, true},
		{unix.SYS_SEMTIMEDOP, [6]uint64{0, 0, 0, 9}, false},
		{unix.SYS_READ, [6]uint64{}, true},
		{unix.SYS_CONNECT, [6]uint64{}, true},
		{unix.SYS_RECVMMSG, [6]uint64{0, 0, 0, 0, 9}, true},
		{unix.SYS_PAUSE, [6]uint64{}, false},
		{unix.SYS_CLOSE, [6]uint64{}, false},
	}
	for _, x := range tests {
		if got := Renewable(x.nr, x.args); got != x.want {
			t.Errorf("call %d %v: %v", x.nr, x.args, got)
		}
	}
}

// TestFold checks that SetInterrupted undoes FoldRestart, and what folding
// makes of each code.
func TestFold(t *testing.T) {
	for _, code := range []int64{eRESTARTSYS, eRESTARTNOINTR, eRESTARTNOHAND} {
		r := Regs{Rip: 0x1002, Rax: uint64(code), Orig_rax: unix.SYS_READ}
		want := r
		if got, ok := RestartCode(&r); !ok || got != code {
			t.Errorf("code %d: %d, %v", code, got, ok)
		}
		FoldRestart(&r, false)
		if r.Rip != 0x1000 || !AtCall(&r, unix.SYS_READ) || r.Orig_rax != ^uint64(0) {
			t.Errorf("code %d folded: %+v", code, r)
		}
		SetInterrupted(&r, unix.SYS_READ, code, true)
		if r != want {
			t.Errorf("code %d unfolded: %+v, want %+v", code, r, want)
		}
	}
	r := Regs{Rip: 0x1002, Rax: ^uint64(515), Orig_rax: unix.SYS_NANOSLEEP} // -516
	if !NeedsBlock(&r) {
		t.Fatal("-516 is not taken for a restart block")
	}
	want := r
	FoldRestart(&r, false)
	if r.Rip != 0x1002 || int64(r.Rax) != -int64(unix.EINTR) {
		t.Errorf("folded: %+v", r)
	}
	SetInterrupted(&r, unix.SYS_NANOSLEEP, RestartBlock, false)
	if r != want {
		t.Errorf("unfolded: %+v, want %+v", r, want)
	}
	Finish(&r, -22)
	if int64(r.Rax) != -22 || r.Orig_rax != ^uint64(0) || r.Rip != 0x1002 {
		t.Errorf("finished: %+v", r)
	}
	if _, ok := RestartCode(&Regs{Rax: ^uint64(511), Orig_rax: ^uint64(0)}); ok {
		t.Error("a number in rax outside of a system call is taken for a code")
	}
}

func TestBlockEnd(t *testing.T) {
	const p, q = 0x7f0000001000, 0x7fff00002000
	tests := []struct {
		name  string
		nr    uint64
		args  [6]uint64
		block [4]uint64
		clock int32
		end   uint64
		ok    bool
	}{
		{"futex", unix.SYS_FUTEX, [6]uint64{p, 128, 7, q}, [4]uint64{p, 0x42<<32 | 7, 0xffffffff, 99}, unix.CLOCK_MONOTONIC, 99, true},
		{"another futex", unix.SYS_FUTEX, [6]uint64{p, 128, 7, q}, [4]uint64{q, 0x42<<32 | 7, 0xffffffff, 99}, 0, 0, false},
		{"poll", unix.SYS_POLL, [6]uint64{p, 3, 5000}, [4]uint64{p, 1<<32 | 3, 2, 5}, unix.CLOCK_MONOTONIC, 2_000_000_005, true},
		{"poll for ever", unix.SYS_POLL, [6]uint64{p, 3, ^uint64(0)}, [4]uint64{p, 3, 2, 5}, 0, 0, false},
		{"poll without end", unix.SYS_POLL, [6]uint64{p, 3, 1}, [4]uint64{p, 1<<32 | 3, 1 << 40, 5}, 0, 0, false},
		{"nanosleep", unix.SYS_NANOSLEEP, [6]uint64{p}, [4]uint64{1, q, 77}, unix.CLOCK_MONOTONIC, 77, true},
		{"clock_nanosleep", unix.SYS_CLOCK_NANOSLEEP, [6]uint64{7, 0, p}, [4]uint64{7, q, 77}, unix.CLOCK_BOOTTIME, 77, true},
		{"clock_nanosleep of CPU time", unix.SYS_CLOCK_NANOSLEEP, [6]uint64{2, 0, p}, [4]uint64{2, q, 77}, 0, 0, false},
	}
	for _, x := range tests {
		clock, end, ok := BlockEnd(x.nr, x.args, x.block)
		if ok != x.ok || ok && (clock != x.clock || end != x.end) {
			t.Errorf("%s: %d of clock %d, %v", x.name, end, clock, ok)
		}
	}
}

func TestTimed(t *testing.T) {
	for _, x := range []struct {
		nr   uint64
		args [6]uint64
		want bool
	}{
		{unix.SYS_POLL, [6]uint64{1, 1, 5}, true}, {unix.SYS_POLL, [6]uint64{1, 1, 0xffffffff}, false},
		{unix.SYS_FUTEX, [6]uint64{1, 128, 0, 8}, true}, {unix.SYS_FUTEX, [6]uint64{1, 128, 0, 0}, false}, {unix.SYS_FUTEX, [6]uint64{1, 128 | FutexWaitBitset, 0, 8}, false},
		{unix.SYS_NANOSLEEP, [6]uint64{8, 0}, true}, {unix.SYS_NANOSLEEP, [6]uint64{8, 8}, false},
		{unix.SYS_CLOCK_NANOSLEEP, [6]uint64{1, 1, 8}, false}, {unix.SYS_CLOCK_NANOSLEEP, [6]uint64{1, 0, 8}, true}, {unix.SYS_READ, [6]uint64{}, false},
	} {
		if got := Timed(x.nr, x.args); got != x.want {
			t.Errorf("call %d %v: %v", x.nr, x.args, got)
		}
	}
}
