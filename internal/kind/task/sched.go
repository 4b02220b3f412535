package task

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
)

// Sched is a thread's scheduling policy, priority, nice value and, since Linux
// 6.12, how long it runs at a time.
type Sched struct {
	slice func() uint64 // what all threads have that don't ask for more or less, in ns
}

func newSched() Sched { return Sched{slice: sync.OnceValue(usualSlice)} }

// Learn implements kind.Learner.
func (s Sched) Learn() { s.slice() }

// usualSlice asks the kernel for it; 0 before Linux 6.12. A thread of the
// engine's that is scheduled as usual asks for what all get, and then for its
// own again.
func usualSlice() uint64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return 0
	}
	if own.Policy != unix.SCHED_NORMAL || own.Nice != 0 || own.Flags != 0 {
		return sliceElsewhere()
	}
	usual, err := askSlice()
	if err == nil && usual != own.Runtime {
		_ = unix.SchedSetAttr(0, own, 0) // as it was
	}
	return usual
}

// askSlice has the thread that calls it be scheduled as usual.
func askSlice() (uint64, error) {
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: schedAttrSize}, 0); err != nil {
		return 0, err
	}
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return 0, err
	}
	return a.Runtime, nil
}

// sliceElsewhere asks on a thread of its own.
func sliceElsewhere() uint64 {
	usual := make(chan uint64, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with what is changed
		v, _ := askSlice()
		usual <- v
	}()
	return <-usual
}

// struct sched_attr, include/uapi/linux/sched/types.h.
const (
	schedAttrSize    = 56 // SCHED_ATTR_SIZE_VER1, Linux 5.3
	schedPolicyAt    = 4
	schedFlagsAt     = 8
	schedPriorityAt  = 20
	schedRuntimeAt   = 24
	schedUtilMinAt   = 48
	schedUtilMaxAt   = 52
	schedResetOnFork = 1           // SCHED_FLAG_RESET_ON_FORK
	schedUtilClamps  = 0x20 | 0x40 // SCHED_FLAG_UTIL_CLAMP_MIN and _MAX
	resetOnFork      = 0x40000000  // SCHED_RESET_ON_FORK, in sched_setscheduler(2)
	schedCapacity    = 1024        // SCHED_CAPACITY_SCALE
	niceOffset       = 20          // getpriority(2), the system call
)

// Name implements kind.Facet.
func (Sched) Name() string { return "scheduling" }

// Dump implements kind.Facet.
func (s Sched) Dump(q *kind.Question) (kind.Answer, error) {
	at, _ := q.Batch.Alloc(schedAttrSize)
	q.Batch.Call("sched_getattr", unix.SYS_SCHED_GETATTR, 0, uint64(at), schedAttrSize, 0)
	prio := q.Batch.Call("getpriority", unix.SYS_GETPRIORITY, unix.PRIO_PROCESS, 0)
	return func(c *core.CoreEntry) error {
		attr, err := q.Batch.Output(at, schedAttrSize)
		if err != nil {
			return err
		}
		v, err := prio.Result()
		if err != nil {
			return err
		}
		s.put(c, attr, niceOffset-int32(v))
		return nil
	}, nil
}

// put notes how a thread is scheduled.
func (s Sched) put(c *core.CoreEntry, attr []byte, nice int32) {
	putSched(c.ThreadCore, attr, nice)
	if fair(attr) && binary.LittleEndian.Uint64(attr[schedRuntimeAt:]) == s.slice() {
		clear(attr[schedRuntimeAt : schedRuntimeAt+8])
	}
	if !plainSched(attr) {
		putExtra(c, extraSched, attr)
	}
}

// putSched fills in criu's fields: the policy as sched_getscheduler(2) has it.
func putSched(t *core.ThreadCoreEntry, attr []byte, nice int32) {
	policy, prio := binary.LittleEndian.Uint32(attr[schedPolicyAt:]), binary.LittleEndian.Uint32(attr[schedPriorityAt:])
	if realtime(policy) {
		t.SchedPrio = &prio
	}
	if binary.LittleEndian.Uint64(attr[schedFlagsAt:])&schedResetOnFork != 0 {
		policy |= resetOnFork
	}
	t.SchedPolicy, t.SchedNice = &policy, &nice
}

