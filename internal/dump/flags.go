package dump

import (
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/taskmem"
	"glis.dev/glis/internal/vmamem"
)

// From how many tasks or mappings on it pays to have the kernel's own flags of
// mappings read by a BPF program (2 to 3 ms to set up, before the freeze)
// instead of from smaps (0.1 ms a small task, 3 µs a mapping, frozen).
const (
	manyTasks    = 20
	manyMappings = 900
)

// The same for threads, which are looked at and compared with each other (5 ms to set
// up, before the freeze; else 0.2 ms a thread, frozen): from how many in the tree, and
// from how many in a task.
const (
	manyThreads = 64
	someThreads = 4
)

// openFlags prepares the quick ways to read mappings and to compare threads, if
// the tree is large enough. Without them, or where the kernel or our privileges
// don't allow it, /proc is read. It refuses what is to be seen then and takes long.
func (d *dump) openFlags() error {
	d.openUndo()
	pids, mappings, threads := look(proc.PID(d.opts.Tree))
	if severalNodes() {
		if err := noPolicies(pids); err != nil {
			return err
		}
	}
	d.openLandlock(pids[:min(len(pids), manyTasks)])
	d.openBlocks(pids)
	if threads >= manyThreads {
		var err error
		if d.freezer.threadsAt, err = taskmem.Open(); err != nil {
			d.log.Debug("threads are looked at one by one", "why", err)
		}
	}
	if len(pids) < manyTasks && mappings < manyMappings {
		return nil
	}
	r, err := vmamem.Open()
	if err != nil {
		d.log.Debug("mappings are read from smaps", "why", err)
		return nil
	}
	d.vmas = r
	for _, pid := range pids[:min(len(pids), mostPrepared)] {
		_ = r.Prepare(pid) // only spares time later
	}
	return nil
}

func (d *dump) closeFlags() {
	_ = d.freezer.threadsAt.Close() // read-only descriptors, as those of the next
	_ = d.undoes.Close()
	_ = d.blocks.Close()
	_ = d.sandboxes.Close()
	if d.vmas != nil {
		_ = d.vmas.Close()
	}
}

// mostPrepared limits the descriptors that are kept open for that.
const mostPrepared = 1024

// look counts the tasks and threads of a running tree and the mappings of its
// root; it is a guess, since the tree may change at any time. A process whose first
// thread has ended has the number of another thread.
func look(root proc.PID) (pids []proc.PID, mappings, threads int) {
	pids = []proc.PID{root}
	for i := 0; i < len(pids) && len(pids) < mostPrepared; i++ {
		d, err := proc.Living(pids[i])
		if err != nil {
			continue
		}
		pids[i] = d.PID()
		if i == 0 {
			maps, _ := d.Maps()
			mappings = len(maps)
		}
		tids, _ := d.Threads()
		threads += len(tids)
		kids, _ := d.Children(proc.TID(d.PID()))
		pids = append(pids, kids...)
		d.Close()
	}
	return pids, mappings, threads
}
