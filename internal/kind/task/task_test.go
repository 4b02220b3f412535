package task

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/creds"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/rlimit"
	"glis.dev/glis/image/criu/siginfo"
	"glis.dev/glis/image/criu/timer"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

func TestExtra(t *testing.T) {
	c := &core.CoreEntry{}
	putExtra(c, extraAffinity, []byte{1, 2})
	putExtra(c, "timer-slack", make([]byte, 8))
	b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	got := &core.CoreEntry{}
	if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	x, err := ReadExtra(got)
	if err != nil || len(x) != 2 || !bytes.Equal(x[extraAffinity], []byte{1, 2}) {
		t.Errorf("%v, %v", x, err)
	}
	if _, err := sized(x, extraAffinity, 4); err == nil {
		t.Error("2 bytes are taken for 4")
	}
	if v, err := sized(x, extraSched, 4); v != nil || err != nil {
		t.Errorf("absent: %v, %v", v, err)
	}
	putExtra(got, extraAffinity, nil)
	if _, err := ReadExtra(got); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("twice the same: %v", err)
	}
	c = &core.CoreEntry{}
	putExtra(c, "of-the-future", nil)
	if _, err := ReadExtra(c); err == nil || !strings.Contains(err.Error(), "of-the-future") {
		t.Errorf("unknown: %v", err)
	}
}

func TestParseCPUs(t *testing.T) {
	tests := []struct {
		list string
		want []byte
	}{
		{"0", []byte{1}}, {"0-1", []byte{3}}, {"0-3,8", []byte{0x0f, 1}}, {"9", []byte{0, 2}}, {"0-15", []byte{0xff, 0xff}},
	}
	for _, x := range tests {
		if got, err := parseCPUs(x.list); err != nil || !bytes.Equal(got, x.want) {
			t.Errorf("%q: %x, %v; want %x", x.list, got, err, x.want)
		}
	}
	for _, bad := range []string{"", "x", "3-1", "0-", "0-99999", "70000", "-1", "1,,2"} {
		if got, err := parseCPUs(bad); err == nil {
			t.Errorf("%q: %x", bad, got)
		}
	}
}

func TestPutSignals(t *testing.T) {
	info := func(sig byte) (s linux.Siginfo) { s[0] = sig; return s }
	bit := func(sigs ...uint) (set uint64) {
		for _, s := range sigs {
			set |= 1 << (s - 1)
		}
		return set
	}
	tests := []struct {
		name  string
		queue []linux.Siginfo
		set   uint64
		want  []byte
	}{
		{"none", nil, 0, nil},
		{"in order", []linux.Siginfo{info(34), info(10), info(34)}, bit(10, 34), []byte{34, 10, 34}},
		{"not queued", []linux.Siginfo{info(10)}, bit(10, 15, 64), []byte{10, 15, 64}},
		{"job control and kill", nil, bit(9, 18, 19, 20, 21, 22), nil},
	}
	for _, x := range tests {
		var got []byte
		q := putSignals(x.queue, x.set)
		err := eachSignal(q, func(sig uint64, info []byte) { got = append(got, byte(sig)) })
		if err != nil || !bytes.Equal(got, x.want) {
			t.Errorf("%s: %v, %v; want %v", x.name, got, err, x.want)
		}
	}
	for name, bad := range map[string][]byte{
		"short": make([]byte, 127), "number 0": make([]byte, 128), "number 65": append([]byte{65}, make([]byte, 127)...),
		"SIGKILL": append([]byte{9}, make([]byte, 127)...), "negative": append(bytes.Repeat([]byte{0xff}, 4), make([]byte, 124)...),
	} {
		q := &siginfo.SignalQueueEntry{Signals: []*siginfo.SiginfoEntry{{Siginfo: bad}}}
		if err := eachSignal(q, func(uint64, []byte) {}); err == nil {
			t.Errorf("%s: accepted", name)
		}
		// Both are refused before anything is made.
		thread := &core.CoreEntry{ThreadCore: &core.ThreadCoreEntry{SignalsP: q}}
		process := &core.CoreEntry{Tc: &core.TaskCoreEntry{SignalsS: q}}
		if (Signals{}).Check(env(), thread) == nil || (SharedSignals{}).Check(env(), process) == nil {
			t.Errorf("%s: planned", name)
		}
	}
}

