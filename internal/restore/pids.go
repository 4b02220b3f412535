package restore

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
)

// checkPIDs refuses to begin when a number that the tree needs is taken. A
// number may be taken though no process shows: as a session or group of
// somebody; then clone3 says so later.
// own tells of further threads that are Glis's.
func (tr *tree) checkPIDs(own func(tid uint32) bool) error {
	for _, t := range tr.tasks {
		for _, tid := range t.threads {
			err := unix.Kill(int(tid), 0)
			if err == unix.ESRCH {
				continue
			}
			if err != nil && !(err == unix.EPERM && shows(tid)) {
				return fmt.Errorf("%v: ask whether number %d is in use: %w", t, tid, err)
			}
			if ownThread(tid) || own(tid) {
				return fmt.Errorf("%v: number %d: %w", t, tid, ErrOwnNumber)
			}
			return fmt.Errorf("%v can't come back: number %d is in use by %s, or restore in another PID namespace", t, tid, holder(tid))
		}
	}
	return nil
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
