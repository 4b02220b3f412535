package restore

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/plan"
)

// standIn is a node that ended processes make calls for.
type standIn struct {
	plan.Node
	pids []uint32
}

func (s standIn) String() string     { return "a socket" }
func (s standIn) StandsIn() []uint32 { return s.pids }

// A number that is in use is said to be, by whom, and what to do.
func TestNumberInUse(t *testing.T) {
	sleeper, dead := exec.Command("sleep", "1000"), exec.Command("true")
	for _, c := range []*exec.Cmd{sleeper, dead} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = dead.Wait() }()
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	if err := unix.Waitid(unix.P_PID, dead.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	nobody := func(uint32) bool { return false }
	for pid, want := range map[int]string{
		sleeper.Process.Pid: "end it",
		dead.Process.Pid:    "was not waited for by its parent",
		unix.Getpid():       ErrOwnNumber.Error(),
	} {
		tr := &tree{tasks: []*task{{pid: uint32(pid), threads: []uint32{uint32(pid)}}}}
		if err := tr.checkPIDs(nobody); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: got %v, want %q", pid, err, want)
		}
		if err := checkStandIns([]plan.Node{nil, standIn{pids: []uint32{uint32(pid)}}}, nobody); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("stands in for %d: got %v, want %q", pid, err, want)
		}
	}
}

// A process that has ended, as a dump has a tree end, gives its number away as soon as its
// parent waits for it, which a restore waits for.
func TestNumberSoonFree(t *testing.T) {
	sleeper, dead := exec.Command("sleep", "1000"), exec.Command("true")
	for _, c := range []*exec.Cmd{sleeper, dead} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	never := func() bool { t.Error("waits for a process that has not ended"); return false }
	if waitedFor(uint32(sleeper.Process.Pid), never) {
		t.Error("the number of a process that runs is free")
	}
	if err := unix.Waitid(unix.P_PID, dead.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if waitedFor(uint32(dead.Process.Pid), func() bool { return false }) {
		t.Error("the number of a process that nobody has waited for is free")
	}
	if !waitedFor(uint32(dead.Process.Pid), func() bool { return dead.Wait() == nil }) {
		t.Error("the number of a process that was waited for is not free")
	}
}

// A group or session whose leader has ended has a number that nobody else can get, and
// whoever is in it is named.
func TestNumberTaken(t *testing.T) {
	leader := exec.Command("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
	leader.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said, err := leader.Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(said)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Kill(pid, unix.SIGKILL) }()
	n := uint32(leader.Process.Pid)
	nobody := func(uint32) bool { return false }
	for _, tk := range []*task{{pid: n}, {pid: 1, pgid: n}, {pid: 1, sid: n}} {
		err := (&tree{tasks: []*task{tk}}).checkPIDs(nobody)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d (sleep) is in session %d, group %d", pid, n, n)) {
			t.Errorf("%+v: %v", tk, err)
		}
	}
}

// TestWhileGoing checks that a number which is taken is asked for again if nobody is seen
// to have it, for a while, and is not if somebody is.
func TestWhileGoing(t *testing.T) {
	const nobody = 1<<31 - 1 // above the kernel's most
	errTaken := errors.New("taken")
	for _, x := range []struct {
		name             string
		number           uint32
		takenFor, pauses int
		calls            int
		err              bool
	}{
		{"free", nobody, 0, 9, 1, false},
		{"on its way out", nobody, 3, 9, 4, false},
		{"for too long", nobody, 9, 3, 4, true},
		{"seen", uint32(os.Getpid()), 9, 9, 1, true},
	} {
		calls := 0
		err := whileGoing(func() bool { x.pauses--; return x.pauses >= 0 }, func() (uint32, error) {
			if calls++; calls > x.takenFor {
				return 0, nil
			}
			return x.number, errTaken
		})
		if calls != x.calls || errors.Is(err, errTaken) != x.err {
			t.Errorf("%s: %d calls, %v", x.name, calls, err)
		}
	}
}

// TestWhileThreadsGo checks of which failed calls of a batch it is said to make them again.
func TestWhileThreadsGo(t *testing.T) {
	const nobody = 1<<31 - 1 // above the kernel's most
	tids := []uint32{nobody, uint32(os.Getpid())}
	for _, x := range []struct {
		name          string
		i             int
		err           error
		pauses, asked int  // how often it is asked until it says no
		named         bool // who has the number
	}{
		{"on its way out", 7, unix.EEXIST, 3, 4, true},
		{"somebody's", 8, unix.EEXIST, 3, 1, true},
		{"another error", 7, unix.EAGAIN, 3, 1, false},
		{"a call before", 6, unix.EEXIST, 3, 1, false},
		{"a call behind", 9, unix.EEXIST, 3, 1, false},
	} {
		began, asked := 0, 1
		again := whileThreadsGo(7, tids, func() func() bool {
			began++
			return func() bool { x.pauses--; return x.pauses >= 0 }
		})
		err := again(x.i, x.err)
		for ; err == nil && asked < 9; asked++ {
			err = again(x.i, x.err)
		}
		if asked != x.asked || began > 1 || !errors.Is(err, x.err) || (err != x.err) != x.named {
			t.Errorf("%s: asked %d times, want %d; waiting began %d times; %v", x.name, asked, x.asked, began, err)
		}
	}
}
