package task

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

func queued(sig unix.Signal) (s linux.Siginfo) {
	binary.LittleEndian.PutUint32(s[:], uint32(sig))
	return s
}

// TestPutStop has a SIGSTOP wait for any thread of a frozen process: it is no
// pending signal of the image, but the task is stopped in it.
func TestPutStop(t *testing.T) {
	both := []linux.Siginfo{queued(unix.SIGUSR1), queued(unix.SIGSTOP)}
	for name, come := range map[string]func(t *scan.Task){
		"process": func(t *scan.Task) { t.Threads[0].Shared = both },
		"leader":  func(t *scan.Task) { t.Threads[0].Pending = both },
		"thread":  func(t *scan.Task) { t.Threads[1].Pending = both },
		"batch":   func(t *scan.Task) { t.Threads[1].StopOnRelease() },
	} {
		task := &scan.Task{}
		task.Threads = []*scan.Thread{{Task: task, Status: &proc.Status{}}, {Task: task, Status: &proc.Status{}}}
		put := func() *core.CoreEntry {
			c := &core.CoreEntry{ThreadCore: &core.ThreadCoreEntry{}, Tc: &core.TaskCoreEntry{TaskState: new(uint32(StateAlive))}}
			PutSignals(c, task.Threads[0])
			return c
		}
		if s := put().Tc.GetTaskState(); s != StateAlive {
			t.Errorf("%s: state %d without SIGSTOP", name, s)
		}
		come(task)
		c := put()
		if s := c.Tc.GetTaskState(); s != StateStopped {
			t.Errorf("%s: state %d, want stopped", name, s)
		}
		for _, s := range append(c.ThreadCore.SignalsP.Signals, c.Tc.SignalsS.Signals...) {
			if s.Siginfo[0] != byte(unix.SIGUSR1) {
				t.Errorf("%s: signal %d is in the image", name, s.Siginfo[0])
			}
		}
	}
}
