package dump

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"glis.dev/glis/image"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// checkTarget refuses what can't be a target before anything is touched.
func (d *dump) checkTarget(ctx context.Context) error {
	if err := proc.Ours(); err != nil {
		return err
	}
	pid := proc.PID(d.opts.Tree)
	dir, err := proc.Open(pid)
	if errors.Is(err, proc.ErrGone) {
		return fmt.Errorf("there is no process %d; give the number of a running one with -t", pid)
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	st, err := lasting(dir.Status, func(st *proc.Status) bool { return st.Threads > 0 }, d.patience(ctx, noThreads))
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	switch {
	case st.Kthread:
		return fmt.Errorf("process %d (%s) is a kernel thread: only user processes can be dumped", pid, st.Name)
	case st.Tgid != pid:
		return fmt.Errorf("%d is a thread of process %d (%s); give the process with -t", pid, st.Tgid, st.Name)
	case st.State == 'Z' && st.Threads <= 1:
		return fmt.Errorf("process %d (%s) has ended already (zombie): there is nothing to dump", pid, st.Name)
	}
	d.anon = st.RssAnon << 10
	if d.self != int(pid) && childless(dir, st) {
		return nil // nobody's ancestor, and each of ours takes time to ask
	}
	return d.checkAncestors(pid)
}

// childless tells whether a process has one thread, and that no children; false if that
// is not known. Of a thread that runs some of many may be missed, but not the first.
func childless(dir *proc.Dir, st proc.Status) bool {
	kids, err := dir.Children(proc.TID(st.Tgid))
	return err == nil && st.Threads == 1 && len(kids) == 0
}

// checkAncestors refuses to freeze ourselves: the target must not be Glis or
// a process above it.
func (d *dump) checkAncestors(pid proc.PID) error {
	for at := proc.PID(d.self); at > 0; {
		if at == pid && int(at) == d.self {
			return fmt.Errorf("process %d is Glis itself, which can't stand still while it works", pid)
		}
		if at == pid {
			return fmt.Errorf("process %d is an ancestor of Glis itself; start Glis from outside of that tree", pid)
		}
		dir, err := proc.Open(at)
		if err != nil {
			return nil // above our PID namespace
		}
		st, err := dir.Stat()
		dir.Close()
		if err != nil {
			return err
		}
		at = proc.PID(st.PPID)
	}
	return nil
}

// lockStore has no other dump write into the same directory: it would find images
// that it didn't make, or remove them.
func (d *dump) lockStore() error {
	if dir, ok := image.DirOf(d.store); ok {
		return dir.Lock()
	}
	return nil
}

// unlockStore ends lockStore, also for a guardian that is about to end.
func (d *dump) unlockStore() {
	if dir, ok := image.DirOf(d.store); ok {
		_ = dir.Unlock() // the directory is closed soon
	}
}

// checkStore refuses a place that holds a checkpoint already.
func (d *dump) checkStore() error {
	names, err := d.store.List()
	if err != nil {
		return err
	}
	for _, n := range names {
		if ours(n) {
			return fmt.Errorf("%v holds another checkpoint (%s); give an empty directory with -D, or remove that one", d.store, n)
		}
	}
	return nil
}

// ours tells whether a file is one that a dump writes, by its name.
func ours(name string) bool {
	if _, _, ok := image.RowFor(name); ok || name == image.ManifestName {
		return true
	}
	return slices.ContainsFunc(extra.Table(), func(r *image.Row) bool { return r.Pattern == name })
}

// discard removes what a failed dump wrote.
func (d *dump) discard() error {
	if d.env.Pages != nil {
		_ = d.env.Pages.Close() // often it is closed already
	}
	return errors.Join(d.sink.close(), d.later.drop(), mem.Discard(d.store), removeImages(d.store))
}

// removeImages removes every image: there was none when the dump began. The
// inventory goes first, so that what is left is never taken for a checkpoint.
func removeImages(store image.Store) error {
	errs := []error{removeImage(store, image.Inventory.FileName())}
	names, err := store.List()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, n := range names {
		if ours(n) {
			errs = append(errs, removeImage(store, n))
		}
	}
	return errors.Join(errs...)
}

func removeImage(store image.Store, name string) error {
	if err := store.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// newRunID returns a random UUID, which criu keeps in the inventory.
func newRunID() string {
	var b [16]byte
	_ = linux.Random(b[:]) // can only wait
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// lasting asks again what /proc says of a process as long as that has no threads. While a
// thread that executes a program takes over the number of the first, it may be of the first
// still, which has ended; who is asked next is the other one, or nobody. over says why there
// is no more time for that.
func lasting[T any](ask func() (T, error), has func(*T) bool, over func() error) (T, error) {
	for {
		st, err := ask()
		if err != nil || has(&st) {
			return st, err
		}
		if err := over(); err != nil {
			return st, err
		}
	}
}

// noThreads is what is waited for of a process in lasting.
const noThreads = "it has no threads, as while it executes a program"

// patience returns what ends a wait that begins now and is not the freeze: its context, or
// as much time as the tree has to stop. why says what was waited for.
func (d *dump) patience(ctx context.Context, why string) func() error {
	begun := time.Now()
	return func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if most := d.opts.Timeout; most > 0 && time.Since(begun) > most {
			return fmt.Errorf("%s, for %v by now (--timeout): %w", why, most, context.DeadlineExceeded)
		}
		return nil
	}
}
