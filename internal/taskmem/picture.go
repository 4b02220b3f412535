package taskmem

import (
	"bytes"
	"encoding/binary"
)

// Thread is what the kernel's memory tells of one thread.
type Thread struct {
	TID uint32 // in the PID namespace that it is in
	// Class numbers the threads of a picture that are alike: whatever such a thread
	// may be asked for by a system call of its own, and whatever status says of it,
	// is the same but for what follows here. Below zero: there may be more than is
	// compared, so it is like no other.
	Class int
	// Set numbers those that have in common what a thread may leave: one table of
	// descriptors, one set of directories with one umask, one set of cgroups, one
	// set of namespaces, those for their children included, one session keyring, one
	// login uid, and the same right to all I/O ports. Below zero: it has a keyring for
	// itself, or is about to end.
	Set int

	Name        string
	ClearTID    uint64 // see set_tid_address(2)
	RobustList  uint64 // see get_robust_list(2)
	AltStack    Stack
	DeathSignal uint32 // see PR_SET_PDEATHSIG(2const)
	// Sets of signals: bit n-1 is signal n. Those that wait for this thread alone.
	Blocked, Pending uint64
	Childless        bool // it has no child processes; see children in proc_pid_tid(5)
}

// Stack is a thread's alternate signal stack, see sigaltstack(2), with no more than
// SS_AUTODISARM in its flags.
type Stack struct {
	SP, Size uint64
	Flags    uint32
}

// Picture is all threads of a process, the first one first.
type Picture []Thread

// Together tells whether all threads have in common whatever a thread may leave.
// False says only that it takes a closer look: threads with sets of their own may be
// in the same namespaces nevertheless.
func (p Picture) Together() bool {
	for i := range p {
		if p[i].Set != 0 {
			return false
		}
	}
	return len(p) > 0
}

// form is what records are like.
type form struct {
	layout *layout
	at     []int // where each piece is
	size   int
}

// Where the lists begin among the pieces.
const (
	specialAt = len(shared)
	plainAt   = specialAt + len(special)
	ownAt     = plainAt + len(plain)
	cpusAt    = ownAt + len(own)
)

// picture takes whole records apart.
func (f *form) picture(b []byte) Picture {
	out := make(Picture, 0, len(b)/f.size)
	sets, classes := map[string]int{}, map[string]int{}
	for ; len(b) > 0; b = b[f.size:] {
		r := record{f, b[:f.size:f.size]}
		t := r.own()
		t.Set, t.Class = -1, -1
		if r.whole() {
			t.Set = number(sets, r.part(0, specialAt))
		}
		if r.plain() {
			t.Class = number(classes, r.b[f.at[0]:])
		}
		out = append(out, t)
	}
	return out
}

func number(of map[string]int, key []byte) int {
	n, ok := of[string(key)]
	if !ok {
		n = len(of)
		of[string(key)] = n
	}
	return n
}

// record is what the program says of one thread.
type record struct {
	f *form
	b []byte
}

func (r *record) word(i int) uint64 { return binary.NativeEndian.Uint64(r.b[r.f.at[i]:]) }

func (r *record) set(i int, v uint64) { binary.NativeEndian.PutUint64(r.b[r.f.at[i]:], v) }

// part is the pieces from one to before another.
func (r *record) part(from, to int) []byte { return r.b[r.f.at[from]:r.f.at[to]] }

// whole tells whether a thread has what all threads have, and no keyring alone.
func (r *record) whole() bool {
	for i := range mustShare {
		if r.word(i) == 0 {
			return false
		}
	}
	return r.word(keyringOfOne) == 0
}

// own takes a thread's own words, and leaves 0 where they were.
func (r *record) own() Thread {
	w := func(i int) uint64 { return r.word(ownAt + i) }
	name := r.b[r.f.at[ownAt+ownComm]:][:commSize]
	if end := bytes.IndexByte(name, 0); end >= 0 {
		name = name[:end]
	}
	t := Thread{
		TID: binary.NativeEndian.Uint32(r.b[numberAt:]), Name: string(name), ClearTID: w(ownClearTID), RobustList: w(ownRobustList),
		AltStack: Stack{w(ownStack), w(ownStackSize), uint32(w(ownStackFlags))}, DeathSignal: uint32(w(ownDeathSignal)),
		Blocked: w(ownBlocked), Pending: w(ownPending),
		// An empty list is its own first entry.
		Childless: w(ownChildren) == binary.NativeEndian.Uint64(r.b[addressAt:])+uint64(r.f.layout.children),
	}
	clear(r.part(ownAt, cpusAt))
	return t
}

// Policies of which more has to be known than is compared, see sched(7).
const (
	schedDeadline = 6 // SCHED_DEADLINE
	schedExt      = 7 // SCHED_EXT
)

// plain has special words say what matters of them. False if there is more to know.
func (r *record) plain() bool {
	at := func(i int) int { return specialAt + i }
	if r.word(at(wordIOContext)) != 0 {
		r.set(at(wordIOContext), 1) // and its ioprio is a word of its own
	}
	r.set(at(wordBits), r.word(at(wordBits))>>r.f.layout.bit&1)
	n := r.word(at(wordGroupCount))
	list := r.b[r.f.at[at(wordGroupList)]:][:4*mostGroups]
	if n <= mostGroups {
		r.set(at(wordGroups), 0)
		clear(list[4*n:])
	} else {
		clear(list)
	}
	policy := r.word(at(wordPolicy))
	return r.word(at(wordMemPolicy)) == 0 && policy != schedDeadline && policy != schedExt
}
