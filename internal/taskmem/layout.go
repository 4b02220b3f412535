package taskmem

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
)

// word is a part of what the kernel has about a thread.
type word struct {
	// in is the structure that it is in, and by how that is found from struct
	// task_struct: a member that has it, or points to it if far; "" if it is
	// struct task_struct itself. By group_info is that of struct cred.
	in, by string
	far    bool
	member string
	size   int // bytes
	// lacks tells whether the kernel has nothing of the kind. Where it has, and
	// the member is not found, nothing is looked at: it may have got another name.
	lacks func() bool
}

// shared are what threads share until one leaves it (unshare(2), setns(2)), and
// what few of them have for themselves. What nsproxy points to never changes: a
// thread that goes into another namespace gets another one. What cgroups points to
// is the set of cgroups, one of all hierarchies.
var shared = [...]word{
	{member: "nsproxy", size: 8}, {member: "files", size: 8}, {member: "fs", size: 8}, {member: "cgroups", size: 8},
	{in: "cred", by: "cred", far: true, member: "session_keyring", size: 8, lacks: always},
	{in: "cred", by: "cred", far: true, member: "thread_keyring", size: 8, lacks: always},
	{member: "loginuid", size: 4, lacks: always},
	{in: "thread_struct", by: "thread", member: "iopl_emul", size: 8, lacks: always},
}

// always is said of what a kernel may be built without, and has had the same name
// since Linux 6.1.
func always() bool { return true }

// mustShare is how many of shared no living thread lacks, and keyringOfOne the one
// that all must lack to be together.
const (
	mustShare    = 4
	keyringOfOne = 5
)

// Where they are in the list of special words.
const (
	wordIOContext = iota
	wordPolicy
	wordBits
	wordMemPolicy
	wordGroups
	wordGroupCount
	wordGroupList
)

// special are those whose value says nothing by itself; see Picture.class.
var special = [...]word{
	wordIOContext:  {member: "io_context", size: 8, lacks: noIOPriority},
	wordPolicy:     {member: "policy", size: 4},
	wordBits:       {member: "sched_reset_on_fork", size: 4},
	wordMemPolicy:  {member: "mempolicy", size: 8, lacks: noMemPolicy},
	wordGroups:     {in: "cred", by: "cred", far: true, member: "group_info", size: 8},
	wordGroupCount: {in: "group_info", by: "group_info", far: true, member: "ngroups", size: 4},
	wordGroupList:  {in: "group_info", by: "group_info", far: true, member: "gid", size: 4 * mostGroups},
}

// mostGroups is how many groups are compared. Who has more is alike only with those
// that share the list.
const mostGroups = 8

// plain are those that must be equal for threads to be alike, whatever they mean:
// all that a thread can be asked for, and status says of it, comes from these.
var plain = [...]word{
	{member: "flags", size: 4}, {member: "personality", size: 4}, {member: "atomic_flags", size: 8},
	{in: "thread_info", by: "thread_info", member: "flags", size: 8},
	{in: "thread_info", by: "thread_info", member: "syscall_work", size: 8},
	{member: "timer_slack_ns", size: 8},
	{in: "io_context", by: "io_context", far: true, member: "ioprio", size: 2, lacks: noIOPriority},
	{member: "static_prio", size: 4}, {member: "rt_priority", size: 4},
	{in: "sched_entity", by: "se", member: "slice", size: 8, lacks: noSlice},
	{member: "uclamp_req", size: 8, lacks: noClamps},
	{member: "core_cookie", size: 8, lacks: noCookies},
	{in: "seccomp", by: "seccomp", member: "mode", size: 4, lacks: noSeccomp},
	{in: "seccomp", by: "seccomp", member: "filter", size: 8, lacks: noSeccomp},
	{in: "thread_struct", by: "thread", member: "features", size: 8, lacks: noShadowStack},
	{in: "thread_struct", by: "thread", member: "io_bitmap", size: 8, lacks: noPorts},
	{member: "signal", size: 8}, {member: "sighand", size: 8}, {member: "mm", size: 8},
	cred("uid", 4), cred("gid", 4), cred("suid", 4), cred("sgid", 4), cred("euid", 4), cred("egid", 4), cred("fsuid", 4), cred("fsgid", 4),
	cred("securebits", 4), cred("cap_inheritable", 8), cred("cap_permitted", 8), cred("cap_effective", 8), cred("cap_bset", 8), cred("cap_ambient", 8),
	cred("user_ns", 8),
	{in: "cred", by: "cred", far: true, member: "jit_keyring", size: 1, lacks: noKeys},
}

