package task

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/seccomp"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// Seccomp is the system-call filters of a thread, see seccomp(2). They are
// suspended while a thread is traced, so that what comes behind them in a
// restore is not filtered.
type Seccomp struct {
	image func(image.Store) ([]*seccomp.SeccompFilter, error)
}

func newSeccomp() Seccomp {
	var once sync.Once
	var all []*seccomp.SeccompFilter
	var err error
	return Seccomp{func(s image.Store) ([]*seccomp.SeccompFilter, error) {
		once.Do(func() { all, err = readFilters(s) })
		return all, err
	}}
}

// Filters are the different filters of a tree, as seccomp.img has them: a thread
// has the number of its oldest, and each that of the next one to install, which
// CRIU calls prev.
type Filters struct{ entry seccomp.SeccompEntry }

// Entry is what seccomp.img holds.
func (f *Filters) Entry() *seccomp.SeccompEntry { return &f.entry }

// Add makes the filters of a thread known, the oldest first, and returns the
// number of that one.
func (f *Filters) Add(th *scan.Thread, all []tracee.Filter) (uint32, error) {
	next := -1
	for _, x := range slices.Backward(all) {
		if notifies(x.Code) {
			return 0, kind.Unsupported(fmt.Sprintf("%v, thread %d", th.Task, th.TID), "its seccomp filter asks another process (SECCOMP_RET_USER_NOTIF), which cannot be saved; run it without")
		}
		next = f.number(x, next)
	}
	if next < 0 {
		return 0, fmt.Errorf("%v: thread %d: it is under seccomp and has no filter", th.Task, th.TID)
	}
	return uint32(next), nil
}

// Join has the filters that all of several threads of a process have be the
// leader's alone, which are to be installed for all of them, as in criu's images:
// criu, too, would make them filters of each thread for itself otherwise, to which
// none can be added for all.
func (f *Filters) Join(t *scan.Task) {
	if t.Zombie || t.Ended != nil || len(t.Threads) < 2 {
		return
	}
	own := t.Leader()
	for _, th := range t.Threads {
		if th.Status.Seccomp != linux.SECCOMP_MODE_FILTER || th.Filter != own.Filter {
			return
		}
	}
	for _, th := range t.Threads[1:] {
		th.Joined = true
	}
	own.Filter = uint32(f.forAll(int(own.Filter)))
}

// forAll returns the number of a chain like the one that begins with this number,
// which is installed for all threads.
func (f *Filters) forAll(n int) int {
	if n < 0 {
		return -1
	}
	e := f.entry.SeccompFilters[n]
	return f.put(e.GetFilter(), e.GetFlags()|linux.SECCOMP_FILTER_FLAG_TSYNC, f.forAll(following(e)))
}

// notifies tells whether a filter hands calls to a listener.
func notifies(code []byte) bool {
	for ; len(code) >= linux.SizeofSockFilter; code = code[linux.SizeofSockFilter:] {
		if binary.NativeEndian.Uint16(code) == linux.BPF_RET_K && binary.NativeEndian.Uint32(code[4:])&linux.SECCOMP_RET_ACTION == linux.SECCOMP_RET_USER_NOTIF {
			return true
		}
	}
	return false
}

// number returns the number of a filter behind which comes the one numbered
// next; -1 is none.
func (f *Filters) number(x tracee.Filter, next int) int {
	flags := uint32(0)
	if x.Log {
		flags = linux.SECCOMP_FILTER_FLAG_LOG
	}
	return f.put(x.Code, flags, next)
}

func (f *Filters) put(code []byte, flags uint32, next int) int {
	all := f.entry.SeccompFilters
	i := slices.IndexFunc(all, func(e *seccomp.SeccompFilter) bool {
		return following(e) == next && e.GetFlags() == flags && bytes.Equal(e.GetFilter(), code)
	})
	if i >= 0 {
		return i
	}
	e := &seccomp.SeccompFilter{Filter: code, Flags: &flags}
	if next >= 0 {
		e.Prev = proto.Uint32(uint32(next))
	}
	f.entry.SeccompFilters = append(all, e)
	return len(all)
}

func following(e *seccomp.SeccompFilter) int {
	if e.Prev == nil {
		return -1
	}
	return int(*e.Prev)
}

// Name implements kind.Facet.
func (Seccomp) Name() string { return "seccomp" }

// Dump implements kind.Facet.
func (Seccomp) Dump(q *kind.Question) (kind.Answer, error) {
	mode := core.SeccompMode(q.Thread.Status.Seccomp)
	if q.Thread.Joined {
		mode = core.SeccompMode_disabled
	}
	switch mode {
	case core.SeccompMode_disabled:
		return nil, nil
	case core.SeccompMode_strict, core.SeccompMode_filter:
	default:
		return nil, kind.Unsupported(where(q), "it is in seccomp mode %d, which Glis does not know; use a newer one", mode)
	}
	return func(c *core.CoreEntry) error {
		c.ThreadCore.SeccompMode = mode.Enum()
		if mode == core.SeccompMode_filter {
			c.ThreadCore.SeccompFilter = proto.Uint32(q.Thread.Filter)
		}
		return nil
	}, nil
}

