package task

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/taskmem"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/internal/tracee"
)

// TestGlimpsers: each facet of a thread says how it is known of a thread that is not
// asked.
func TestGlimpsers(t *testing.T) {
	for _, f := range ThreadFacets() {
		if _, ok := f.(kind.Glimpser); !ok {
			t.Errorf("%s does not", f.Name())
		}
	}
}

// told is a thread, and what it said when it was asked.
type told struct {
	thread  *scan.Thread
	answers []kind.Answer
	core    *core.CoreEntry
}

// askThread asks one thread as a dump does.
func askThread(task *scan.Task, th *scan.Thread) (*told, error) {
	x := &told{thread: th, core: CoreHead(th)}
	q := &kind.Question{Env: &kind.DumpEnv{Tree: &scan.Tree{}}, Task: task, Thread: th, Batch: task.Arena.Batch(&th.Thread)}
	for _, f := range ThreadFacets() {
		a, err := f.Dump(q)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		x.answers = append(x.answers, a)
	}
	err := q.Batch.Run()
	if err == nil {
		th.Pending, err = tracee.Pending(th.TID, false, forever)
	}
	for _, a := range x.answers {
		if err == nil && a != nil {
			err = a(x.core)
		}
	}
	return x, err
}

// glimpse fills in the entry of a thread that is like one that was asked.
func glimpse(task *scan.Task, th *scan.Thread, its *told) (*core.CoreEntry, error) {
	c := CoreHead(th)
	for i, f := range ThreadFacets() {
		a, err := f.(kind.Glimpser).Glimpse(&kind.Question{Env: &kind.DumpEnv{Tree: &scan.Tree{}}, Task: task, Thread: th}, its.answers[i])
		if err == nil && a != nil {
			err = a(c)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	return c, nil
}

// TestGlimpse asks threads that differ in every respect, and compares what each says
// with what would be believed of it by what was seen of it in the kernel's memory.
func TestGlimpse(t *testing.T) {
	r, err := taskmem.Open()
	testkit.KernelMemory(t, err)
	defer r.Close()
	pid := start(t, "unlike.c")
	awaitRest(t, pid)
	err = tracee.Run(func() error {
		task, err := freeze(pid)
		if err != nil {
			return err
		}
		if err := lookAt(task, r); err != nil {
			return err
		}
		compareBoth(t, task)
		for _, th := range task.Threads {
			if err := th.Restore(); err != nil {
				return err
			}
		}
		return release(task)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitRest waits until the threads that are to be asked are in the same system call.
func awaitRest(t *testing.T, pid proc.PID) {
	t.Helper()
	d, err := proc.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	tids, err := d.Threads()
	if err != nil {
		t.Fatal(err)
	}
	for _, tid := range tids {
		st, err := d.ThreadStatus(tid)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(st.Name, "!") {
			awaitThread(t, d, tid, sysPause)
		}
	}
}

// lookAt takes the picture.
func lookAt(task *scan.Task, r *taskmem.Reader) error {
	pidfd, err := unix.PidfdOpen(int(task.PID), 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	all, err := r.Look(pidfd, len(task.Threads))
	if err == nil && all == nil {
		err = errors.New("not all threads were seen")
	}
	scan.See(task, all)
	scan.Liken(task)
	return err
}

func compareBoth(t *testing.T, task *scan.Task) {
	of := map[*scan.Thread]*told{}
	classes := map[int]string{}
	glimpsed := 0
	for _, th := range task.Threads[1:] {
		name := th.Status.Name
		if c := th.Seen.Class; strings.HasPrefix(name, "!") || name == "plain" {
			if other, ok := classes[c]; ok && c >= 0 && other != name && strings.HasPrefix(name+other, "!") {
				t.Errorf("%s is like %s", name, other)
			}
			classes[c] = name
		}
		if strings.HasPrefix(name, "!") {
			continue
		}
		x, err := askThread(task, th)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		task.Arena.Reset()
		of[th] = x
		if th.Like == nil || of[th.Like] == nil {
			continue
		}
		glimpsed++
		seen, err := glimpse(task, th, of[th.Like])
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if said, believed := marshal(t, x.core), marshal(t, seen); !bytes.Equal(said, believed) {
			t.Errorf("%s, said:\n%v\nbelieved, like %s:\n%v", name, x.core, th.Like.Status.Name, seen)
		}
		th.Witness = true
		if !th.CopyStatus() {
			t.Errorf("%s has another status than %s", name, th.Like.Status.Name)
		}
	}
	if asked := len(of); glimpsed < asked/3 {
		t.Errorf("only %d threads of %d are like others", glimpsed, asked)
	}
	unlike(t, of)
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unlike makes sure that the threads are what their names say: none of them has the
// entry of a plain one.
func unlike(t *testing.T, of map[*scan.Thread]*told) {
	common := func(c *core.CoreEntry) string { // what plain threads have in common
		x, all := *c.ThreadCore, *c
		x.Comm, x.FutexRla, x.RseqEntry = nil, new(uint64), nil
		all.ThreadCore, all.ThreadInfo = &x, nil
		return string(marshal(t, &all))
	}
	var plain string
	for th, x := range of {
		if th.Status.Name == "plain" {
			plain = common(x.core)
		}
	}
	lacks := map[string]bool{}
	for th, x := range of {
		switch name := th.Status.Name; {
		case name[0] == '-':
			lacks[name[1:]] = true
		case name == "plain" && common(x.core) != plain:
			t.Errorf("two plain threads have different entries:\n%v", x.core)
		case name != "plain" && common(x.core) == plain:
			t.Errorf("thread %q has the entry of a plain one", name)
		}
	}
	if len(lacks) > 0 {
		t.Logf("not here: %v", lacks)
	}
}
