package task

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/taskmem"
)

// Unseen is what a thread can be asked for and no image has a word for: a
// thread that has any of it is refused.
type Unseen struct {
	ports    bool // processes can have I/O ports here
	landlock bool // threads can be in Landlock sandboxes
}

// Name implements kind.Facet.
func (*Unseen) Name() string { return "states without a place in images" }

// Learn implements kind.Learner: to go back to no privilege changes nothing for
// who has none.
func (u *Unseen) Learn() {
	if arch.SysIopl != 0 {
		_, _, e := unix.RawSyscall(arch.SysIopl, 0, 0, 0)
		u.ports = e != unix.ENOSYS
	}
	u.landlock = taskmem.HasLandlock()
}

// mounts queues a question for a Landlock sandbox of who may mount: nobody in one that
// restricts files may (security_sb_mount). There is nothing to bind, so that nothing is
// mounted. A thread without CAP_SYS_ADMIN must have said that it gets no new privileges,
// unless it gave that up since.
func (u *Unseen) mounts(q *kind.Question) func() {
	st := q.Thread.Status
	if !u.landlock || st.NoNewPrivs || st.CapEff&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return func() {}
	}
	c := q.Batch.Try("mount", unix.SYS_MOUNT, 0, uint64(q.Batch.String("/")), 0, unix.MS_BIND, 0)
	return func() {
		_, err := c.Result()
		q.Thread.Confined = errors.Is(err, unix.EPERM)
	}
}

// allPorts queues a question for all I/O ports, iopl(2), that no call answers:
// who has them may ask for them again, and who may not ask for more has none
// then. Capabilities that are not in effect for a moment come back whatever
// becomes of the engine: a batch is run to its end.
func allPorts(q *kind.Question) remote.Call {
	const rawio = 1 << unix.CAP_SYS_RAWIO
	st := q.Thread.Status
	if st.CapEff&rawio == 0 {
		return q.Batch.Try("iopl", arch.SysIopl, 3)
	}
	capset(q.Batch, st.CapEff&^rawio, st.CapPrm, st.CapInh)
	c := q.Batch.Try("iopl", arch.SysIopl, 3)
	capset(q.Batch, st.CapEff, st.CapPrm, st.CapInh)
	return c
}

// Dump implements kind.Facet. Who is not allowed to ask has not been allowed to
// set it either, mostly, and kernels without it say EINVAL.
func (u *Unseen) Dump(q *kind.Question) (kind.Answer, error) {
	flusher := q.Batch.Try("prctl PR_GET_IO_FLUSHER", unix.SYS_PRCTL, unix.PR_GET_IO_FLUSHER)
	at, _ := q.Batch.Alloc(8)
	cookie := q.Batch.Try("prctl PR_SCHED_CORE", unix.SYS_PRCTL, unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_GET, 0, linux.PIDTYPE_PID, uint64(at))
	var ports remote.Call
	// What is true of the first of threads that are alike is true of all.
	others := len(q.Task.Threads) > 1 && !q.Task.Alike
	askPorts := u.ports && (q.Thread == q.Task.Leader() || others)
	if askPorts {
		ports = allPorts(q)
	}
	mayMount := u.mounts(q)
	var noRing func() error
	if others && q.Thread != q.Task.Leader() {
		noRing = noThreadRing(q)
	}
	return func(*core.CoreEntry) error {
		mayMount()
		if noRing != nil {
			if err := noRing(); err != nil {
				return err
			}
		}
		if askPorts {
			if _, err := ports.Result(); err == nil {
				return kind.Unsupported(where(q), "it uses all I/O ports by itself (iopl(2)), which cannot be saved; let it give them up (iopl with level 0), or end it")
			}
		}
		if v, err := flusher.Result(); err == nil && v == 1 {
			return kind.Unsupported(where(q), "it writes out memory for others (PR_SET_IO_FLUSHER), which cannot be saved; run it without")
		}
		if _, err := cookie.Result(); err != nil {
			return nil
		}
		b, err := q.Batch.Output(at, 8)
		if err == nil && binary.NativeEndian.Uint64(b) != 0 {
			err = kind.Unsupported(where(q), "it shares a core with chosen others only (a cookie of core scheduling), which cannot be saved; start it without")
		}
		return err
	}, nil
}

// Restore implements kind.Facet.
func (*Unseen) Restore(*kind.Redo) error { return nil }
