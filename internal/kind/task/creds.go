package task

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/creds"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/remote"
)

// Creds are a thread's user and group ids, groups, capabilities, securebits
// and no_new_privs, see credentials(7) and capabilities(7). Threads of one
// process may have different ones.
type Creds struct{}

// Name implements kind.Facet.
func (Creds) Name() string { return "credentials" }

// credsAsked are the calls that ask a thread for its ids. It says them as its
// own user namespace has them, which is what images hold. Capabilities have no
// such view and take a call for each bit: they come from status.
type credsAsked struct {
	b                     *remote.Batch
	uids, gids, groups    remote.Addr
	nGroups               int
	fsuid, fsgid, secbits remote.Call
	listed                remote.Call
}

// Dump implements kind.Facet.
func (Creds) Dump(q *kind.Question) (kind.Answer, error) {
	a := askCreds(q.Batch, len(q.Thread.Status.Groups))
	s := q.Thread.Status
	return func(c *core.CoreEntry) error {
		e, err := a.entry()
		if err != nil {
			return err
		}
		e.CapInh, e.CapPrm, e.CapEff, e.CapBnd, e.CapAmb = halves(s.CapInh), halves(s.CapPrm), halves(s.CapEff), halves(s.CapBnd), halves(s.CapAmb)
		if s.NoNewPrivs {
			e.NoNewPrivs = new(uint32(1))
		}
		c.ThreadCore.Creds = e
		return nil
	}, nil
}

func askCreds(b *remote.Batch, groups int) *credsAsked {
	const query = ^uint64(0) // no id: setfsuid(2) then only answers
	a := &credsAsked{b: b, nGroups: groups}
	a.uids, _ = b.Alloc(12)
	a.gids, _ = b.Alloc(12)
	a.groups, _ = b.Alloc(4 * max(groups, 1))
	b.Call("getresuid", unix.SYS_GETRESUID, uint64(a.uids), uint64(a.uids)+4, uint64(a.uids)+8)
	b.Call("getresgid", unix.SYS_GETRESGID, uint64(a.gids), uint64(a.gids)+4, uint64(a.gids)+8)
	a.fsuid = b.Call("setfsuid", unix.SYS_SETFSUID, query)
	a.fsgid = b.Call("setfsgid", unix.SYS_SETFSGID, query)
	a.secbits = b.Call("prctl PR_GET_SECUREBITS", unix.SYS_PRCTL, unix.PR_GET_SECUREBITS)
	// A size of 0 would only ask how many there are.
	a.listed = b.Call("getgroups", unix.SYS_GETGROUPS, uint64(groups), uint64(a.groups))
	return a
}

func (a *credsAsked) entry() (*creds.CredsEntry, error) {
	e := &creds.CredsEntry{}
	uids, err := a.words(a.uids, 3)
	if err != nil {
		return nil, err
	}
	gids, err := a.words(a.gids, 3)
	if err != nil {
		return nil, err
	}
	n, err := a.listed.Result()
	if err != nil {
		return nil, err
	}
	if e.Groups, err = a.words(a.groups, min(int(n), a.nGroups)); err != nil {
		return nil, err
	}
	var v [3]uint32
	for i, c := range [...]remote.Call{a.fsuid, a.fsgid, a.secbits} {
		r, err := c.Result()
		if err != nil {
			return nil, err
		}
		v[i] = uint32(r)
	}
	e.Uid, e.Euid, e.Suid, e.Fsuid = &uids[0], &uids[1], &uids[2], &v[0]
	e.Gid, e.Egid, e.Sgid, e.Fsgid = &gids[0], &gids[1], &gids[2], &v[1]
	e.Secbits = &v[2]
	return e, nil
}

