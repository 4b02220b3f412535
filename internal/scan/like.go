package scan

import (
	"reflect"

	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/taskmem"
)

// See tells the threads of a task what was seen of them in the kernel's memory: of
// all or of none.
func See(t *Task, all taskmem.Picture) {
	of := make(map[proc.TID]*taskmem.Thread, len(all))
	for i := range all {
		of[proc.TID(all[i].TID)] = &all[i]
	}
	t.Alike = len(all) > 0 && all.Together()
	for _, th := range t.Threads {
		if th.Seen = of[th.TID]; th.Seen == nil {
			Forget(t)
			return
		}
	}
}

// Forget has nothing of a task be seen.
func Forget(t *Task) {
	t.Alike = false
	for _, th := range t.Threads {
		th.Seen, th.Like, th.Witness = nil, nil, false
	}
}

// Liken finds out which threads of a task are like others, and returns those whose
// status has to be read nevertheless. The leader is left out, since it is asked for
// the process.
func Liken(t *Task) []*Thread {
	var toRead []*Thread
	first, last := map[int]*Thread{}, map[int]*Thread{}
	for _, th := range t.Threads[1:] {
		if th.Seen != nil && th.Seen.Class >= 0 {
			if th.Like = first[th.Seen.Class]; th.Like != nil {
				last[th.Seen.Class] = th
				continue
			}
			first[th.Seen.Class] = th
		}
		toRead = append(toRead, th)
	}
	for _, th := range last {
		th.Witness = true
		toRead = append(toRead, th)
	}
	return toRead
}

// CopyStatus gives a thread that is like another one its status, with what was seen of
// the thread. A witness keeps its own; false if that says something else.
func (t *Thread) CopyStatus() bool {
	s := *t.Like.Status
	if len(s.NSpid) != 1 { // nobody has seen its other numbers
		return false
	}
	if !t.Witness && s.SigPnd == t.Seen.Pending && s.SigBlk == t.Seen.Blocked {
		t.Status = t.Like.Status
		return true
	}
	s.Name, s.Pid, s.NSpid = t.Seen.Name, t.TID, []int32{int32(t.TID)}
	s.SigPnd, s.SigBlk = t.Seen.Pending, t.Seen.Blocked
	if t.Witness {
		return reflect.DeepEqual(lasting(s), lasting(*t.Status))
	}
	t.Status = &s
	return true
}

// Numbers are those that a thread has in every PID namespace from the engine's down.
func (t *Thread) Numbers() []int32 {
	if t.Like != nil && t.Status == t.Like.Status {
		return []int32{int32(t.TID)}
	}
	return t.Status.NSpid
}

// lasting is what a status says that stays as it is while a thread stands still:
// neither what waits for it, nor counts of memory and of the user's signals.
func lasting(s proc.Status) proc.Status {
	s.SigQ, s.SigPnd, s.ShdPnd, s.Ngid = [2]uint64{}, 0, 0, 0
	s.VmLck, s.VmPin, s.RssAnon, s.RssFile, s.RssShmem, s.VmSwap = 0, 0, 0, 0, 0, 0
	return s
}
