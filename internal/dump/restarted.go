package dump

import (
	"bytes"
	"fmt"
	"strconv"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/ns"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// Of an interrupted call the kernel's memory alone tells what is left of its time, and,
// of few, which it is. To be able to read it takes milliseconds, so that is seen to before the
// freeze if a thread is in such a call. One that has only begun it meanwhile has nearly
// all of its time left: it loses no more than that if it begins anew.

// How many threads are looked at for that before the freeze, and are asked for it then.
const (
	mostForeseen = 256
	mostAsked    = 256
)

// openBlocks prepares to read what is left of the time of calls, if there is such a one.
func (d *dump) openBlocks(pids []proc.PID) {
	d.blocks = kmem.Share(task.BlockNames()...)
	left := mostForeseen
	for _, pid := range pids {
		dir, err := proc.Living(pid)
		if err != nil {
			continue // it has ended
		}
		tids, _ := dir.Threads()
		dir.Close()
		for _, tid := range tids[:min(len(tids), left)] {
			if left--; inTimedCall(pid, tid) {
				if _, err := d.blocks.Reader(); err != nil {
					d.log.Debug("nobody tells what is left of the time of calls, which will begin anew", "why", err)
				}
				return
			}
		}
	}
}

// inTimedCall tells whether a thread that runs is in a call with a time of which only
// the kernel's memory tells what is left, or may be: see proc_pid_syscall(5).
func inTimedCall(pid proc.PID, tid proc.TID) bool {
	text, err := fd.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
	f := bytes.Fields(text)
	if err != nil || len(f) < 7 {
		return false // it is in none
	}
	nr, err := strconv.ParseUint(string(f[0]), 10, 64)
	var args [6]uint64
	for i := range args {
		if err == nil {
			args[i], err = strconv.ParseUint(string(f[i+1]), 0, 64)
		}
	}
	return err == nil && arch.Timed(nr, args)
}

// seeRestarted has the kernel's memory say which call a thread is in where nothing
// else does, see task.Guessed, and what is left of its time.
func (d *dump) seeRestarted() error {
	var now *ns.Clocks
	timed := 0
	for _, th := range d.threads() {
		if err := d.ended(); err != nil {
			return err
		}
		wanted, err := task.Guessed(th)
		if !wanted && err == nil && timed < mostAsked && d.blocks.Open() {
			if wanted, err = task.Timed(th); wanted {
				timed++
			}
		}
		if err != nil {
			return kind.About(th.Task, err)
		}
		if !wanted {
			continue
		}
		if now == nil {
			c, err := ns.HostClocks()
			if err != nil {
				return err
			}
			now = &c
		}
		if th.Block, err = blockOf(d.blocks, th, now); err != nil {
			d.log.Debug("nobody tells about the call of a thread, which will begin anew or end with EINTR", "thread", int(th.TID), "why", err)
		}
	}
	return nil
}

// blockOf reads what the kernel has about a thread's interrupted call.
func blockOf(memory *kmem.Shared, th *scan.Thread, now *ns.Clocks) (*scan.Block, error) {
	r, err := memory.Reader()
	if err != nil {
		return nil, err
	}
	pidfd, err := fd.Task(int(th.TID))
	if err != nil {
		return nil, err
	}
	defer pidfd.Close()
	b, err := task.ReadBlock(r, pidfd.Int())
	if b != nil {
		b.Monotonic, b.Boottime = now.Monotonic.Nano(), now.Boottime.Nano()
	}
	return b, err
}
