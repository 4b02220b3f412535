package task

import (
	"errors"
	"fmt"
	"testing"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/tracee"
)

// TestAllPorts: to be asked for I/O ports gives a process none, and leaves it the
// capabilities it had.
func TestAllPorts(t *testing.T) {
	if arch.SysIopl == 0 {
		t.Skip("this architecture has no iopl(2)")
	}
	pid := start(t, "calls.c", "pause")
	err := tracee.Run(func() error {
		task, err := freeze(pid)
		if err != nil {
			return err
		}
		th := task.Leader()
		was := th.Status
		for range 2 { // the first question must not be what the second finds
			q := &kind.Question{Task: task, Thread: th, Batch: task.Arena.Batch(&th.Thread)}
			c := allPorts(q)
			if err := q.Batch.Run(); err != nil {
				return err
			}
			if v, err := c.Result(); err == nil {
				return fmt.Errorf("it has ports: %d", v)
			}
		}
		is, err := task.Dir.ThreadStatus(th.TID)
		if err == nil && (is.CapEff != was.CapEff || is.CapPrm != was.CapPrm || is.CapInh != was.CapInh || is.CapAmb != was.CapAmb) {
			err = fmt.Errorf("capabilities were %x, and are %x", was.CapEff, is.CapEff)
		}
		return errors.Join(err, th.Restore(), release(task))
	})
	if err != nil {
		t.Fatal(err)
	}
}