func TestDeliverable(t *testing.T) {
	info := func(sig byte) []linux.Siginfo { return []linux.Siginfo{{sig}} }
	th := &scan.Thread{Task: &scan.Task{}, Status: &proc.Status{}}
	th.Task.Threads = []*scan.Thread{th}
	if th.Mask = 1 << 9; Deliverable(th) {
		t.Error("nothing waits")
	}
	if th.Pending = info(10); Deliverable(th) {
		t.Error("a blocked signal")
	}
	if th.Shared = info(12); !Deliverable(th) {
		t.Error("one of the process is overlooked")
	}
	th.Shared, th.Pending = nil, info(12)
	if !Deliverable(th) {
		t.Error("one of the thread is overlooked")
	}
	th.Pending, th.Status.ShdPnd = nil, 1<<11
	if !Deliverable(th) {
		t.Error("one without queue entry is overlooked")
	}
}

func TestAbortIP(t *testing.T) {
	cs := func(start, length, abort uint64) []byte {
		b := make([]byte, rseqCSSize)
		binary.LittleEndian.PutUint64(b[8:], start)
		binary.LittleEndian.PutUint64(b[16:], length)
		binary.LittleEndian.PutUint64(b[24:], abort)
		return b
	}
	for _, x := range []struct {
		ip     uint64
		inside bool
	}{{0xfff, false}, {0x1000, true}, {0x100f, true}, {0x1010, false}, {0, false}} {
		if to, in := abortIP(cs(0x1000, 0x10, 0x2000), x.ip); in != x.inside || in && to != 0x2000 {
			t.Errorf("%#x: %#x, %v", x.ip, to, in)
		}
	}
}

func TestPlainSched(t *testing.T) {
	attr := func(policy, lo, hi uint32) []byte {
		b := make([]byte, schedAttrSize)
		binary.LittleEndian.PutUint32(b[schedPolicyAt:], policy)
		binary.LittleEndian.PutUint32(b[schedUtilMinAt:], lo)
		binary.LittleEndian.PutUint32(b[schedUtilMaxAt:], hi)
		return b
	}
	for _, x := range []struct {
		policy, lo, hi uint32
		want           bool
	}{
		{unix.SCHED_NORMAL, 0, 0, true}, {unix.SCHED_NORMAL, 0, 1024, true}, {unix.SCHED_FIFO, 1024, 1024, true},
		{unix.SCHED_NORMAL, 100, 1024, false}, {unix.SCHED_NORMAL, 0, 512, false}, {unix.SCHED_DEADLINE, 0, 0, false},
	} {
		if got := plainSched(attr(x.policy, x.lo, x.hi)); got != x.want {
			t.Errorf("%+v: %v", x, got)
		}
	}
}

func TestHalves(t *testing.T) {
	for _, set := range []uint64{0, 1, 1 << 40, ^uint64(0)} {
		if got := whole(halves(set)); got != set {
			t.Errorf("%#x comes back as %#x", set, got)
		}
	}
	if whole(nil) != 0 || whole([]uint32{5}) != 5 || whole([]uint32{1, 2, 3}) != 1|2<<32 {
		t.Error("sets of other lengths")
	}
	if got := known(^uint64(0)); got != 1<<41-1 {
		t.Errorf("known: %#x", got)
	}
}

func env(caps ...int) *plan.CheckEnv {
	return &plan.CheckEnv{Capable: func(c int) bool { return slices.Contains(caps, c) }, Bounded: func(c int) bool { return c <= unix.CAP_LAST_CAP }}
}