// readFilters reads and checks seccomp.img.
func readFilters(s image.Store) ([]*seccomp.SeccompFilter, error) {
	all, err := image.ReadAll[*seccomp.SeccompEntry](s, image.Seccomp)
	if errors.Is(err, fs.ErrNotExist) || len(all) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	filters := all[0].GetSeccompFilters()
	return filters, checkFilters(filters)
}

func checkFilters(all []*seccomp.SeccompFilter) error {
	for i, f := range all {
		n := len(f.GetFilter())
		switch {
		case n == 0 || n%linux.SizeofSockFilter != 0 || n > linux.BPF_MAXINSNS*linux.SizeofSockFilter:
			return fmt.Errorf("seccomp.img: filter %d has %d bytes: it can't be", i, n)
		case following(f) >= i:
			return fmt.Errorf("seccomp.img: filter %d leads to %d, and only ones before it can be", i, following(f))
		case f.GetFlags()&^uint32(linux.SECCOMP_FILTER_FLAG_LOG|linux.SECCOMP_FILTER_FLAG_TSYNC) != 0:
			return fmt.Errorf("seccomp.img: filter %d has flags %#x, which Glis does not know", i, f.GetFlags())
		}
	}
	return nil
}

// chain returns the filters that a thread with this number has, the oldest
// first.
func chain(all []*seccomp.SeccompFilter, first uint32) ([]*seccomp.SeccompFilter, error) {
	if uint64(first) >= uint64(len(all)) {
		return nil, fmt.Errorf("core image: seccomp filter %d, and seccomp.img has %d", first, len(all))
	}
	var out []*seccomp.SeccompFilter
	for i := int(first); i >= 0; i = following(all[i]) {
		out = append(out, all[i])
	}
	return out, nil
}

// Check implements kind.Checker.
func (s Seccomp) Check(env *plan.CheckEnv, c *core.CoreEntry) error {
	t := c.GetThreadCore()
	switch t.GetSeccompMode() {
	case core.SeccompMode_disabled:
		if mode := c.GetTc().GetOldSeccompMode(); t.SeccompMode == nil && mode != core.SeccompMode_disabled {
			return kind.Unsupported("core image, seccomp", "its mode %v is told as CRIU did before version 2", mode)
		}
		return nil
	case core.SeccompMode_strict, core.SeccompMode_filter:
	default:
		return fmt.Errorf("core image: seccomp mode %d: there is no such one", t.GetSeccompMode())
	}
	if !env.Capable(unix.CAP_SYS_ADMIN) {
		return errors.New("a thread is under seccomp, and to keep that from filtering the restore itself needs CAP_SYS_ADMIN")
	}
	if t.GetSeccompMode() == core.SeccompMode_strict {
		return nil
	}
	all, err := s.image(env.Store)
	if err != nil {
		return err
	}
	filters, err := chain(all, t.GetSeccompFilter())
	for _, f := range filters {
		env.Calls(1, len(f.GetFilter())+32)
	}
	return err
}

// Restore implements kind.Facet. Filters that all threads of a process have
// are installed by its leader for all at once, when all others are there: only
// then are they the same to the kernel, and can be added to for all. In criu's
// images such filters are the leader's, with a flag, and others have none.
func (s Seccomp) Restore(r *kind.Redo) error {
	t := r.Core.GetThreadCore()
	switch t.GetSeccompMode() {
	case core.SeccompMode_disabled:
		return nil
	case core.SeccompMode_strict:
		r.Batch.Call("seccomp strict", unix.SYS_SECCOMP, linux.SECCOMP_SET_MODE_STRICT, 0, 0)
		return nil
	}
	flags := uint64(linux.SECCOMP_FILTER_FLAG_SPEC_ALLOW) // speculation has facets of its own
	if r.SameFilters() {
		if r.TID != r.PID {
			return nil
		}
		flags |= linux.SECCOMP_FILTER_FLAG_TSYNC
	}
	all, err := s.image(r.Env.Store)
	if err != nil {
		return err
	}
	filters, err := chain(all, t.GetSeccompFilter())
	if err != nil {
		return err
	}
	for _, f := range filters {
		// struct sock_fprog
		prog := r.Batch.U64(uint64(len(f.GetFilter())/linux.SizeofSockFilter), uint64(r.Batch.Bytes(f.GetFilter())))
		own := flags | uint64(f.GetFlags())
		if own&linux.SECCOMP_FILTER_FLAG_TSYNC != 0 {
			own |= linux.SECCOMP_FILTER_FLAG_TSYNC_ESRCH // else the number of a thread would be its error
		}
		r.Batch.Call("seccomp filter", unix.SYS_SECCOMP, linux.SECCOMP_SET_MODE_FILTER, own, uint64(prog))
	}
	return nil
}
