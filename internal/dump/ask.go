package dump

import (
	"errors"
	"fmt"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// asked is a thread with its batch under way and what will read the answers.
type asked struct {
	thread  *scan.Thread
	core    *criu_core.CoreEntry
	batch   *remote.Batch
	answers []kind.Answer // of each facet, nil if it has none; those of the thread come last
	process int           // how many are of the process
	memory  func() (mem.Told, error)
}

// atOnce is how many threads run their batches at the same time. Each takes
// room in its task's arena until it is done.
const atOnce = 48

// fewAsked is from how many threads down they are not worth another goroutine.
const fewAsked = 4

// askAround asks all threads and looks around meanwhile.
func (d *dump) askAround() error {
	if d.many() {
		if err := d.share(); err != nil { // what is heard of a task is encoded with it
			return err
		}
	}
	if threads := d.threads(); len(threads) <= fewAsked && !d.lendsArenas { // of many tasks nearly all may be zombies
		return d.askThem(threads, d.lookAround)
	}
	return par.Besides(d.lookAround, d.askAndGlimpse)
}

// ask has every thread tell what only it can know: one batch each, many
// started before the first is waited for. Afterwards a thread has its own
// registers again.
func (d *dump) ask(threads []*scan.Thread) error {
	for len(threads) > 0 {
		n := min(atOnce, len(threads))
		some, behind := threads[:n], threads[n:]
		if err := d.ended(); err != nil {
			return err
		}
		back, err := d.lendArenas(some, behind)
		if err == nil {
			err = d.askThem(some, func() error { return nil })
		}
		if err == nil {
			err = back()
		}
		if err != nil {
			return err
		}
		threads = behind
	}
	return nil
}

// askThem asks some threads, and does something else while they answer.
func (d *dump) askThem(threads []*scan.Thread, meanwhile func() error) error {
	all, err := d.askSome(threads)
	if err != nil {
		return err
	}
	started, heard := 0, 0
	for ; started < len(all); started++ {
		if err = kind.About(all[started].thread.Task, all[started].batch.Start()); err != nil {
			break
		}
	}
	if err == nil {
		err = meanwhile()
	}
	for ; err == nil && heard < len(all); heard++ {
		err = kind.About(all[heard].thread.Task, d.hear(all[heard]))
	}
	if err != nil {
		return errors.Join(err, comeBack(all[heard:max(heard, started)]))
	}
	for _, a := range all {
		a.thread.Task.Arena.Reset()
	}
	return nil
}

// comeBack waits for threads that nobody wants to hear any more: one that runs can't
// be let go.
func comeBack(all []*asked) error {
	var errs []error
	for _, a := range all {
		errs = append(errs, alive(a.batch.Wait()))
	}
	return errors.Join(errs...)
}

// askSome builds the batches of some threads, those of different tasks at the
// same time.
func (d *dump) askSome(threads []*scan.Thread) ([]*asked, error) {
	all := make([]*asked, len(threads))
	var begins []int // of each task's threads
	for i, th := range threads {
		if i == 0 || th.Task != threads[i-1].Task {
			begins = append(begins, i)
		}
	}
	err := par.Do(len(begins), func(n int) error {
		for i := begins[n]; i < len(threads) && threads[i].Task == threads[begins[n]].Task; i++ {
			a, err := d.askThread(threads[i])
			if err != nil {
				return kind.About(threads[i].Task, err)
			}
			all[i] = a
		}
		return nil
	})
	return all, err
}

// hear waits for a thread's answers.
func (d *dump) hear(a *asked) error {
	if err := a.batch.Wait(); err != nil {
		return err
	}
	if err := d.readPending(a.thread); err != nil {
		return err
	}
	if err := d.answer(a); err != nil {
		return err
	}
	if err := a.thread.Restore(); err != nil {
		return err
	}
	if a.thread != a.thread.Task.Leader() && !a.thread.Witness {
		a.thread.XState = nil // it makes no call for us any more
	}
	return nil
}

// threads returns all threads, tasks in order, each leader first.
func (d *dump) threads() []*scan.Thread {
	out := make([]*scan.Thread, 0, len(d.freezer.seized))
	for _, t := range d.tree.Tasks {
		out = append(out, t.Threads...)
	}
	return out
}

func (d *dump) askThread(th *scan.Thread) (*asked, error) {
	t := th.Task
	a := &asked{thread: th, core: task.CoreHead(th), batch: t.Arena.Batch(&th.Thread)}
	if th == t.Leader() {
		a.batch.Expect(int(d.calls.Load()))
	}
	q := &kind.Question{Env: d.env, Task: t, Thread: th, Batch: a.batch}
	facets := d.kinds.Thread
	if th == t.Leader() {
		facets, a.process = d.kinds.All(), len(d.kinds.Process)
		a.memory = mem.Ask(q)
	}
	for _, f := range facets {
		answer, err := f.Dump(q)
		if err != nil {
			return nil, fmt.Errorf("thread %d, %s: %w", th.TID, f.Name(), err)
		}
		a.answers = append(a.answers, answer)
	}
	if th == t.Leader() {
		d.calls.Store(int32(a.batch.Len()))
	}
	return a, a.batch.Seal()
}

func (d *dump) answer(a *asked) error {
	t := a.thread.Task
	if a.thread == t.Leader() {
		told, err := a.memory()
		if err != nil {
			return err
		}
		d.memory[t] = told
	}
	if t.Ended != nil {
		return d.answerWithoutFirst(a)
	}
	if err := fill(a.core, a.thread, a.answers); err != nil {
		return err
	}
	if _, wanted := d.told[a.thread]; wanted {
		d.told[a.thread] = a
	}
	if err := noDeathSignal(a.thread, a.core); err != nil || a.thread != t.Leader() {
		return errors.Join(err, d.sink.Put(image.Core, a.core, nil, uint32(a.thread.VTID)))
	}
	if d.many() {
		return d.putCore(t, a.core)
	}
	d.cores[t] = a.core
	return nil
}

// fill has a thread's answers fill in its entry.
func fill(c *criu_core.CoreEntry, th *scan.Thread, answers []kind.Answer) error {
	for _, answer := range answers {
		if answer == nil {
			continue
		}
		if err := answer(c); err != nil {
			return fmt.Errorf("thread %d: %w", th.TID, err)
		}
	}
	return nil
}

// putCores hands in the entries of leaders, which had to wait for the numbers
// of what their tasks share.
func (d *dump) putCores() error {
	for _, t := range d.tree.Tasks {
		if err := d.ended(); err != nil {
			return err
		}
		if t.Zombie {
			if err := d.put(image.Core, task.DeadCore(t), uint32(t.VPID)); err != nil {
				return err
			}
			continue
		}
		core := d.cores[t]
		if core == nil {
			if err := d.stopAfter(t); err != nil {
				return err
			}
			continue
		}
		if err := d.putCore(t, core); err != nil { // all its threads have been asked by now
			return err
		}
	}
	return nil
}

// fewMappings is of how many mappings all entries are kept: they take more room
// than all else that is known of them.
const fewMappings = 24 << 10

// dumpMemory describes the address spaces: what is mapped where.
func (d *dump) dumpMemory() error {
	listed := 0
	for _, t := range d.tree.Tasks {
		if t.Zombie {
			continue
		}
		d.unpackMappings(t)
		s, err := mem.Dump(d.ctx, d.env, t)
		if err != nil {
			return kind.About(t, err)
		}
		if d.spaces = append(d.spaces, s); d.many() {
			d.foldLast()
		} else if listed += len(t.VMAs); listed <= fewMappings {
			s.List()
		}
		t.VMAs, t.Packed = mem.OfSockets(t.VMAs), nil
	}
	return nil
}

// putMemory hands in the descriptions, with what the tasks said about them.
func (d *dump) putMemory() error {
	if _, ok := image.DirOf(d.pagesStore()); ok && !d.many() {
		if err := mem.Elders(d.ctx, d.spaces); err != nil {
			return err
		}
	}
	i := 0
	for _, t := range d.tree.Tasks {
		if err := d.ended(); err != nil {
			return err
		}
		if t.Zombie {
			continue
		}
		if err := d.putSpace(d.spaces[i], d.memory[t]); err != nil {
			return err
		}
		i++
	}
	return mem.Segments(d.env, d.spaces, nsIDs.ipc)
}

func (d *dump) putSpace(s *mem.Space, told mem.Told) error {
	if s.Listed() {
		told.Put(s.Entry)
		return d.sink.Put(image.MM, s.Entry, nil, s.PID)
	}
	s.List()
	told.Put(s.Entry)
	err := d.sink.PutNow(image.MM, s.Entry, nil, s.PID)
	s.Entry = nil
	return err
}
