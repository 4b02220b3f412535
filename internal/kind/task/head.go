package task

import (
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/siginfo"
	"glis.dev/glis/image/criu/timer"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/scan"
)

// Task states in core images.
const (
	StateAlive   = 1
	StateDead    = 2
	StateStopped = 3
)

// CoreHead begins the core image of a thread: what the engine knows without
// asking it. The facets' answers fill in the rest, ids are the caller's.
func CoreHead(t *scan.Thread) *core.CoreEntry {
	c := &core.CoreEntry{
		Mtype: arch.Machine.Enum(),
		ThreadCore: &core.ThreadCoreEntry{
			FutexRla: new(uint64), FutexRlaLen: new(uint32),
			BlkSigset: &t.Mask,
			// Present even if empty: without them criu looks for files that
			// its versions before 1.0 wrote.
			SignalsP: &siginfo.SignalQueueEntry{},
		},
	}
	if t.CgroupSet != 0 {
		c.ThreadCore.CgSet = &t.CgroupSet
	}
	if t.First() {
		c.Tc = taskHead(t.Task)
		c.Tc.BlkSigset = &t.Mask
		c.Tc.SignalsS = &siginfo.SignalQueueEntry{}
		c.Tc.Timers = &timer.TaskTimersEntry{}
	}
	return c
}

func taskHead(t *scan.Task) *core.TaskCoreEntry {
	state, flags := uint32(StateAlive), uint32(t.Stat.Flags)
	c := &core.TaskCoreEntry{
		TaskState: &state, ExitCode: new(uint32), Personality: new(uint32),
		Flags: &flags, BlkSigset: new(uint64), Comm: &t.Stat.Comm,
	}
	if t.Stopped {
		state = StateStopped
		c.StopSigno = new(uint32(t.StopSig))
	}
	return c
}
