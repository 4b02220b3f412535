package dump

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/stats"
	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/undo"
	"glis.dev/glis/options"
)

// guard is what is remembered about sockets of the target: by the guardian, in
// case the engine dies, and here for the engine's own use.
type guard struct {
	*guardian.Guard
	back  []promise
	leave []promise
	later []promise           // of back, that nobody has to know of before leave is begun
	left  map[*scan.File]bool // whose options of leave are set, or may be
	brake func(*scan.File) error
}

// promise is an option of a file that is to be set some day.
type promise struct {
	file *scan.File
	opt  linux.SockOpt
}

var _ kind.Guard = (*guard)(nil)

// startGuard starts the guardian. Whatever happens to the engine from now on,
// the target is not harmed.
func (d *dump) startGuard() error {
	lock, err := netlock.Open()
	if err != nil {
		return err
	}
	dir, ok := d.store.Store.(interface{ File() *os.File })
	if !ok {
		return errors.Join(fmt.Errorf("%v: not a directory", d.store), lock.Close())
	}
	d.guard.Guard, err = guardian.Start(guardian.Dump, int(dir.File().Fd()), lock, d.turn.Int())
	return err
}

// readyLock prepares the network lock if the tree may have connections. Those that
// it gets until it is frozen are locked all the same, which only takes longer.
func (d *dump) readyLock() error {
	if !d.anySocket || !d.opts.TCPEstablished || d.skipsLock() {
		return nil
	}
	return d.guard.Lock().Prepare(d.lockName())
}

func (d *dump) lockName() string { return "glis-" + d.runID }

// Back implements kind.Guard.
func (g *guard) Back(f *scan.File, opts ...linux.SockOpt) error {
	return g.BackAll([]*scan.File{f}, opts...)
}

// BackAll implements kind.Guard.
func (g *guard) BackAll(all []*scan.File, opts ...linux.SockOpt) error {
	told := make([]guardian.Option, 0, len(all)*len(opts))
	for _, f := range all {
		if f.FD < 0 {
			return fmt.Errorf("%v: only a descriptor's options can be guarded", f)
		}
		if err := g.brake(f); err != nil {
			return err
		}
		at, err := g.place(f)
		if err != nil {
			return err
		}
		for _, o := range opts {
			g.back = append(g.back, promise{f, o})
			at.SockOpt = o
			told = append(told, at)
		}
	}
	return g.Options(told)
}

// place says where the guardian finds a file, which is lent to it if it is in a
// queue only.
func (g *guard) place(f *scan.File) (guardian.Option, error) {
	at := guardian.Option{PID: proc.PID(f.Task.Via()), FD: f.FD, Inode: f.Stat.Ino}
	if f.Within == nil {
		return at, nil
	}
	at.PID = guardian.Lent
	return at, g.Lend(int(f.FD))
}

// Leave implements kind.Guard.
func (g *guard) Leave(f *scan.File, opt linux.SockOpt, back ...linux.SockOpt) error {
	g.leave = append(g.leave, promise{f, opt})
	for _, o := range back {
		g.later = append(g.later, promise{f, o})
	}
	return nil
}

// tellLater has the guardian know how Leave is undone.
func (g *guard) tellLater() error {
	all := make([]guardian.Option, len(g.later))
	for i, p := range g.later {
		at, err := g.place(p.file)
		if err != nil {
			return err
		}
		all[i], all[i].SockOpt = at, p.opt
	}
	g.back, g.later = append(g.back, g.later...), nil
	return g.Options(all)
}

// setLeave sets what sockets are to die with, unless ended returns why not.
func (g *guard) setLeave(ended func() error) error {
	for _, some := range byFile(g.leave) {
		if err := ended(); err != nil {
			return err
		}
		if g.left == nil {
			g.left = map[*scan.File]bool{}
		}
		g.left[some[0].file] = true
		if err := keepFor(some[0].file, some); err != nil {
			return err
		}
	}
	return nil
}

// leaveSockets sets what sockets are to die with. The tree must not meet them
// like that.
func (d *dump) leaveSockets() error {
	if len(d.guard.leave) == 0 {
		return nil
	}
	if err := errors.Join(d.brake(), d.guard.tellLater()); err != nil {
		return err
	}
	begin := time.Now()
	return d.guard.setLeave(func() error { return errors.Join(d.ended(), d.soon(2*time.Since(begin))) })
}

// takeBack undoes setLeave, of those that it has come to.
func (g *guard) takeBack() error {
	if len(g.left) == 0 {
		return nil
	}
	var back []promise
	for _, p := range g.back {
		if g.left[p.file] {
			back = append(back, p)
		}
	}
	files := byFile(back)
	errs := make([]error, len(files))
	_ = par.Do(len(files), func(i int) error {
		errs[i] = keepFor(files[i][0].file, files[i])
		return nil // all others are to be kept all the same
	})
	err := errors.Join(errs...)
	if err == nil {
		g.left = nil
	}
	return err
}

// byFile cuts promises into those of one file each, which stand side by side.
func byFile(all []promise) [][]promise {
	var out [][]promise
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].file == all[0].file {
			n++
		}
		out, all = append(out, all[:n]), all[n:]
	}
	return out
}

// keepFor keeps promises about one file.
func keepFor(f *scan.File, some []promise) error {
	d, err := f.Borrow()
	if err != nil {
		return err
	}
	defer d.Close()
	for _, p := range some {
		if err := p.opt.SetBack(d.Int()); err != nil {
			return fmt.Errorf("%v: %w", f, err)
		}
	}
	return nil
}

