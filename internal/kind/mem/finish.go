package mem

import (
	"sort"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/remote"
)

// Finish queues what completes the address space once it has its contents and
// the task's children are cloned: protection, advice about forks, locks, and
// what /proc tells of it. exe is the task's descriptor of its executable.
func (s *Space) Finish(b *remote.Batch, exe uint64) {
	defer s.unfold()()
	for i := range s.areas {
		a := &s.areas[i]
		if !a.mapped() {
			continue
		}
		if a.now != a.prot {
			b.Call("mprotect", unix.SYS_MPROTECT, a.Start, a.Len(), uint64(a.prot))
			a.now = a.prot
		}
		a.advise(b, true)
	}
	for _, g := range s.guard {
		b.Call("madvise(MADV_GUARD_INSTALL)", unix.SYS_MADVISE, g.Start, g.Len(), unix.MADV_GUARD_INSTALL)
	}
	s.finishLocks(b)
	s.finishMap(b, exe)
}

// finishLocks locks memory (mlock2(2), Linux 4.4) and seals it (mseal(2),
// Linux 6.10).
func (s *Space) finishLocks(b *remote.Batch) {
	for i := range s.areas {
		a := &s.areas[i]
		if a.flags&unix.MAP_LOCKED == 0 || !a.mapped() {
			continue
		}
		onFault, whole := a.extra&extraLockOnFault != 0, a.private() && a.file == 0 && a.prot != unix.PROT_NONE && !s.guarded(a.Span)
		if onFault || !whole {
			b.Call("mlock2", unix.SYS_MLOCK2, a.Start, a.Len(), unix.MLOCK_ONFAULT)
		}
		switch {
		case onFault:
		case whole:
			b.Call("mlock2", unix.SYS_MLOCK2, a.Start, a.Len(), 0)
		default: // it is locked by now; to fill what is behind the end of a file, or guarded, fails
			b.Try("mlock2", unix.SYS_MLOCK2, a.Start, a.Len(), 0)
		}
	}
	for i := range s.areas {
		if a := &s.areas[i]; a.extra&extraSealed != 0 {
			b.Call("mseal", unix.SYS_MSEAL, a.Start, a.Len(), 0)
		}
	}
}

// guarded tells whether there is a guard region in a part of memory.
func (s *Space) guarded(in pages.Span) bool {
	i := sort.Search(len(s.guard), func(i int) bool { return s.guard[i].End > in.Start })
	return i < len(s.guard) && s.guard[i].Start < in.End
}

// finishMap sets what the kernel keeps of a program's layout, see
// PR_SET_MM_MAP in PR_SET_MM(2const).
func (s *Space) finishMap(b *remote.Batch, exe uint64) {
	e := s.Entry
	m := linux.PrctlMMMap{
		StartCode: e.GetMmStartCode(), EndCode: e.GetMmEndCode(), StartData: e.GetMmStartData(), EndData: e.GetMmEndData(),
		StartBrk: e.GetMmStartBrk(), Brk: e.GetMmBrk(), StartStack: e.GetMmStartStack(),
		ArgStart: e.GetMmArgStart(), ArgEnd: e.GetMmArgEnd(), EnvStart: e.GetMmEnvStart(), EnvEnd: e.GetMmEnvEnd(),
		Auxv: uint64(b.Bytes(s.auxv)), AuxvSize: uint32(len(s.auxv)), ExeFD: uint32(exe),
	}
	at := b.Bytes(m.Bytes())
	b.Call("prctl(PR_SET_MM_MAP)", unix.SYS_PRCTL, linux.PR_SET_MM, linux.PR_SET_MM_MAP, uint64(at), linux.PrctlMMMapSize)
}
