package task

import (
	"fmt"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// DeadCore is the core image of a zombie: its name and how it ended.
func DeadCore(t *scan.Task) *core.CoreEntry {
	state, code := uint32(StateDead), uint32(t.Stat.ExitCode)
	return &core.CoreEntry{
		Mtype: arch.Machine.Enum(),
		Tc: &core.TaskCoreEntry{
			TaskState: &state, ExitCode: &code, Personality: new(uint32),
			Flags: new(uint32), BlkSigset: new(uint64), Comm: &t.Stat.Comm,
		},
	}
}

// Die queues what makes a task the zombie that the image describes. If it
// exited by itself, the last call of the batch does that and never returns.
// Otherwise sig is the signal that ended it: run the batch, empty the thread's
// mask and detach with that signal.
func Die(b *remote.Batch, pid scan.VPID, c *core.CoreEntry) (sig unix.Signal, err error) {
	ws := unix.WaitStatus(c.GetTc().GetExitCode())
	b.Call("prctl PR_SET_NAME", unix.SYS_PRCTL, unix.PR_SET_NAME, uint64(b.String(c.GetTc().GetComm())))
	if ws.Exited() {
		b.Call("exit_group", unix.SYS_EXIT_GROUP, uint64(ws.ExitStatus()))
		return 0, nil
	}
	if !ws.Signaled() || !deadly(ws.Signal()) {
		return 0, fmt.Errorf("core-%d.img: %#x is no way for a task to end", pid, uint32(ws))
	}
	// It must not leave a core file, again.
	b.Call("prctl PR_SET_DUMPABLE", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	if ws.Signal() != unix.SIGKILL {
		b.Call("rt_sigaction", unix.SYS_RT_SIGACTION, uint64(ws.Signal()), uint64(b.U64(0, 0, 0, 0)), 0, linux.KernelSigsetSize)
	}
	return ws.Signal(), nil
}

// deadly tells whether the default action of a signal ends a process.
func deadly(s unix.Signal) bool {
	switch s {
	case unix.SIGCHLD, unix.SIGCONT, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGURG, unix.SIGWINCH:
		return false
	}
	return s >= 1 && s <= linux.NSIG
}
