package proc

import (
	"bytes"
	"math"

	"github.com/moby/sys/mountinfo"
)

// Auxv returns the auxiliary vector as the task has it: pairs of words, the
// last one AT_NULL. See proc_pid_auxv(5).
func (d *Dir) Auxv() ([]byte, error) { return d.ReadFile("auxv") }

// Mountinfo reads the mounts of d's mount namespace, parents and children in
// the kernel's order. See proc_pid_mountinfo(5).
func Mountinfo(d *Dir) ([]*mountinfo.Info, error) {
	return parsed(d, "", "mountinfo", ParseMountinfo)
}

// ParseMountinfo parses proc_pid_mountinfo(5).
func ParseMountinfo(b []byte) ([]*mountinfo.Info, error) {
	m, err := mountinfo.GetMountsFromReader(bytes.NewReader(b), nil)
	if err != nil {
		return nil, &ParseError{File: "mountinfo", Line: 1, Want: "lines of proc_pid_mountinfo(5)", Got: err.Error()}
	}
	return m, nil
}

// Unlimited is RLIM_INFINITY, in Limits.
const Unlimited = math.MaxUint64

// Limits holds the soft and hard limits, indexed by RLIMIT_*.
type Limits [16][2]uint64

// limitNames are the kernel's words for RLIMIT_* in their order, which is the
// same on every architecture that Go knows but mips.
var limitNames = [len(Limits{})]string{
	"Max cpu time", "Max file size", "Max data size", "Max stack size", "Max core file size", "Max resident set",
	"Max processes", "Max open files", "Max locked memory", "Max address space", "Max file locks",
	"Max pending signals", "Max msgqueue size", "Max nice priority", "Max realtime priority", "Max realtime timeout",
}

// Limits reads the resource limits, also of tasks of which prlimit(2) may not
// read them. See proc_pid_limits(5).
func (d *Dir) Limits() (Limits, error) { return parsed(d, "", "limits", parseLimits) }

func parseLimits(b []byte) (Limits, error) {
	var l Limits
	seen := 0
	err := eachLine("limits", b, func(t *text) {
		if t.line == 1 {
			t.lit("Limit")
			return
		}
		if seen == len(l) {
			t.fail("16 limits and no more")
			return
		}
		t.lit(limitNames[seen])
		t.blanks()
		l[seen][0] = t.limit()
		l[seen][1] = t.limit()
		seen++
	})
	if err == nil && seen < len(l) {
		err = &ParseError{File: "limits", Line: seen + 2, Want: limitNames[seen]}
	}
	return l, err
}

func (t *text) limit() uint64 {
	n := uint64(Unlimited)
	if !t.has("unlimited") {
		n = t.dec("a limit")
	}
	t.blanks()
	return n
}

// Timer is a POSIX timer, see timer_create(2) and proc_pid_timers(5).
type Timer struct {
	ID      int32
	Signal  int32
	Value   uint64 // sigev_value
	Notify  string // "signal", "none" or "thread"
	Thread  bool   // SIGEV_THREAD_ID: Target is a thread
	Target  int32  // in the engine's PID namespace
	ClockID int32
}

// Timers reads the POSIX timers in the order of the kernel's list. What is
// left of each only the task can say. Linux 3.10.
func (d *Dir) Timers() ([]Timer, error) { return parsed(d, "", "timers", parseTimers) }

func parseTimers(b []byte) ([]Timer, error) {
	var out []Timer
	var cur Timer
	step := 0
	err := eachLine("timers", b, func(t *text) {
		switch step {
		case 0:
			t.lit("ID: ")
			cur = Timer{ID: t.int32("a timer's number")}
		case 1:
			t.lit("signal: ")
			cur.Signal = t.int32("a signal")
			t.lit("/")
			t.has("0x")
			cur.Value = t.hex("a hexadecimal value")
		case 2:
			t.lit("notify: ")
			cur.notify(t)
		case 3:
			t.lit("ClockID: ")
			cur.ClockID = t.int32("a clock")
			out = append(out, cur)
		}
		step = (step + 1) % 4
		t.end()
	})
	if err == nil && step != 0 {
		err = &ParseError{File: "timers", Line: 4*len(out) + step + 1, Want: "the rest of a timer"}
	}
	return out, err
}