func TestCheck(t *testing.T) {
	all := []int{unix.CAP_SYS_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_SYS_NICE, unix.CAP_SYS_RESOURCE}
	limit := func(i int, hard uint64) *core.CoreEntry {
		l := &core.TaskRlimitsEntry{}
		for k := range i + 1 {
			v := uint64(0)
			if k == i {
				v = hard
			}
			l.Rlimits = append(l.Rlimits, &rlimit.RlimitEntry{Cur: proto.Uint64(0), Max: &v})
		}
		return &core.CoreEntry{Tc: &core.TaskCoreEntry{Rlimits: l}}
	}
	thread := func(t *core.ThreadCoreEntry) *core.CoreEntry { return &core.CoreEntry{ThreadCore: t} }
	task := func(t *core.TaskCoreEntry) *core.CoreEntry { return &core.CoreEntry{Tc: t} }
	posix := func(t ...*timer.PosixTimerEntry) *core.CoreEntry {
		return task(&core.TaskCoreEntry{Timers: &timer.TaskTimersEntry{Posix: t}})
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CPU, &own); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		facet kind.Checker
		env   *plan.CheckEnv
		c     *core.CoreEntry
		err   string
	}{
		{"limits as ours", Rlimits{}, env(), limit(unix.RLIMIT_CPU, own.Max), ""},
		{"too many files", Rlimits{}, env(all...), limit(unix.RLIMIT_NOFILE, 1<<40), "fs.nr_open"},
		{"too many limits", Rlimits{}, env(all...), limit(16, 0), "17 resource limits"},
		{"realtime", Sched{}, env(all...), thread(&core.ThreadCoreEntry{SchedPolicy: proto.Uint32(1), SchedPrio: proto.Uint32(3)}), ""},
		{"realtime without leave", Sched{}, env(), thread(&core.ThreadCoreEntry{SchedPolicy: proto.Uint32(1), SchedPrio: proto.Uint32(3)}), "CAP_SYS_NICE"},
		{"realtime without priority", Sched{}, env(all...), thread(&core.ThreadCoreEntry{SchedPolicy: proto.Uint32(1)}), "no sense"},
		{"nice", Sched{}, env(all...), thread(&core.ThreadCoreEntry{SchedNice: proto.Int32(20)}), "no sense"},
		{"deadlines that nobody noted", Sched{}, env(all...), thread(&core.ThreadCoreEntry{SchedPolicy: proto.Uint32(6)}), "dump it with Glis"},
		{"policy", Sched{}, env(all...), thread(&core.ThreadCoreEntry{SchedPolicy: proto.Uint32(99)}), "no sense"},
		{"no creds", Creds{}, env(all...), thread(&core.ThreadCoreEntry{}), "no credentials"},
		{"creds without leave", Creds{}, env(), thread(&core.ThreadCoreEntry{Creds: &creds.CredsEntry{}}), "CAP_SETUID"},
		{"creds", Creds{}, env(all...), thread(&core.ThreadCoreEntry{Creds: &creds.CredsEntry{}}), ""},
		{"new capability", Creds{}, env(all...), thread(&core.ThreadCoreEntry{Creds: &creds.CredsEntry{CapPrm: []uint32{0, 1 << 30}}}), "CAP_62"},
		{"too many groups", Creds{}, env(all...), thread(&core.ThreadCoreEntry{Creds: &creds.CredsEntry{Groups: make([]uint32, 65537)}}), "65537"},
		{"seccomp of no filter", seccompOf(), env(all...), thread(&core.ThreadCoreEntry{SeccompMode: core.SeccompMode_filter.Enum()}), "seccomp.img has 0"},
		{"seccomp", seccompOf(8, 16), env(all...), thread(&core.ThreadCoreEntry{SeccompMode: core.SeccompMode_filter.Enum(), SeccompFilter: proto.Uint32(1)}), ""},
		{"seccomp without leave", seccompOf(8), env(), thread(&core.ThreadCoreEntry{SeccompMode: core.SeccompMode_filter.Enum()}), "CAP_SYS_ADMIN"},
		{"seccomp of nonsense", seccompOf(), env(all...), thread(&core.ThreadCoreEntry{SeccompMode: core.SeccompMode(7).Enum()}), "no such one"},
		{"no seccomp", newSeccomp(), env(all...), thread(&core.ThreadCoreEntry{SeccompMode: core.SeccompMode_disabled.Enum()}), ""},
		{"posix timers", PosixTimers{}, env(), posix(&timer.PosixTimerEntry{ItId: proto.Uint32(3)}, &timer.PosixTimerEntry{ItId: proto.Uint32(4)}), ""},
		{"posix timers of one number", PosixTimers{}, env(), posix(&timer.PosixTimerEntry{}, &timer.PosixTimerEntry{}), "comes behind"},
		{"posix timer of a large number", PosixTimers{}, env(), posix(&timer.PosixTimerEntry{ItId: proto.Uint32(1 << 31)}), "comes behind"},
		{"posix timer of a new sort", PosixTimers{}, env(), posix(&timer.PosixTimerEntry{ItSigevNotify: proto.Uint32(8)}), "can't be"},
		{"posix timer of nonsense", PosixTimers{}, env(), posix(&timer.PosixTimerEntry{Vnsec: proto.Uint64(1e9)}), "no sense"},
		{"microseconds", Timers{}, env(), task(&core.TaskCoreEntry{Timers: &timer.TaskTimersEntry{Real: &timer.ItimerEntry{Vusec: proto.Uint64(1_000_000)}}}), "no sense"},
		{"oom", ProcFiles{}, env(), task(&core.TaskCoreEntry{OomScoreAdj: proto.Int32(-1000)}), "CAP_SYS_RESOURCE"},
		{"oom with leave", ProcFiles{}, env(all...), task(&core.TaskCoreEntry{OomScoreAdj: proto.Int32(-1000)}), ""},
		{"oom of nonsense", ProcFiles{}, env(all...), task(&core.TaskCoreEntry{OomScoreAdj: proto.Int32(1001)}), "no sense"},
	}
	for _, x := range tests {
		err := x.facet.Check(x.env, x.c)
		if x.err == "" && err != nil || x.err != "" && (err == nil || !strings.Contains(err.Error(), x.err)) {
			t.Errorf("%s: %v, want %q", x.name, err, x.err)
		}
	}
}

