package dump

import (
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/vmamem"
)

// From how many tasks or mappings on it pays to have the kernel's own flags of
// mappings read by a BPF program (2 to 3 ms to set up, before the freeze)
// instead of from smaps (0.1 ms a small task, 3 µs a mapping, frozen).
const (
	manyTasks    = 20
	manyMappings = 900
)

// openFlags prepares the quick way to read mappings, if the tree is large
// enough. Without it, or where the kernel or our privileges don't allow it,
// smaps is read.
func (d *dump) openFlags() {
	pids, mappings := look(proc.PID(d.opts.Tree))
	if len(pids) < manyTasks && mappings < manyMappings {
		return
	}
	r, err := vmamem.Open()
	if err != nil {
		d.log.Debug("mappings are read from smaps", "why", err)
		return
	}
	d.vmas = r
	for _, pid := range pids[:min(len(pids), mostPrepared)] {
		_ = r.Prepare(pid) // only spares time later
	}
}

func (d *dump) closeFlags() {
	if d.vmas != nil {
		_ = d.vmas.Close() // read-only descriptors
	}
}

// mostPrepared limits the descriptors that are kept open for that.
const mostPrepared = 1024

// look counts the tasks of a running tree and the mappings of its root; it is
// a guess, since the tree may change at any time.
func look(root proc.PID) (pids []proc.PID, mappings int) {
	pids = []proc.PID{root}
	for i := 0; i < len(pids) && len(pids) < mostPrepared; i++ {
		d, err := proc.Open(pids[i])
		if err != nil {
			continue
		}
		if i == 0 {
			maps, _ := d.Maps()
			mappings = len(maps)
		}
		kids, _ := d.Children(proc.TID(pids[i]))
		pids = append(pids, kids...)
		d.Close()
	}
	return pids, mappings
}
