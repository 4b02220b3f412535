package tracee

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Who gives the CPU away where others want it, too, has it again after a turn of theirs,
// milliseconds; who sleeps is woken ahead of them. Where nobody wants it, to ask again and
// again takes less time than to be woken.
const (
	longTurn   = time.Millisecond // more than a thread needs for what it is traced for
	crowdedFor = 100 * time.Millisecond
)

// turns tells whether CPUs are wanted by others than a tracer and its threads.
type turns struct{ crowded atomic.Int64 } // until when, in ns since begun

// machine is what all tracers of this program have seen.
var (
	machine turns
	begun   = time.Now()
)

// GiveWay lets others run who want this CPU, before the tree stands still instead of
// meanwhile, and notes whether there are any.
func GiveWay() { machine.giveWay() }

// alone tells whether it pays to ask again and again.
func (t *turns) alone() bool { return int64(time.Since(begun)) >= t.crowded.Load() }

// giveWay lets another thread run on this CPU, if one wants to. Go's scheduler
// is left out of it: a goroutine that is bound to its thread, as a tracer's is,
// can't give way to another without two switches of threads.
func (t *turns) giveWay() {
	from := time.Since(begun)
	_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	t.gave(from, time.Since(begun))
}

// gave notes when the CPU was given away, and was there again.
func (t *turns) gave(from, to time.Duration) {
	if to-from > longTurn {
		t.crowded.Store(int64(to + crowdedFor))
	}
}
