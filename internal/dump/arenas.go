package dump

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// Room in a task's arena: what the leader is asked, and what each thread is
// asked with its frame.
const (
	arenaProcess = 192 << 10
	arenaThread  = 32 << 10
)

// firstArenas maps our memory into every task. To take it away again takes each some 40 µs,
// in which a tree stands still whose dump is cancelled: of thousands of tasks only those have
// it that are being asked. With sockets all may be braked, which needs it once more. No two
// tasks may have one memory here (see share): they would be given the same place.
func (d *dump) firstArenas() error {
	if d.lendsArenas = d.many() && !d.sawSocket; !d.lendsArenas {
		return d.mapArenas(d.tree.Tasks)
	}
	for _, t := range d.tree.Tasks {
		if t.Zombie {
			continue
		}
		if err := d.ended(); err != nil {
			return err
		}
		if _, err := d.placeArena(t); err != nil {
			return kind.About(t, err)
		}
	}
	return nil
}

// lendArenas maps our memory into the tasks of some threads, and returns what takes it away
// from those that have none behind them.
func (d *dump) lendArenas(some, behind []*scan.Thread) (back func() error, err error) {
	if !d.lendsArenas {
		return func() error { return nil }, nil
	}
	var tasks, fresh []*scan.Task
	for _, th := range some {
		if n := len(tasks); n > 0 && tasks[n-1] == th.Task {
			continue
		}
		if tasks = append(tasks, th.Task); th.Task.Arena == nil {
			fresh = append(fresh, th.Task)
		}
	}
	back = func() error {
		if n := len(tasks) - 1; len(behind) > 0 && behind[0].Task == tasks[n] {
			tasks = tasks[:n]
		}
		err := unmapArenas(tasks)
		d.harmed = d.harmed || err != nil
		return err
	}
	return back, d.mapArenas(fresh)
}

// haveArena maps our memory into a task that has none at the moment.
func (d *dump) haveArena(t *scan.Task) error {
	if t.Arena != nil {
		return nil
	}
	a, err := d.startArena(t)
	if err != nil {
		return err
	}
	err = a.FinishMap(&t.Leader().Thread, t.Insn)
	if errors.Is(err, unix.EEXIST) {
		a, err = d.anyArena(t, a.Size())
	}
	if err == nil {
		t.Arena = a
	}
	return err
}

// mapArenas maps our memory into tasks, into all at the same time.
func (d *dump) mapArenas(tasks []*scan.Task) error {
	var begun []*scan.Task
	var failed error
	arenas := map[*scan.Task]*remote.Arena{}
	for _, t := range tasks {
		if t.Zombie {
			continue
		}
		if failed = d.ended(); failed != nil {
			break
		}
		a, err := d.startArena(t)
		if err != nil {
			failed = kind.About(t, err)
			break
		}
		begun, arenas[t] = append(begun, t), a
	}
	for _, t := range begun {
		err := arenas[t].FinishMap(&t.Leader().Thread, t.Insn)
		if errors.Is(err, unix.EEXIST) { // others share its memory
			arenas[t], err = d.anyArena(t, arenas[t].Size())
		}
		if err == nil {
			t.Arena = arenas[t]
			continue
		}
		d.harmed = d.harmed || !errors.Is(err, remote.ErrNotMapped)
		if failed == nil {
			failed = noArena(t, err)
		}
	}
	return failed
}

// unmapArenas takes our memory out of tasks, out of all at the same time.
func unmapArenas(tasks []*scan.Task) error {
	var errs []error
	var begun []*scan.Task
	for _, t := range tasks {
		if t.Arena == nil {
			continue
		}
		th := &t.Leader().Thread
		if err := t.Arena.StartUnmap(th, t.Insn); err != nil {
			errs = append(errs, alive(err))
			continue
		}
		begun = append(begun, t)
	}
	for _, t := range begun {
		errs = append(errs, alive(t.Arena.FinishUnmap(&t.Leader().Thread)))
		t.Arena = nil
	}
	return errors.Join(errs...)
}

