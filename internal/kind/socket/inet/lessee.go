package inet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// Flow labels that are for one process or user are leased by that, while the tree is made,
// on a new socket, before anything else is done with it.

// lessee returns who has to lease a label, and whether that is somebody else than the engine.
func lessee(l *extra.FlowLabel) (who plan.Identity, others bool) {
	who = plan.Identity{UID: uint32(unix.Geteuid()), GID: uint32(unix.Getegid())}
	switch l.GetShare() {
	case shareProcess:
		who.PID = l.GetOwner()
		return who, true
	case shareUser:
		others = who.UID != l.GetOwner()
		who.UID = l.GetOwner()
	}
	return who, others
}

// ofOthers tells whether somebody else than the engine has to lease a label.
func (u *unseen) ofOthers() bool {
	return slices.ContainsFunc(u.entry.GetLabels(), func(l *extra.FlowLabel) bool { _, others := lessee(l); return others })
}

// standIns returns the processes that alone may lease a label: one that has ended is stood
// in for.
func (u *unseen) standIns() (pids []uint32) {
	for _, l := range u.entry.GetLabels() {
		if l.GetShare() == shareProcess {
			pids = append(pids, l.GetOwner())
		}
	}
	return pids
}

// StandsIn implements plan.StandIn.
func (n *node) StandsIn() []uint32 { return n.unseen.standIns() }

// StandsIn implements plan.StandIn.
func (n *bareNode) StandsIn() []uint32 { return n.unseen.standIns() }

// socket returns a new socket, or the one that others have leased labels for.
func (u *unseen) socket() (*fd.FD, error) {
	if own := u.ready; own != nil {
		u.ready, u.leased = nil, true
		return own, nil
	}
	if u.leased {
		return nil, errors.New("flow labels are for others, who lease them once")
	}
	n, err := u.like()
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	return fd.New(n), nil
}

// lease makes a socket and has others lease labels for it.
func (u *unseen) lease(ctx context.Context, env *plan.Env) error {
	if u.ready != nil || u.leased {
		return nil
	}
	own, err := u.socket()
	if err != nil {
		return err
	}
	u.ready = own
	raise, err := raised()
	if err != nil {
		return err
	}
	for _, l := range slices.Backward(u.entry.GetLabels()) {
		who, others := lessee(l)
		if !others {
			continue
		}
		request := leaseOf(l)
		_, err := env.As(ctx, who, []int{own.Int()}, func(m plan.Making) {
			raise(m)
			m.Add("setsockopt", unix.SYS_SETSOCKOPT, m.Lent(0), unix.IPPROTO_IPV6, ipv6FlowlabelMgr, m.Put(request), uint64(len(request)))
		})
		if err != nil {
			return fmt.Errorf("lease flow label %#x (IPV6_FLOWLABEL_MGR; see /proc/net/ip6_flowlabel for who has it): %w", l.GetLabel(), err)
		}
	}
	return nil
}

// raised returns what queues that a process has the engine's capabilities in effect: who
// becomes a user loses them, and headers and long terms need some.
func raised() (func(plan.Making), error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return nil, fmt.Errorf("capget: %w", err)
	}
	ne := binary.NativeEndian
	header, sets := ne.AppendUint32(ne.AppendUint32(nil, head.Version), 0), []byte{}
	for _, d := range data {
		for _, v := range []uint32{d.Permitted, d.Permitted, d.Inheritable} {
			sets = ne.AppendUint32(sets, v)
		}
	}
	return func(m plan.Making) { m.Add("capset", unix.SYS_CAPSET, m.Put(header), m.Put(sets)) }, nil
}

// dropLeased closes a socket that nobody has taken.
func (u *unseen) dropLeased() {
	if u.ready != nil {
		u.ready.Close()
		u.ready = nil
	}
}

// tenant and bareTenant are sockets with labels that others lease.
type tenant struct{ *node }

// Prepare implements plan.Prepared.
func (t tenant) Prepare(ctx context.Context, env *plan.Env, _ []plan.Node) error {
	return t.unseen.lease(ctx, env)
}

// Independent implements plan.Independent.
func (t tenant) Independent() bool { return false }

// Drop implements plan.Dropper.
func (t tenant) Drop() {
	t.unseen.dropLeased()
	t.node.Drop()
}

type bareTenant struct{ *bareNode }

// Prepare implements plan.Prepared.
func (t bareTenant) Prepare(ctx context.Context, env *plan.Env, _ []plan.Node) error {
	return t.unseen.lease(ctx, env)
}

// Drop implements plan.Dropper.
func (t bareTenant) Drop() { t.unseen.dropLeased() }
