package proc

import "math"

// Files of a single value.

// NoLoginUID is the LoginUID of a task that nobody has logged in to.
const NoLoginUID = math.MaxUint32

// OOMScoreAdj reads how likely the task is killed for want of memory, -1000 to
// 1000. See proc_pid_oom_score_adj(5).
func (d *Dir) OOMScoreAdj() (int32, error) {
	return single(d, "oom_score_adj", func(t *text) int32 { return t.int32("a number") })
}

// LoginUID reads the audit user, NoLoginUID if unset. Without CONFIG_AUDIT
// there is no such file: fs.ErrNotExist. See proc_pid_loginuid(5).
func (d *Dir) LoginUID() (uint32, error) {
	return single(d, "loginuid", func(t *text) uint32 { return t.dec32("a user") })
}

// TimerSlack reads how late timers may fire, in ns. Linux 4.6. See
// proc_pid_timerslack_ns(5).
func (d *Dir) TimerSlack() (uint64, error) {
	return single(d, "timerslack_ns", func(t *text) uint64 { return t.dec("a number of ns") })
}

// Personality reads the execution domain and its flags. See personality(2).
func (d *Dir) Personality() (uint32, error) {
	return single(d, "personality", func(t *text) uint32 { return t.hex32("a hexadecimal number") })
}

// CoredumpFilter reads which mappings a core dump holds; 0 for a task without
// memory. See core(5).
func (d *Dir) CoredumpFilter() (uint32, error) {
	return single(d, "coredump_filter", func(t *text) uint32 {
		if len(t.b) == 0 {
			return 0
		}
		return t.hex32("a hexadecimal number")
	})
}

// Wchan reads the kernel function in which the task sleeps, "0" if none.
func (d *Dir) Wchan() (string, error) {
	return single(d, "wchan", func(t *text) string { return string(t.rest()) })
}

// Autogroup is the group of tasks that the scheduler treats as one, see
// sched(7).
type Autogroup struct {
	ID   int64 // not stable
	Nice int32
}

// Autogroup reads the task's autogroup. Without CONFIG_SCHED_AUTOGROUP there
// is no such file: fs.ErrNotExist. A task that has none gives the zero value.
func (d *Dir) Autogroup() (Autogroup, error) { return single(d, "autogroup", (*text).autogroup) }

func (t *text) autogroup() (g Autogroup) {
	if len(t.b) == 0 {
		return g
	}
	t.lit("/autogroup-")
	g.ID = t.int64("a number")
	t.lit(" nice ")
	g.Nice = t.int32("a nice value")
	return g
}

// SyscallState tells which system call the leading thread is in. See
// proc_pid_syscall(5).
func (d *Dir) SyscallState() (Syscall, error) { return parsed(d, "", "syscall", parseSyscall) }

// single reads a file of one line that holds one value.
func single[T any](d *Dir, name string, value func(*text) T) (T, error) {
	return parsed(d, "", name, func(b []byte) (T, error) { return parseSingle(name, b, value) })
}

func parseSingle[T any](name string, b []byte, value func(*text) T) (T, error) {
	t := oneLine(name, b)
	v := value(t)
	return v, t.end()
}