func cred(member string, size int) word {
	return word{in: "cred", by: "cred", far: true, member: member, size: size}
}

// Where a thread's own words are in the list.
const (
	ownComm = iota
	ownClearTID
	ownRobustList
	ownStack
	ownStackSize
	ownStackFlags
	ownDeathSignal
	ownBlocked
	ownPending
	ownChildren
	ownCount
)

// own are those that each thread has for itself.
var own = [ownCount]word{
	ownComm:        {member: "comm", size: commSize},
	ownClearTID:    {member: "clear_child_tid", size: 8},
	ownRobustList:  {member: "robust_list", size: 8},
	ownStack:       {member: "sas_ss_sp", size: 8},
	ownStackSize:   {member: "sas_ss_size", size: 8},
	ownStackFlags:  {member: "sas_ss_flags", size: 4},
	ownDeathSignal: {member: "pdeath_signal", size: 4},
	ownBlocked:     {member: "blocked", size: 8},
	ownPending:     {in: "sigpending", by: "pending", member: "signal", size: 8},
	ownChildren:    {member: "children", size: 8},
}

// commSize is TASK_COMM_LEN.
const commSize = 16

func noIOPriority() bool {
	_, _, e := unix.RawSyscall(unix.SYS_IOPRIO_GET, 1, 0, 0) // IOPRIO_WHO_PROCESS
	return e == unix.ENOSYS
}

func noKeys() bool {
	_, _, e := unix.RawSyscall(unix.SYS_KEYCTL, unix.KEYCTL_SET_REQKEY_KEYRING, ^uintptr(0), 0) // KEY_REQKEY_DEFL_NO_CHANGE
	return e != 0
}

func noMemPolicy() bool {
	_, _, e := unix.RawSyscall6(unix.SYS_GET_MEMPOLICY, 0, 0, 0, 0, 0, 0)
	return e == unix.ENOSYS
}

// noSlice and noClamps ask about this thread, as the kernel tells of all alike.
func noSlice() bool {
	a, err := unix.SchedGetAttr(0, 0)
	return err == nil && a.Policy == unix.SCHED_NORMAL && a.Runtime == 0
}

func noClamps() bool {
	a, err := unix.SchedGetAttr(0, 0)
	return err == nil && a.Util_max == 0
}

func noCookies() bool {
	_, err := linux.CoreCookie()
	return errors.Is(err, unix.EINVAL)
}

func noSeccomp() bool {
	_, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0)
	return errors.Is(err, unix.EINVAL)
}

func noShadowStack() bool {
	b, err := fd.ReadFile("/proc/thread-self/status")
	return err == nil && !bytes.Contains(b, []byte("x86_Thread_features:"))
}

func noPorts() bool {
	if arch.SysIoperm == 0 {
		return true
	}
	_, _, e := unix.RawSyscall(arch.SysIoperm, 0, 1, 0) // takes none away that were there
	return e == unix.ENOSYS
}

// piece is where a word is: at at, behind these pointers. There is nothing if at is
// below zero.
type piece struct {
	via  []int
	at   int
	size int
}

// layout is where everything is in the running kernel.
type layout struct {
	function         uint32 // type of what calls programs for each thread
	pid, level, list int    // of struct task_struct: thread_pid; of struct pid: level, numbers
	number           int    // of struct upid
	pieces           []piece
	children         int // where a thread's list of children is
	bit              int // of wordBits: the bit that counts
}

// maxStruct is more bytes than the structure has, and an offset that an
// instruction can say.
const maxStruct = 1<<15 - 1

// structs are all those that are looked at.
var structs = [...]string{
	"task_struct", "cred", "group_info", "thread_struct", "thread_info", "sched_entity", "seccomp", "sigpending", "io_context", "pid", "upid",
}

const upidSize = 16 // struct upid