// lock holds back the packets of the tree's connections, and brakes the tree
// while their state is read.
func (d *dump) lock() error {
	n := 0 // as many as there may be
	for _, f := range d.tree.Files {
		if _, ok := d.kindOf(f).(kind.Locker); ok {
			n++
		}
	}
	d.flows, d.guard.leave, d.guard.later = make([]netlock.Flow, 0, n), make([]promise, 0, n), make([]promise, 0, n)
	for _, f := range d.tree.Files {
		l, ok := d.kindOf(f).(kind.Locker)
		if !ok {
			continue
		}
		if err := d.ended(); err != nil {
			return err
		}
		flows, err := l.Flows(d.env, f)
		if err != nil {
			return err
		}
		d.flows = append(d.flows, flows...)
	}
	if len(d.flows) == 0 {
		return nil
	}
	if d.skipsLock() {
		return d.brake()
	}
	if err := d.checkHeld(d.flows); err != nil {
		return err
	}
	return errors.Join(d.brake(), d.guard.Lock().Hold(d.lockName(), d.flows))
}

// checkHeld refuses a tree that an earlier dump has left stopped: its lock would hold the
// connections back also after a restore of this dump.
func (d *dump) checkHeld(flows []netlock.Flow) error {
	if !d.tree.Root.Stopped {
		return nil
	}
	name, err := netlock.HeldBy(flows)
	if err == nil && name != "" {
		err = fmt.Errorf("%v is stopped, and table inet %s holds packets of its connections back, as an earlier dump with --leave-stopped does: run glis unlock with the directory of that dump before", d.tree.Root, name)
	}
	return err
}

// hold holds back the packets of further connections.
func (d *dump) hold(flows []netlock.Flow) error {
	d.flows = append(d.flows, flows...)
	if d.skipsLock() {
		return nil
	}
	if err := d.checkHeld(flows); err != nil {
		return err
	}
	return d.guard.Lock().Hold(d.lockName(), flows)
}

func (d *dump) skipsLock() bool { return d.opts.NetworkLock == options.NetworkLockSkip }

// unlock lets packets through again as soon as nothing more is read of
// connections that go on.
func (d *dump) unlock() error {
	err := d.unbrake()
	if !d.opts.LeaveRunning {
		return err
	}
	return errors.Join(err, d.guard.Lock().Pass())
}

// stays tells whether the tree is to live on.
func (d *dump) stays() bool { return d.opts.LeaveRunning || d.opts.LeaveStopped }

// keepLock has packets held back until the restore, whatever becomes of Glis.
func (d *dump) keepLock() error {
	if len(d.flows)+len(d.away) == 0 || d.skipsLock() {
		return nil
	}
	name := netlock.KeptName(d.runID)
	if err := d.guard.Kept(name); err != nil {
		return err
	}
	err := d.guard.Lock().Keep(name, append(slices.Clip(d.flows), d.away...))
	if err != nil && len(d.flows) == 0 {
		// Nothing is lost that a network may not lose.
		d.log.Warn("Until the restore, who sends to its ports is told that nobody is there", "err", err)
		return nil
	}
	return err
}

// keepStopped is keepLock for a tree that is left stopped: whoever ends it then doesn't
// end its connections, and who continues it unlocks them first.
func (d *dump) keepStopped() error {
	if len(d.flows) == 0 || d.skipsLock() {
		return nil
	}
	d.undo.Push("the network lock", func() error { return d.guard.Lock().Unlock(netlock.KeptName(d.runID)) })
	if err := d.keepLock(); err != nil {
		return err
	}
	d.log.Warn("Its connections are held back until the restore; to continue the tree instead, run glis unlock before", "images", d.opts.ImagesDir)
	return nil
}

// passAll lets all packets through. The rest of the lock goes with the guardian,
// when the tree runs.
func (d *dump) passAll() error {
	errs := []error{d.guard.Lock().Pass()}
	if len(d.flows)+len(d.away) > 0 && !d.stays() && !d.skipsLock() {
		errs = append(errs, d.guard.Lock().Unlock(netlock.KeptName(d.runID)))
	}
	return errors.Join(errs...)
}

// takenBack takes back what was done outside of the tree, after a dump that
// failed for the reason given, and returns what is to be said. What can't be
// taken back here is left to the guardian: it is another process, and what is in
// the way of this one is hardly in its way.
func (d *dump) takenBack(why error) error {
	left := errors.Join(d.undo.Run(), undo.Again(d.discard))
	if left == nil && !d.harmed {
		return why
	}
	if err := d.guard.GiveUp(); err != nil {
		return errors.Join(why, left, err)
	}
	d.log.Warn("The guardian has put right what the dump could not take back", "err", errors.Join(why, left))
	return why
}

// finished has the guardian end a tree whose checkpoint is complete: it was not
// sure to have ended, for the reason given.
func (d *dump) finished(why error) (*stats.DumpStatsEntry, error) {
	if err := d.guard.GiveUp(); err != nil {
		return nil, fmt.Errorf("the checkpoint is complete; its tree was to be ended, and that is not sure: %w", errors.Join(why, err))
	}
	d.log.Warn("The guardian has ended the tree, as the dump could not", "err", why)
	return d.stats(), nil
}

// Discard removes the images of a dump that did not come to its end from the
// directory that is open as descriptor dir: for the guardian.
func Discard(dir int) error {
	store, err := image.OpenDir(fmt.Sprintf("/proc/self/fd/%d", dir))
	if err != nil {
		return err
	}
	defer store.Close()
	err = errors.Join(mem.Discard(store), removeImages(store))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the directory itself is gone
	}
	return err
}