func TestZombie(t *testing.T) {
	task := &scan.Task{PID: 5}
	task.Stat.Comm, task.Stat.ExitCode = "late", 7<<8
	c := DeadCore(task)
	if c.Tc.GetTaskState() != StateDead || c.Tc.GetExitCode() != 7<<8 || c.Tc.GetComm() != "late" {
		t.Errorf("%v", c)
	}
	if _, err := proto.Marshal(c); err != nil {
		t.Error(err)
	}
}

// TestLoginCheck: one that only a privilege could set is told beforehand.
func TestLoginCheck(t *testing.T) {
	own, err := ownLogin()
	if err != nil {
		t.Fatal(err)
	}
	if own == nil {
		t.Skip("this kernel has no login uids (CONFIG_AUDIT)")
	}
	other := *own ^ 1
	for _, c := range []struct {
		want *uint32
		env  *plan.CheckEnv
		ok   bool
	}{
		{nil, env(), true}, {own, env(), true}, {&other, env(unix.CAP_AUDIT_CONTROL), true}, {&other, env(), *own == noLoginUID},
	} {
		err := LoginUID{}.Check(c.env, &core.CoreEntry{Tc: &core.TaskCoreEntry{Loginuid: c.want}})
		if (err == nil) != c.ok {
			t.Errorf("%v: %v", c.want, err)
		}
	}
}

// TestKeyringImage: what an image says of a session keyring is not trusted.
func TestKeyringImage(t *testing.T) {
	s := &sessionKeyring{userKey: userKey{uid: 1, gid: 2, perm: 0x3f1f0000, name: "login"}, serial: 7, linked: true}
	plain := s.encode()
	s.keys = []*userKey{{uid: 3, gid: 4, perm: 0x1b1b0000, name: "invocation_id", payload: []byte{5, 0}}, {name: "n", payload: []byte("p")}}
	got, err := decodeKeyring(kind.Extra{extraKeyring: s.encode()})
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("%+v becomes %+v: %v", s, got, err)
	}
	for _, b := range [][]byte{
		{}, plain[:keyringHead], plain[:len(plain)-1], append(bytes.Clone(plain), 0), append(bytes.Clone(plain), make([]byte, 300)...),
		append(bytes.Clone(plain[:keyringHead]), ".hidden\x00"...), s.encode()[:len(s.encode())-1], append(s.encode(), 1),
	} {
		if _, err := decodeKeyring(kind.Extra{extraKeyring: b}); err == nil {
			t.Errorf("%q is taken", b)
		}
	}
	for _, text := range []string{"", "user;0;0;3f;x", "keyring;x;0;3f;_ses", "keyring;0;0;_ses"} {
		if _, err := parseKeyring(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if s, err := parseKeyring("keyring;1000;100;3f030000;a;b"); err != nil || s.uid != 1000 || s.perm != 0x3f030000 || s.name != "a;b" {
		t.Errorf("%+v, %v", s, err)
	}
}
