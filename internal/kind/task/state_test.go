package task

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	x86 "glis.dev/glis/image/criu/core-x86"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/rseq"
	"glis.dev/glis/image/criu/timer"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// TestLists checks that every facet comes back exactly once.
func TestLists(t *testing.T) {
	names := func(lists ...[]kind.Facet) (out []string) {
		for _, l := range lists {
			for _, f := range l {
				out = append(out, f.Name())
			}
		}
		slices.Sort(out)
		return out
	}
	asked := names(ProcessFacets(), ThreadFacets())
	if diff := cmp.Diff(asked, names(BeforeThreads(), LeaderFacets())); diff != "" {
		t.Errorf("asked of a leader, and restored (-asked +restored):\n%s", diff)
	}
	if c := slices.Compact(slices.Clone(asked)); len(c) != len(asked) {
		t.Errorf("a facet is there twice: %v", asked)
	}
}

// TestState dumps a process that has all sorts of state, brings it back in one
// that has none, and dumps that.
func TestState(t *testing.T) {
	from := start(t, "state.c", "set")
	to := start(t, "state.c", "plain")
	var want, got []*core.CoreEntry
	err := tracee.Run(func() error {
		task, err := freeze(from)
		if err != nil {
			return err
		}
		if want, err = ask(task); err != nil {
			return err
		}
		return release(task)
	})
	if err != nil {
		t.Fatal(err)
	}
	checkState(t, want)
	err = tracee.Run(func() error {
		task, err := freeze(to)
		if err != nil {
			return err
		}
		if err := bringBack(task, want); err != nil {
			return err
		}
		task.Arena.Reset()
		for _, th := range task.Threads {
			th.Restore()
		}
		if err := look(task); err != nil {
			return err
		}
		if got, err = ask(task); err != nil {
			return err
		}
		return release(task)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		nearlyTimers(t, want[i].Tc.GetTimers(), got[i].Tc.GetTimers())
		diff := cmp.Diff(want[i], got[i], cmp.AllowUnexported(proto.Rest{}), cmpopts.EquateEmpty(),
			cmpopts.IgnoreTypes(&x86.UserX86RegsEntry{}, &x86.UserX86FpregsEntry{}, &rseq.RseqEntry{}, &timer.TaskTimersEntry{}),
			cmpopts.IgnoreFields(core.TaskCoreEntry{}, "Flags"))
		if diff != "" {
			t.Errorf("thread %d (-dumped +restored):\n%s", i, diff)
		}
	}
}

// bringBack restores all facets but rseq, which the C library has registered
// in this process already.
func bringBack(task *scan.Task, cores []*core.CoreEntry) error {
	restore := func(i int, facets []kind.Facet) error {
		th := task.Threads[i]
		extra, err := ReadExtra(cores[i])
		if err != nil {
			return err
		}
		b := task.Arena.Batch(&th.Thread)
		r := &kind.Redo{
			Env: &plan.Env{}, Batch: b, Leader: cores[0], Core: cores[i], Extra: extra,
			PID: task.VPID, TID: th.VTID, Host: task.PID,
		}
		for _, f := range facets {
			if c, ok := f.(kind.Checker); ok {
				if err := c.Check(&plan.CheckEnv{Capable: capable, Bounded: capable}, cores[i]); err != nil {
					return fmt.Errorf("%s: %w", f.Name(), err)
				}
			}
			if f == (Rseq{}) {
				continue
			}
			if err := f.Restore(r); err != nil {
				return fmt.Errorf("%s: %w", f.Name(), err)
			}
		}
		return b.Run()
	}
	return errors.Join(restore(0, BeforeThreads()), restore(1, ThreadFacets()), restore(0, LeaderFacets()))
}

// capable is what the engine tells of itself.
func capable(c int) bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&head, &data[0]) == nil && data[c/32].Effective>>(c%32)&1 != 0
}

// nearlyTimers compares timers that went on running.
func nearlyTimers(t *testing.T, want, got *timer.TaskTimersEntry) {
	t.Helper()
	for i, p := range [][2]*timer.ItimerEntry{{want.GetReal(), got.GetReal()}, {want.GetVirt(), got.GetVirt()}, {want.GetProf(), got.GetProf()}} {
		w, g := p[0], p[1]
		// The kernel counts the CPU time of a timer in ticks, and gives one more.
		const tick = 10_000
		left := func(e *timer.ItimerEntry) uint64 { return e.GetVsec()*1e6 + e.GetVusec() }
		if w.GetIsec() != g.GetIsec() || w.GetIusec() != g.GetIusec() || left(g) > left(w)+tick || (left(g) == 0) != (left(w) == 0) {
			t.Errorf("timer %d: %v, want %v", i, g, w)
		}
	}
}

