package dump

import (
	"bytes"
	"errors"
	"io/fs"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/taskmem"
)

// What semop(2) was told to undo at the end of a process (SEM_UNDO) would be
// undone when the tree is killed, and nobody could say so to the restored one.

// openUndo prepares to look for that, if there are semaphores at all.
func (d *dump) openUndo() {
	if d.semaphores = semaphores(); !d.semaphores {
		return
	}
	var err error
	if d.undoes, err = taskmem.OpenUndo(); err != nil {
		d.log.Debug("what semaphores have to undo is known of processes with one thread only", "why", err)
	}
}

// semaphores tells whether there are System V semaphores in the namespace, or may
// be, as that can't be told. Without CONFIG_SYSVIPC there is no such file.
func semaphores() bool {
	b, err := fd.ReadFile("/proc/sysvipc/sem")
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return bytes.Count(b, []byte("\n")) > 1 // the first line is a title
}

// noUndo refuses tasks that have something to undo.
func (d *dump) noUndo() error {
	if !d.semaphores {
		return nil
	}
	for _, t := range d.tree.Tasks {
		if t.Zombie {
			continue
		}
		if err := d.ended(); err != nil {
			return err
		}
		any, err := d.hasUndo(t)
		if err != nil {
			return kind.About(t, err)
		}
		if any {
			return kind.Unsupported(t, "it has used SEM_UNDO on System V semaphores (semop(2)), so that its end would change them, which a restore can't take back; let it remove them, or dump a moment when it has none")
		}
	}
	return nil
}

// hasUndo tells whether a task has used SEM_UNDO. Where the kernel's memory
// can't be read, a task with one thread is compared with the guardian, which
// never has: threads have a list from their birth on, though it may be empty.
func (d *dump) hasUndo(t *scan.Task) (bool, error) {
	if d.undoes != nil && t.Ended == nil {
		return d.undoes.Any(t.Pidfd.Int(), len(t.Threads))
	}
	if d.undoes != nil {
		p, err := fd.Task(int(t.PID))
		if err != nil {
			return false, err
		}
		defer p.Close()
		return d.undoes.Any(p.Int(), len(t.Threads)+1)
	}
	if len(t.Threads) > 1 {
		return false, nil
	}
	r, err := linux.Kcmp(t.Via(), int(proc.PID(d.guard.PID())), linux.KCMP_SYSVSEM, 0, 0)
	return r != 0, err
}