// noArena names the state of a task that may not have what Glis maps in it (see
// remote.Arena for what it needs not have).
func noArena(t *scan.Task, err error) error {
	if errors.Is(err, remote.ErrNotMapped) && errors.Is(err, unix.EACCES) {
		return kind.Unsupported(t, "it may have no memory of its own that is executable, as a page of Glis's is for a moment; a rule of a security module forbids it (execmem of SELinux), which must allow it")
	}
	return err
}

// placeArena finds the place of a task's arena.
func (d *dump) placeArena(t *scan.Task) (*remote.Arena, error) {
	if a := d.placed[t]; a != nil {
		return a, nil
	}
	defer d.unpackMappings(t)()
	insn, err := findInsn(t)
	if err != nil {
		return nil, err
	}
	t.Insn = insn
	size := uint64(arenaProcess + min(len(t.Threads), atOnce)*arenaThread)
	at := hole(t.VMAs, size)
	// The guardian must know where it is before it is there.
	if err := d.guard.Arena(t.PID, at, size); err != nil {
		return nil, err
	}
	a := remote.PlaceArena(&t.Leader().Thread, at, size)
	if d.lendsArenas {
		d.placed[t] = a
	}
	return a, nil
}

func (d *dump) startArena(t *scan.Task) (*remote.Arena, error) {
	a, err := d.placeArena(t)
	if err != nil {
		return nil, err
	}
	return a, a.StartMap(&t.Leader().Thread, t.Insn)
}

// anyArena maps an arena wherever the kernel wants it.
func (d *dump) anyArena(t *scan.Task, size uint64) (*remote.Arena, error) {
	a, err := remote.MapArena(&t.Leader().Thread, t.Insn, 0, size)
	if err != nil {
		return nil, err
	}
	if err := d.guard.Arena(t.PID, a.Base(), size); err != nil {
		return nil, errors.Join(err, a.Unmap(&t.Leader().Thread, t.Insn))
	}
	return a, nil
}

// margin is left free around an arena, so that it joins no mapping, and none
// that grows runs into it.
const margin = 1 << 20

// hole finds a place for size bytes: at the upper end of the widest gap. 0 if
// there is none.
func hole(vmas []proc.VMA, size uint64) remote.Addr {
	var widest, at uint64
	for i := 1; i < len(vmas); i++ {
		gap := vmas[i].Start - vmas[i-1].End
		if vmas[i].Start < arch.TaskSize && gap > widest && gap >= size+2*margin {
			widest, at = gap, vmas[i].Start-margin-size
		}
	}
	return remote.Addr(at)
}

// findInsn finds a system-call instruction: in the vdso, or else in any code
// that the task has mapped.
func findInsn(t *scan.Task) (remote.Addr, error) {
	var errs []error
	for _, name := range []string{"[vdso]", ""} {
		for i := range t.VMAs {
			v := &t.VMAs[i]
			if v.Prot&unix.PROT_EXEC == 0 || v.Name == "[vsyscall]" || name != "" && v.Name != name {
				continue
			}
			end := min(v.End, v.Start+1<<20)
			insn, err := findSyscall(t, name, remote.Addr(v.Start), remote.Addr(end))
			if err == nil || errors.Is(err, remote.ErrOnItsWay) {
				return insn, err
			}
			errs = append(errs, err)
		}
	}
	return 0, fmt.Errorf("no system-call instruction in its code: %w", errors.Join(errs...))
}

func findSyscall(t *scan.Task, name string, start, end remote.Addr) (remote.Addr, error) {
	if name == "" {
		return remote.FindSyscall(proc.PID(t.Via()), start, end)
	}
	all := make([]*remote.Thread, len(t.Threads))
	for i, th := range t.Threads {
		all[i] = &th.Thread
	}
	return remote.UseVdso(&t.Leader().Thread, start, end, all...)
}
