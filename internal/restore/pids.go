package restore

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
)

// checkNumbers refuses to begin when a number is taken that a process is to get.
func (r *restore) checkNumbers() error {
	nodes, err := r.plan.Nodes()
	if err == nil {
		err = r.tree.checkPIDs(r.guard.Owns)
	}
	if err == nil {
		err = checkStandIns(nodes, r.guard.Owns)
	}
	return err
}

// checkPIDs refuses to begin when a number that the tree needs is taken: by a task, or
// as the group of one. That of a session only shows when a process is to get it, see taken.
// own tells of further threads that are Glis's.
func (tr *tree) checkPIDs(own func(tid uint32) bool) error {
	for _, t := range tr.tasks {
		for _, tid := range t.threads {
			if err := checkNumber(t, tid, own); err != nil {
				return err
			}
		}
	}
	return tr.checkGroups()
}

// checkNumber refuses a number that something needs, and that is taken.
func checkNumber(what any, tid uint32, own func(tid uint32) bool) error {
	err := unix.Kill(int(tid), 0)
	switch {
	case err == unix.ESRCH || err == nil && waitedFor(tid, aMoment(time.Second/2)):
		return nil
	case err != nil && !(err == unix.EPERM && shows(tid)):
		return fmt.Errorf("%v: ask whether number %d is in use: %w", what, tid, err)
	case ownThread(tid) || own(tid):
		return fmt.Errorf("%v: number %d: %w", what, tid, ErrOwnNumber)
	}
	return fmt.Errorf("%v can't come back: number %d is in use by %s, or restore in another PID namespace", what, tid, holder(tid))
}

// waitedFor waits for a dead process to be waited for by its parent, as one does that a dump
// has just ended: its number is free then. pause waits a little, and says whether to go on.
func waitedFor(tid uint32, pause func() bool) bool {
	for {
		d, err := proc.Open(proc.PID(tid))
		if err != nil {
			return unix.Kill(int(tid), 0) == unix.ESRCH
		}
		stat, err := d.Stat()
		_ = d.Close() // it was only read from
		if err == nil && stat.State != 'Z' && stat.State != 'X' || !pause() {
			return false
		}
	}
}

// aMoment returns what makes waitedFor wait so long at most: a parent that waits at all
// does so as soon as it runs.
func aMoment(most time.Duration) func() bool {
	until := time.Now().Add(most)
	return func() bool {
		time.Sleep(2 * time.Millisecond)
		return time.Now().Before(until)
	}
}

// checkStandIns is checkPIDs for processes that had ended, and are to be stood in for.
func checkStandIns(nodes []plan.Node, own func(tid uint32) bool) error {
	for _, n := range nodes {
		if s, ok := n.(plan.StandIn); ok {
			for _, pid := range s.StandsIn() {
				if err := checkNumber(n, pid, own); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// checkGroups refuses to begin when a number that the tree needs is that of a group: a
// process of an earlier life of the tree may go on in it.
func (tr *tree) checkGroups() error {
	seen := map[uint32]bool{0: true, 1: true} // foreign, and what kill(2) takes for everybody
	for _, t := range tr.tasks {
		for _, n := range []uint32{t.pid, t.pgid, t.sid} {
			if seen[n] {
				continue
			}
			seen[n] = true
			if err := unix.Kill(-int(n), 0); err == nil || err == unix.EPERM {
				_, err := taken(n)
				return fmt.Errorf("%v can't come back: %w", t, err)
			}
		}
	}
	return nil
}

// whileGoing calls clone again for as long as a number is taken that nobody is seen to
// have: of a process that was waited for the kernel first takes away what /proc showed,
// each of its descriptors that a dump read, and then gives the number back. clone returns
// a number that is taken, and an error then.
func whileGoing(pause func() bool, clone func() (uint32, error)) error {
	for {
		n, err := clone()
		if n == 0 {
			return err
		}
		if seen, who := taken(n); seen || !pause() {
			return fmt.Errorf("%w: %w", err, who)
		}
	}
}

// goingMost is how long a number is waited for that nobody is seen to have.
const goingMost = 5 * time.Second

// whileThreadsGo is whileGoing for calls of a batch that clone threads, the first of
// which is call first: it returns what to ask when call i has failed, see remote.Batch.Retry.
// aMoment begins to wait when that is asked for the first time.
func whileThreadsGo(first int, tids []uint32, aMoment func() func() bool) func(i int, err error) error {
	var pause func() bool
	return func(i int, err error) error {
		if i -= first; i < 0 || i >= len(tids) || !errors.Is(err, unix.EEXIST) {
			return err
		}
		if pause == nil {
			pause = aMoment()
		}
		if seen, who := taken(tids[i]); seen || !pause() {
			return fmt.Errorf("a thread can't come back: %w: %w", err, who)
		}
		return nil
	}
}

// taken says who has a number that no process is to get, which the kernel keeps for a
// session or a group as long as anybody is in it; seen is false if that is nobody.
func taken(n uint32) (seen bool, _ error) {
	err := fmt.Errorf("number %d is in use (as a process, session or group)", n)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, numeric := strconv.Atoi(e.Name())
		if numeric != nil {
			continue
		}
		d, gone := proc.Open(proc.PID(pid))
		if gone != nil {
			continue
		}
		stat, gone := d.Stat()
		_ = d.Close() // it was only read from
		if gone == nil && (stat.Pgrp == proc.PID(n) || stat.Session == proc.PID(n)) {
			return true, fmt.Errorf("%w: process %d (%s) is in session %d, group %d; end it, or restore in another PID namespace", err, pid, stat.Comm, stat.Session, stat.Pgrp)
		}
	}
	return shows(n), err
}

// ErrOwnNumber says that a number which the tree needs is that of a thread of
// this very program, which numbers by chance. Started again, it has others.
var ErrOwnNumber = errors.New("the number is in use by Glis itself, by chance; run it again")

// shows tells whether /proc has a thread of that number, see proc(5).
func shows(tid uint32) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", tid))
	return err == nil
}

func ownThread(tid uint32) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
	return err == nil
}

// holder says whose number it is, and how to have it.
func holder(tid uint32) string {
	d, err := proc.Open(proc.PID(tid))
	if err != nil {
		return "another task; end it"
	}
	defer d.Close()
	stat, err := d.Stat()
	switch {
	case err != nil:
		return "another task; end it"
	case stat.State == 'Z':
		return fmt.Sprintf("a process (%s) that has ended and was not waited for by its parent, %d; have that call wait(2)", stat.Comm, stat.PPID)
	}
	return fmt.Sprintf("another task (%s); end it", stat.Comm)
}
