package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/kinds"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/tracee"
	"glis.dev/glis/internal/undo"
	"glis.dev/glis/options"
)

// criu's numbers for how a dump has locked the network.
const (
	lockIptables = 0
	lockSkip     = 2
)

// startGuard starts the guardian. From now on nothing of the tree stays if the
// engine dies, until the tree is released, and all of it afterwards.
func (r *restore) startGuard() error {
	lock, err := netlock.Open()
	if err != nil {
		return err
	}
	dir, ok := image.DirOf(r.store)
	if !ok {
		return errors.Join(fmt.Errorf("%v: not a directory", r.store), lock.Close())
	}
	r.guard, err = guardian.Start(guardian.Restore, int(dir.File().Fd()), lock)
	return err
}

// flowsOf returns the flows of all files of a plan.
func flowsOf(p *plan.Plan) ([]netlock.Flow, error) {
	nodes, err := p.Nodes()
	if err != nil {
		return nil, err
	}
	flows := make([]netlock.Flow, 0, count[plan.Locked](nodes)) // most have one
	for _, n := range nodes {
		if l, ok := n.(plan.Locked); ok {
			flows = l.Flows(flows)
		}
	}
	return flows, nil
}

// planLock decides what is locked while the tree is made, and what is unlocked
// when it is released: also what images do not tell of, clients whose handshake was
// not over.
func (r *restore) planLock(inv *inventory.InventoryEntry) error {
	flows, err := flowsOf(r.plan)
	if err != nil {
		return err
	}
	id, skip := inv.GetDumpCriuRunId(), r.opts.NetworkLock == options.NetworkLockSkip
	switch inv.GetNetworkLockMethod() {
	case lockSkip:
		return nil
	case lockIptables:
		if !skip && len(netlock.Connections(flows)) > 0 {
			return fmt.Errorf("inventory.img: the packets of its connections are held back by rules of iptables, which Glis does not remove; remove them (iptables -S, ip6tables -S), and give --network-lock skip")
		}
		return nil
	}
	if id == "" && len(flows) == 0 {
		return nil
	}
	if id == "" {
		return errors.New("inventory.img: packets are held back, but it does not say under which name (dump_criu_run_id)")
	}
	r.flows, r.kept = netlock.Connections(flows), netlock.KeptName(id)
	r.env.Locked = !skip && len(flows) > 0
	return nil
}

// lock holds packets back while the tree is made, also on a host where no dump
// has locked them. What comes to ports of UDP waits there once they are.
func (r *restore) lock() error {
	if !r.env.Locked {
		return nil
	}
	flows := r.flows
	r.flows = nil // there may be very many
	return r.guard.Lock().Hold("glis-"+r.kept, flows)
}

// commit is the point of no return. Before it, the kernel ends every task of
// the tree should the engine die; behind it, the tree lives. In between the
// guardian would end it.
func (r *restore) commit() error {
	if err := errors.Join(r.handTasks(), r.brake()); err != nil {
		return err
	}
	for _, t := range r.tree.tasks {
		if t.zombie {
			continue
		}
		for _, th := range t.live.threads {
			if err := tracee.SetOptions(th.TID, linux.PTRACE_O_TRACESYSGOOD); err != nil {
				return fmt.Errorf("%v: %w", t, err)
			}
		}
	}
	if err := r.guard.Alive(); err != nil {
		return err
	}
	return r.guard.Phase(guardian.Released)
}

// brake sees to it that no task runs before its sockets are right, even if the
// engine dies in between. What is stopped anyway needs no brake.
func (r *restore) brake() error {
	if len(r.resumptions) == 0 {
		return nil
	}
	for _, t := range r.tree.tasks {
		pid := proc.PID(t.pid)
		if t.zombie || r.stops(t) || waits(t) {
			continue
		}
		if err := r.guard.BrakeMasked(pid, t.images[0].mask); err != nil {
			return err
		}
		if err := tracee.Brake(pid); err != nil {
			return fmt.Errorf("%v: %w", t, err)
		}
		r.braked = append(r.braked, t)
	}
	return nil
}

// waits tells whether a signal waits for a process or a thread of it that the kernel would
// forget over the one that stops it, or whether that can't be known.
func waits(t *task) bool {
	const sigcont = 1 << (unix.SIGCONT - 1)
	if slices.ContainsFunc(t.images, func(th thread) bool { return th.waiting&sigcont != 0 }) {
		return true
	}
	dir, err := proc.Open(proc.PID(t.pid)) // somebody may have sent one meanwhile
	if err != nil {
		return true
	}
	defer dir.Close()
	st, err := dir.Status()
	return err != nil || (st.SigPnd|st.ShdPnd)&sigcont != 0
}