func realtime(policy uint32) bool { return policy == unix.SCHED_FIFO || policy == unix.SCHED_RR }

// fair tells whether a thread is scheduled by shares of time: its runtime is
// how long it runs at a time.
func fair(attr []byte) bool {
	switch binary.LittleEndian.Uint32(attr[schedPolicyAt:]) {
	case unix.SCHED_NORMAL, unix.SCHED_BATCH, unix.SCHED_IDLE:
		return true
	}
	return false
}

// plainSched tells whether criu's fields say all.
func plainSched(attr []byte) bool {
	policy := binary.LittleEndian.Uint32(attr[schedPolicyAt:])
	lo, hi := binary.LittleEndian.Uint32(attr[schedUtilMinAt:]), binary.LittleEndian.Uint32(attr[schedUtilMaxAt:])
	// A kernel without utilization clamps says 0 and 0; a real-time thread is
	// at the top by default.
	free := lo == 0 && hi == 0 || hi == schedCapacity && (lo == 0 || lo == schedCapacity && realtime(policy))
	if fair(attr) && binary.LittleEndian.Uint64(attr[schedRuntimeAt:]) != 0 {
		return false
	}
	return free && policy != unix.SCHED_DEADLINE && policy <= unix.SCHED_EXT
}

// Check implements kind.Checker.
func (Sched) Check(env *plan.CheckEnv, c *core.CoreEntry) error {
	t := c.GetThreadCore()
	policy := t.GetSchedPolicy() &^ resetOnFork
	if p := t.GetSchedPrio(); policy > unix.SCHED_EXT || realtime(policy) != (p > 0) || p > 99 || t.GetSchedNice() < -20 || t.GetSchedNice() > 19 {
		return fmt.Errorf("core image: scheduling policy %d with priority %d and nice %d makes no sense", policy, p, t.GetSchedNice())
	}
	if (realtime(policy) || policy == unix.SCHED_DEADLINE || t.GetSchedNice() < 0) && !env.Capable(unix.CAP_SYS_NICE) {
		return fmt.Errorf("scheduling policy %d with nice %d: Glis needs CAP_SYS_NICE to restore it", policy, t.GetSchedNice())
	}
	if policy == unix.SCHED_DEADLINE {
		x, err := ReadExtra(c)
		if err != nil || x[extraSched] == nil {
			return cmp.Or(err, errors.New("it has deadlines (SCHED_DEADLINE), and images that criu made do not say which; dump it with Glis, or let it take another policy (chrt) before"))
		}
	}
	return nil
}

// Restore implements kind.Facet.
func (Sched) Restore(r *kind.Redo) error {
	t := r.Core.GetThreadCore()
	r.Batch.Call("setpriority", unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, uint64(int64(t.GetSchedNice())))
	attr, err := sized(r.Extra, extraSched, schedAttrSize)
	if err != nil {
		return err
	}
	if attr == nil {
		r.Batch.Call("sched_setscheduler", unix.SYS_SCHED_SETSCHEDULER, 0, uint64(t.GetSchedPolicy()), uint64(r.Batch.U64(uint64(t.GetSchedPrio()))))
		return nil
	}
	own := append([]byte(nil), attr...)
	le := binary.LittleEndian
	le.PutUint32(own, schedAttrSize)
	if le.Uint32(own[schedUtilMaxAt:]) != 0 {
		le.PutUint64(own[schedFlagsAt:], le.Uint64(own[schedFlagsAt:])|schedUtilClamps)
	}
	r.Batch.Call("sched_setattr", unix.SYS_SCHED_SETATTR, 0, uint64(r.Batch.Bytes(own)), 0)
	return nil
}