func (a *credsAsked) words(at remote.Addr, n int) ([]uint32, error) {
	b, err := a.b.Output(at, 4*n)
	if err != nil {
		return nil, err
	}
	out := make([]uint32, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return out, nil
}

// halves and whole convert a set of capabilities from and to its form in
// images.
func halves(set uint64) []uint32 { return []uint32{uint32(set), uint32(set >> 32)} }

func whole(h []uint32) (set uint64) {
	for i, v := range h[:min(len(h), 2)] {
		set |= uint64(v) << (32 * i)
	}
	return set
}

// Capabilities and securebits used below, from include/uapi/linux/
// capability.h and securebits.h.
const (
	capSetpcap       = 1 << unix.CAP_SETPCAP
	secNoSetuidFixup = 1 << 2
)

// Restore implements kind.Facet. The thread has all of the engine's
// privileges, and each step needs one that a later one takes away:
//
//   - ids change while securebits keep capabilities from changing with them;
//   - inheritable capabilities may only be ones of the bounding set: they are
//     set before that is cut, which needs CAP_SETPCAP;
//   - ambient ones must be permitted and inheritable, and not yet forbidden by
//     securebits, which in turn need CAP_SETPCAP;
//   - then the final sets, without what the steps before needed.
func (Creds) Restore(r *kind.Redo) error {
	e := r.Core.GetThreadCore().GetCreds()
	if e == nil {
		return kind.Unsupported("core image", "it has no credentials (made by a criu before 2.0)")
	}
	b := r.Batch
	restoreIDs(b, e)
	eff, prm, inh := known(whole(e.CapEff)), known(whole(e.CapPrm)), known(whole(e.CapInh))
	capset(b, eff|capSetpcap, prm|capSetpcap, inh)
	eachCap(^whole(e.CapBnd), func(i uint64) {
		b.Call("prctl PR_CAPBSET_DROP", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, i)
	})
	b.Call("prctl PR_CAP_AMBIENT", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
	eachCap(whole(e.CapAmb), func(i uint64) {
		b.Call("prctl PR_CAP_AMBIENT_RAISE", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, i)
	})
	b.Call("prctl PR_SET_SECUREBITS", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, uint64(e.GetSecbits()))
	if eff&prm&capSetpcap == 0 {
		capset(b, eff, prm, inh)
	}
	if e.GetNoNewPrivs() != 0 {
		b.Call("prctl PR_SET_NO_NEW_PRIVS", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	}
	return nil
}

// restoreIDs sets ids and groups. setfsuid(2) has no way to fail that could be
// seen, but with CAP_SETUID it doesn't for any id that setresuid(2) takes.
func restoreIDs(b *remote.Batch, e *creds.CredsEntry) {
	b.Call("prctl PR_SET_SECUREBITS", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, secNoSetuidFixup)
	groups := make([]byte, 0, 4*len(e.Groups))
	for _, g := range e.Groups {
		groups = binary.LittleEndian.AppendUint32(groups, g)
	}
	b.Call("setgroups", unix.SYS_SETGROUPS, uint64(len(e.Groups)), uint64(b.Bytes(groups)))
	b.Call("setresgid", unix.SYS_SETRESGID, uint64(e.GetGid()), uint64(e.GetEgid()), uint64(e.GetSgid()))
	b.Call("setresuid", unix.SYS_SETRESUID, uint64(e.GetUid()), uint64(e.GetEuid()), uint64(e.GetSuid()))
	if e.GetFsgid() != e.GetEgid() {
		b.Call("setfsgid", unix.SYS_SETFSGID, uint64(e.GetFsgid()))
	}
	if e.GetFsuid() != e.GetEuid() {
		b.Call("setfsuid", unix.SYS_SETFSUID, uint64(e.GetFsuid()))
	}
}

// capset queues capset(2) for the thread itself.
func capset(b *remote.Batch, eff, prm, inh uint64) {
	var d []byte
	for _, v := range [...]uint64{eff, prm, inh, eff >> 32, prm >> 32, inh >> 32} {
		d = binary.LittleEndian.AppendUint32(d, uint32(v))
	}
	head := b.U64(linux.LINUX_CAPABILITY_VERSN3) // and pid 0
	b.Call("capset", unix.SYS_CAPSET, uint64(head), uint64(b.Bytes(d)))
}

// eachCap calls f for every capability of a set that this kernel knows.
func eachCap(set uint64, f func(i uint64)) {
	for i := range uint64(capCount) {
		if set>>i&1 != 0 {
			f(i)
		}
	}
}

// capCount is CAP_LAST_CAP + 1, which did not change since Linux 5.9. One
// that a newer kernel adds is checked before (Check), and is worth nothing to
// a kernel that does not know it.
const capCount = unix.CAP_LAST_CAP + 1

// known leaves out capabilities that this Glis does not know.
func known(set uint64) uint64 { return set & (1<<capCount - 1) }
