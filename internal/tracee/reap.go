package tracee

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// ReapOthers looks now and then, until the returned function is called,
// whether what is waited for can come at all; see reapDead.
func ReapOthers(tid proc.TID) (stop func()) {
	const often = 20 * time.Millisecond
	done := make(chan struct{})
	t := time.AfterFunc(often, func() {
		for {
			reapDead(tid)
			select {
			case <-done:
				return
			case <-time.After(often):
			}
		}
	})
	return func() {
		t.Stop()
		close(done)
	}
}

// reapDead takes the reports of the dead threads beside a first thread that
// has ended, or beside one that waits for them. The kernel keeps the end of a
// first thread back while there are other threads, and dead ones that are traced
// are there until their tracer has waited for them: without this, who waits for
// the first thread of a process that was killed waits for ever (see ptrace(2),
// "death under ptrace"). So does a thread that executes a program: it ends all
// others first, and can't stop until they are gone. A thread that lives is not
// touched: its report is its waiter's.
func reapDead(tid proc.TID) {
	dir, err := proc.Open(proc.PID(tid))
	if err != nil {
		return
	}
	defer dir.Close() //nolint:errcheck // nothing is buffered
	if st, err := dir.Stat(); err != nil || st.State != 'Z' && st.State != 'D' {
		return
	}
	tids, err := dir.Threads()
	if err != nil {
		return
	}
	for _, other := range tids {
		if st, err := dir.ThreadStat(other); other == tid || err != nil || st.State != 'Z' {
			continue
		}
		reapOne(other)
	}
}

// reapOne takes the report of a thread's end, if it has ended: by now the number may be that
// of the thread that has executed the program, whose report of that is its waiter's. If it
// is not ours, or gone, that is as good. waitid(2) tells of the stops of tracees as well,
// whatever it is asked for.
func reapOne(tid proc.TID) {
	var said unix.Siginfo
	err := unix.Waitid(unix.P_PID, int(tid), &said, linux.WALL|unix.WNOHANG|unix.WEXITED|unix.WNOWAIT, nil)
	if err == nil && (said.Code == linux.CLD_EXITED || said.Code == linux.CLD_KILLED || said.Code == linux.CLD_DUMPED) {
		_, _ = unix.Wait4(int(tid), nil, linux.WALL|unix.WNOHANG, nil)
	}
}

// AwaitDeath waits for the end of a thread that was killed, or that is about to
// exit. One that is gone already has ended as well.
func AwaitDeath(tid proc.TID) error {
	for {
		s, err := Wait(tid)
		if errors.Is(err, ErrGone) || err == nil && s.Exited() {
			return nil
		}
		if err != nil {
			return err
		}
		if err := Cont(tid, 0); err != nil && !errors.Is(err, ErrGone) {
			return err
		}
	}
}