var errLayout = errors.New("the kernel's threads are not as Glis knows them")

func findLayout(x *bpf.Types) (*layout, error) {
	f, err := newFinder(x)
	if err != nil {
		return nil, err
	}
	l := &layout{function: f.function}
	if l.function == 0 {
		return nil, errors.New("the kernel has no iterator over threads")
	}
	l.pid, l.level, l.list, l.number = f.member("task_struct", "thread_pid"), f.member("pid", "level"), f.member("pid", "numbers"), f.member("upid", "nr")
	if l.pid < 0 || l.level < 0 || l.list < 0 || l.number < 0 || f.types["upid"].Size != upidSize {
		return nil, fmt.Errorf("%w: numbers", errLayout)
	}
	return l, l.find(f)
}

// find fills in the pieces: in order of the lists, and then the set of CPUs.
func (l *layout) find(f *finder) error {
	for _, list := range [][]word{shared[:], special[:], plain[:], own[:]} {
		for _, w := range list {
			p, err := f.piece(w)
			if err != nil {
				return err
			}
			l.pieces = append(l.pieces, p)
		}
	}
	l.children = f.member("task_struct", "children")
	task := f.types["task_struct"]
	bits := f.x.Bits(task, "sched_reset_on_fork")
	at := &l.pieces[len(shared)+wordBits]
	at.at, l.bit = bits.Offset/32*4, bits.Offset%32
	return l.findCPUs(f.x.Member(task, "cpus_mask"))
}

// findCPUs adds the set of CPUs that a thread may run on: as much of it as
// sched_getaffinity(2) tells.
func (l *layout) findCPUs(at int) error {
	n, err := linux.AffinitySize()
	if at < 0 || at > maxStruct || err != nil || n%word64 != 0 {
		return fmt.Errorf("%w: cpus_mask", errLayout)
	}
	for left := n; left > 0; left -= mostPiece {
		l.pieces = append(l.pieces, piece{nil, at, min(left, mostPiece)})
		at += mostPiece
	}
	return nil
}

// mostPiece is how many bytes are read at once.
const mostPiece = 64

// finder finds members of structs.
type finder struct {
	x        *bpf.Types
	types    map[string]*bpf.Type
	function uint32 // of the iterator, 0: there is none
}

func newFinder(x *bpf.Types) (*finder, error) {
	names := []bpf.Name{{Kind: bpf.KindFunc, Name: "bpf_iter_task"}}
	for _, s := range structs {
		names = append(names, bpf.Name{Kind: bpf.KindStruct, Name: s})
	}
	found, err := x.Find(names...)
	if err != nil {
		return nil, err
	}
	f := &finder{x: x, types: map[string]*bpf.Type{}, function: found[0].ID}
	for i, s := range structs {
		f.types[s] = &found[i+1]
	}
	return f, nil
}

// member returns where a member is; -1 if there is none.
func (f *finder) member(in, name string) int {
	t := f.types[in]
	if t.ID == 0 {
		return -1
	}
	at := f.x.Member(t, name)
	if at > maxStruct {
		return -1
	}
	return at
}

func (f *finder) piece(w word) (piece, error) {
	p := piece{size: w.size}
	switch {
	case w.in == "":
		p.at = f.member("task_struct", w.member)
	case w.by == "group_info":
		p.via = []int{f.member("task_struct", "cred"), f.member("cred", w.by)}
		p.at = f.member(w.in, w.member)
	case w.far:
		p.via = []int{f.member("task_struct", w.by)}
		p.at = f.member(w.in, w.member)
	default:
		if p.at = f.member(w.in, w.member); p.at >= 0 {
			p.at = f.inner(p.at, w.by)
		}
	}
	for _, v := range p.via {
		if v < 0 {
			p.at = -1
		}
	}
	if p.at < 0 && (w.lacks == nil || !w.lacks()) {
		return p, fmt.Errorf("%w: %s", errLayout, w.member)
	}
	return p, nil
}

// inner returns where something is that is at at of a member of struct
// task_struct.
func (f *finder) inner(at int, by string) int {
	outer := f.member("task_struct", by)
	if outer < 0 || outer+at > maxStruct {
		return -1
	}
	return outer + at
}