// notify reads "signal/tid.7".
func (m *Timer) notify(t *text) {
	for _, how := range [...]string{"signal", "none", "thread"} {
		if t.has(how) {
			m.Notify = how
			break
		}
	}
	t.lit("/")
	if m.Thread = t.has("tid"); !m.Thread {
		t.lit("pid")
	}
	t.lit(".")
	m.Target = t.int32("a process number")
}

// Syscall is what a thread is doing, see proc_pid_syscall(5).
type Syscall struct {
	Running bool  // nothing else is known
	Nr      int64 // -1: blocked, but not in a system call
	Args    [6]uint64
	SP, PC  uint64
}

func parseSyscall(b []byte) (Syscall, error) {
	t := oneLine("syscall", b)
	var s Syscall
	if s.Running = t.has("running"); s.Running {
		return s, t.end()
	}
	s.Nr = t.int64("a system call's number")
	if s.Nr != -1 {
		for i := range s.Args {
			s.Args[i] = t.word0x()
		}
	}
	s.SP = t.word0x()
	s.PC = t.word0x()
	return s, t.end()
}

func (t *text) word0x() uint64 {
	t.lit(" 0x")
	return t.hex("a hexadecimal number")
}

// Cgroup is a task's place in one cgroup hierarchy, see cgroups(7).
type Cgroup struct {
	ID          uint32 // of the hierarchy, 0 for version 2
	Controllers string // "cpu,cpuacct", "name=systemd", "" for version 2
	Path        string // as seen from the engine's cgroup namespace
	Deleted     bool   // the group is gone and the task a zombie
}

// Cgroups reads the task's cgroups.
func (d *Dir) Cgroups() ([]Cgroup, error) { return parsed(d, "", "cgroup", parseCgroups) }

func parseCgroups(b []byte) ([]Cgroup, error) {
	var out []Cgroup
	err := eachLine("cgroup", b, func(t *text) {
		c := Cgroup{ID: t.dec32("a hierarchy's number")}
		t.lit(":")
		names, path, ok := bytes.Cut(t.b, []byte(":"))
		if !ok || len(path) == 0 {
			t.fail("CONTROLLERS:PATH")
			return
		}
		path, c.Deleted = bytes.CutSuffix(path, []byte(" (deleted)"))
		c.Controllers, c.Path = string(names), string(path)
		out = append(out, c)
	})
	return out, err
}

// IDMap is one line of uid_map or gid_map, see user_namespaces(7).
type IDMap struct {
	Inside, Outside, Count uint32 // Outside as the engine's user namespace has it
}

// UIDMap reads the user ids of the task's user namespace.
func (d *Dir) UIDMap() ([]IDMap, error) { return parsed(d, "", "uid_map", parseUIDMap) }

// GIDMap reads the group ids of the task's user namespace.
func (d *Dir) GIDMap() ([]IDMap, error) { return parsed(d, "", "gid_map", parseGIDMap) }

func parseUIDMap(b []byte) ([]IDMap, error) { return parseIDMap("uid_map", b) }
func parseGIDMap(b []byte) ([]IDMap, error) { return parseIDMap("gid_map", b) }

func parseIDMap(file string, b []byte) ([]IDMap, error) {
	var out []IDMap
	err := eachLine(file, b, func(t *text) {
		var n [3]uint32
		for i := range n {
			t.blanks()
			n[i] = t.dec32("an id")
		}
		t.end()
		out = append(out, IDMap{n[0], n[1], n[2]})
	})
	return out, err
}