// checkState looks at some of the values that the program has set.
func checkState(t *testing.T, cores []*core.CoreEntry) {
	t.Helper()
	if len(cores) != 2 {
		t.Fatalf("%d threads", len(cores))
	}
	tc, th := cores[0].Tc, cores[1].ThreadCore
	var queued []int32
	for _, s := range th.SignalsP.Signals {
		queued = append(queued, int32(s.Siginfo[0]), int32(s.Siginfo[24]))
	}
	extra, err := ReadExtra(cores[1])
	if err != nil {
		t.Error(err)
	}
	type state struct {
		Comm, ThreadComm                            string
		Personality, Membarrier, Nofile, Core       uint64
		Subreaper                                   bool
		OOM, Nice, LeaderPolicy, LeaderPrio, Policy int64
		Uids, Groups                                []uint32
		Eff, Prm, Inh, Amb                          uint64
		Secbits, NoNewPrivs, PDeath                 uint32
		StackFlags                                  uint32
		Signals                                     []int32
		Slack, IOPrio, MCE, Affinity, TSC           []byte
	}
	c := th.Creds
	got := state{
		Comm: cores[0].ThreadCore.GetComm(), ThreadComm: th.GetComm(),
		Personality: uint64(extra[extraPersonality][2]), Membarrier: uint64(tc.GetMembarrierRegistrationMask()),
		Nofile: tc.Rlimits.Rlimits[unix.RLIMIT_NOFILE].GetCur(), Core: tc.Rlimits.Rlimits[unix.RLIMIT_CORE].GetMax(),
		Subreaper: tc.GetChildSubreaper(), OOM: int64(tc.GetOomScoreAdj()), Nice: int64(th.GetSchedNice()),
		LeaderPolicy: int64(cores[0].ThreadCore.GetSchedPolicy()), LeaderPrio: int64(cores[0].ThreadCore.GetSchedPrio()), Policy: int64(th.GetSchedPolicy()),
		Uids:   []uint32{c.GetUid(), c.GetEuid(), c.GetSuid(), c.GetFsuid(), c.GetGid(), c.GetEgid(), c.GetSgid(), c.GetFsgid()},
		Groups: c.Groups, Eff: whole(c.CapEff), Prm: whole(c.CapPrm), Inh: whole(c.CapInh), Amb: whole(c.CapAmb),
		Secbits: c.GetSecbits(), NoNewPrivs: c.GetNoNewPrivs(), PDeath: th.GetPdeathSig(), StackFlags: th.Sas.GetSsFlags(), Signals: queued,
		Slack: extra["timer-slack"], IOPrio: extra["io-priority"], MCE: extra["mce-kill"], Affinity: extra[extraAffinity], TSC: extra[extraTSC],
	}
	want := state{
		Comm: "main) R", ThreadComm: "a) S (b", Personality: 4, Membarrier: 1 << 4, Nofile: 100, Core: 4096, Subreaper: true,
		OOM: 321, Nice: 7, LeaderPolicy: unix.SCHED_FIFO, LeaderPrio: 3, Policy: unix.SCHED_BATCH | resetOnFork,
		Uids: []uint32{1000, 1001, 1002, 1002, 100, 101, 102, 102}, Groups: []uint32{5, 77, 4000000},
		Eff: 1 << unix.CAP_CHOWN, Prm: 1<<unix.CAP_CHOWN | 1<<unix.CAP_SETUID, Inh: 1<<unix.CAP_CHOWN | 1<<unix.CAP_NET_RAW, Amb: 1 << unix.CAP_CHOWN,
		Secbits: 0x4 | 0x40 | 0x80, NoNewPrivs: 1, PDeath: uint32(unix.SIGUSR2), StackFlags: 1 << 31, Signals: []int32{int32(unix.SIGUSR2), 43, 35, 41, 35, 42},
		Slack: []byte{0x40, 0xe2, 1, 0, 0, 0, 0, 0}, IOPrio: []byte{2, 0x60, 0, 0, 0, 0, 0, 0}, MCE: []byte{1, 0, 0, 0, 0, 0, 0, 0}, Affinity: []byte{1}, TSC: []byte{unix.PR_TSC_SIGSEGV, 0, 0, 0},
	}
	t.Logf("extra: %q", slices.Sorted(maps.Keys(extra)))
	// The kernel sorts nothing, but hands out the queue in order of arrival.
	slices.Sort(got.Signals)
	slices.Sort(want.Signals)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("dumped state (-want +got):\n%s", diff)
	}
	if whole(c.CapBnd)>>unix.CAP_SYS_MODULE&1 != 0 {
		t.Error("a capability that was dropped is in the bounding set")
	}
}