// unbrake takes the brakes off; the tasks stay stopped.
func (r *restore) unbrake() error {
	var errs []error
	for _, t := range r.braked {
		pid := proc.PID(t.pid)
		if err := tracee.Unbrake(pid, t.images[0].mask); err != nil && !errors.Is(err, tracee.ErrGone) {
			errs = append(errs, fmt.Errorf("%v: %w", t, errors.Join(err, tracee.Brake(pid)))) // it is to stand until it is mended
		}
	}
	if len(r.braked) > 0 && len(errs) == 0 { // else the guardian is to see to it
		errs = append(errs, undo.Again(r.guard.Unbraked))
	}
	return errors.Join(errs...)
}

// handTasks gives the guardian what it needs to end the tasks, a message full
// at a time.
func (r *restore) handTasks() error {
	living := slices.DeleteFunc(slices.Clone(r.tree.tasks), func(t *task) bool { return t.zombie })
	for some := range slices.Chunk(living, fd.MaxRights) {
		if err := r.handSome(some); err != nil {
			return err
		}
	}
	return nil
}

func (r *restore) handSome(some []*task) error {
	var fds []int
	defer func() {
		for _, n := range fds {
			_ = unix.Close(n) // nothing is buffered
		}
	}()
	for _, t := range some {
		n, err := unix.PidfdOpen(int(t.live.thread.Tgid), 0)
		if err != nil {
			return fmt.Errorf("%v: open a pidfd: %w", t, err)
		}
		fds = append(fds, n)
	}
	return r.guard.Hand(fds)
}

// Lock holds back the packets of the connections of the checkpoint in store
// until it is restored or Unlock is called: for a host that is about to have
// their address. Images with checksums are compared with them.
func Lock(store image.Store, moves []options.RemapAddr) (int, error) {
	store, err := whole(store)
	if err != nil {
		return 0, err
	}
	name, err := tableOf(store)
	if err != nil {
		return 0, err
	}
	flows, err := lockable(store, moves)
	if err != nil {
		return 0, err
	}
	return len(flows), netlock.Keep(name, flows)
}

// whole returns what compares a store with its checksums, if it has any.
func whole(store image.Store) (image.Store, error) {
	checked, err := image.Check(store)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return store, image.NotWhole(store, err)
	case err != nil || checked == nil:
		return store, err
	}
	return checked, nil
}

// Unlock lets through what a dump or Lock holds back. It is no error if
// nothing is held. Only the inventory has to be there for it: if how many
// connections there are can't be told, the error says that the rest is done.
func Unlock(store image.Store, moves []options.RemapAddr) (int, error) {
	checked, bad := whole(store)
	name, err := tableOf(checked)
	if err == nil {
		err = netlock.Unlock(name)
	}
	var in *image.Error
	switch {
	case errors.As(bad, &in) && in.File == image.Inventory.FileName(), err != nil && bad != nil:
		return 0, fmt.Errorf("%w; which packets are held back is told by the inventory only, so they may be so still: take another copy of the checkpoint, or have 'nft list tables' show the tables of that kind (inet CRIU-…) and delete the right one", bad)
	case err != nil:
		return 0, err
	}
	flows, err := lockable(checked, moves)
	if err = errors.Join(bad, err); err != nil {
		return 0, fmt.Errorf("packets are let through, but the checkpoint is damaged: %w", err)
	}
	return len(flows), nil
}

// tableOf returns the name under which packets of a checkpoint's connections
// are held back.
func tableOf(store image.Store) (string, error) {
	inv, err := image.ReadInventory(store)
	if err != nil {
		return "", err
	}
	id := inv.GetDumpCriuRunId()
	if id == "" {
		return "", fmt.Errorf("%v: inventory.img: it does not say under which name packets are held back (dump_criu_run_id)", store)
	}
	return netlock.KeptName(id), nil
}

// lockable returns the connections of a checkpoint. Nothing of the host is
// looked at: its addresses may still come.
func lockable(store image.Store, moves []options.RemapAddr) ([]netlock.Flow, error) {
	o := options.NewRestore()
	o.TCPEstablished = true // else there is nothing to lock
	o.RemapAddr = moves
	p := plan.New(Images(store), o)
	if err := planEach(p, &tree{}, kinds.New(), beginFiles(store).Each); err != nil {
		return nil, err
	}
	return flowsOf(p)
}
