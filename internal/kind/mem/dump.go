package mem

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/criu/vma"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// Told is what only the task itself can tell of its memory.
type Told struct {
	top      uint64 // of the heap
	dumpable int32
	thp      uint64 // as PR_GET_THP_DISABLE says it
}

// Ask queues the questions for it. The function that it returns reads the answers
// once they are there.
func Ask(q *kind.Question) func() (Told, error) {
	brk := q.Batch.Call("brk", unix.SYS_BRK, 0)
	dumpable := q.Batch.Call("prctl(PR_GET_DUMPABLE)", unix.SYS_PRCTL, unix.PR_GET_DUMPABLE)
	thp := q.Batch.Call("prctl(PR_GET_THP_DISABLE)", unix.SYS_PRCTL, linux.PR_GET_THP_DISABLE)
	return func() (Told, error) {
		top, err := brk.Result()
		if err != nil {
			return Told{}, err
		}
		d, err := dumpable.Result()
		if err != nil {
			return Told{}, err
		}
		t, err := thp.Result()
		return Told{uint64(top), int32(d), uint64(t)}, err
	}
}

// Put puts the answers into the entry.
func (t Told) Put(e *mm.MmEntry) {
	e.MmBrk, e.Dumpable, e.ThpDisabled = &t.top, &t.dumpable, proto.Bool(t.thp != 0)
	// Since Linux 6.18 the answer has the flags in its upper bits.
	if t.thp > 1 {
		putVarint(e, mmTHP, t.thp&^1)
	}
}

// Dump describes a frozen task's address space. It refuses, by name, mappings
// that can't be carried over. If ctx ends it stops.
func Dump(ctx context.Context, env *kind.DumpEnv, t *scan.Task) (*Space, error) {
	exe, err := env.Files.Linked(t, "exe", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	s := &Space{PID: uint32(t.VPID), areas: make([]area, 0, len(t.VMAs))}
	s.task = t
	if s.auxv, err = t.Dir.Auxv(); err != nil {
		return nil, err
	}
	s.Entry = s.describe(exe.ID)
	for i := range t.VMAs {
		if err := context.Cause(ctx); err != nil {
			return nil, fmt.Errorf("dump stopped: %w", err)
		}
		if err := s.dumpVMA(env, &t.VMAs[i]); err != nil {
			return nil, err
		}
	}
	if err := s.vdsoApart(); err != nil {
		return nil, err
	}
	s.findStacks()
	if err := s.find(); err != nil {
		return nil, err
	}
	return s, nil
}

// describe returns the entry, but for its mappings.
func (s *Space) describe(exe uint32) *mm.MmEntry {
	st := &s.task.Stat
	e := &mm.MmEntry{
		MmStartCode: &st.StartCode, MmEndCode: &st.EndCode, MmStartData: &st.StartData, MmEndData: &st.EndData,
		MmStartStack: &st.StartStack, MmStartBrk: &st.StartBrk, MmBrk: proto.Uint64(0),
		MmArgStart: &st.ArgStart, MmArgEnd: &st.ArgEnd, MmEnvStart: &st.EnvStart, MmEnvEnd: &st.EnvEnd,
		ExeFileId: proto.Uint32(exe),
	}
	putAuxv(e, s.auxv)
	putVarint(e, mmExtra, mmExtraCow)
	return e
}

// criuAuxv is how many words of the auxiliary vector criu takes; the kernel
// adds the end by itself.
const criuAuxv = 44

func putAuxv(e *mm.MmEntry, auxv []byte) {
	for len(auxv) >= 8 && len(e.MmSavedAuxv) < criuAuxv {
		e.MmSavedAuxv = append(e.MmSavedAuxv, binary.LittleEndian.Uint64(auxv))
		auxv = auxv[8:]
	}
	const null = 16 // bytes of AT_NULL
	if len(auxv) > null {
		putBytes(e, mmAuxv, auxv)
	}
}

func (s *Space) dumpVMA(env *kind.DumpEnv, v *proc.VMA) error {
	a := area{Span: pages.Span{Start: v.Start, End: v.End}, offset: v.Offset, prot: uint32(v.Prot), guarded: v.Flags.Has(proc.VmGuard)}
	a.flags = unix.MAP_PRIVATE
	if v.Shared {
		a.flags = unix.MAP_SHARED
	}
	if err := a.setFlags(v); err != nil {
		return kind.Unsupported(fmt.Sprintf("%v, memory %v", s.task, v), "%v", err)
	}
	if err := s.setHuge(v, &a); err != nil {
		return err
	}
	segment, err := isSegment(v)
	if err != nil {
		return fmt.Errorf("memory %v: %w", v, err)
	}
	switch {
	case v.Name == "[vsyscall]":
		a.status, a.flags = statusVsyscall|statusAnonPrivate, a.flags|unix.MAP_ANONYMOUS
	case v.Name == "[vdso]":
		a.status, a.flags = statusRegular|statusVdso|statusAnonPrivate, a.flags|unix.MAP_ANONYMOUS
	case v.Name == "[vvar]" || v.Name == "[vvar_vclock]":
		a.status, a.flags = statusRegular|statusVvar|statusAnonPrivate, a.flags|unix.MAP_ANONYMOUS
		// criu has vvar and vvar_vclock, its second part since Linux 6.13, as one.
		if n := len(s.areas); n > 0 && s.areas[n-1].is(statusVvar) && s.areas[n-1].End == a.Start {
			s.areas[n-1].End = a.End
			return nil
		}
	case segment:
		a.attach(v)
	case isRing(v):
		s.ring(&a)
	case isSocketMap(v):
		if err := s.socketMap(env, v, &a); err != nil {
			return err
		}
	case isAnonHuge(v):
		if err := s.anonymousHuge(v, &a); err != nil {
			return err
		}
	case v.Inode != 0 || v.DevMajor != 0 || v.DevMinor != 0:
		if err := s.dumpFileMap(env, v, &a); err != nil {
			return err
		}
	default:
		a.anonymous(v)
	}
	s.areas = append(s.areas, a)
	return nil
}

// anonymous is private memory that no file is behind. (Shared memory always
// has one, which nobody else can open.)
func (a *area) anonymous(v *proc.VMA) {
	a.status, a.flags = statusRegular|statusAnonPrivate, a.flags|unix.MAP_ANONYMOUS
	if v.Name == "[heap]" {
		a.status |= statusHeap
	}
	if name, ok := strings.CutPrefix(v.Name, "[anon:"); ok {
		a.name = strings.TrimSuffix(name, "]")
	}
}

// dumpFileMap makes the mapped file known. Whether a shared mapping could
// become writable tells how the file was opened; for a private one it does not
// matter.
func (s *Space) dumpFileMap(env *kind.DumpEnv, v *proc.VMA, a *area) error {
	a.access = unix.O_RDONLY
	if v.Shared && v.Flags.Has(proc.VmMayWrite) {
		a.access = unix.O_RDWR
	}
	f, err := env.Files.Mapped(s.task, v, a.access)
	if err != nil {
		return fmt.Errorf("memory %v: %w", v, err)
	}
	a.file = plan.ID(f.ID)
	switch {
	case f.Stat.Mode&unix.S_IFMT == unix.S_IFREG:
	case f.Stat.Mode&unix.S_IFMT == unix.S_IFCHR && f.Stat.Rdev == devZero:
	default:
		return kind.Unsupported(fmt.Sprintf("%v, memory %v", s.task, v), "%s", ringOf(v.Name))
	}
	a.status = statusRegular | statusFilePrivate
	if v.Shared {
		a.status = statusRegular | statusFileShared
	}
	shmem, err := isShmem(f)
	if err != nil {
		return fmt.Errorf("memory %v: %w", v, err)
	}
	if shmem {
		a.status |= statusMemfd
	}
	if name, ok := strings.CutPrefix(v.Name, "[anon_shmem:"); ok {
		a.name = strings.TrimSuffix(name, "]")
	}
	return nil
}

// ringOf says what memory of the kernel's own a mapping is, and who brings it in.
func ringOf(name string) string {
	switch {
	case strings.Contains(name, "[io_uring]"):
		return "it is a ring of io_uring, which Glis can't restore yet; start the program without (mariadb: innodb_use_native_aio=0, node and libuv: UV_USE_IO_URING=0, postgres: io_method=worker, qemu: aio=threads)"
	case strings.Contains(name, "[perf_event]"):
		return "it is the buffer of a perf event; end the measurement"
	}
	return "it is the memory of a device or ring, which only its driver could bring back"
}

var devZero = unix.Mkdev(1, 5)

// isShmem tells whether a file is on the kernel's own tmpfs, or a hugetlbfs of
// its own: a memfd, or what is behind shared anonymous memory.
func isShmem(f *scan.File) (bool, error) {
	if f.Stat.Mode&unix.S_IFMT != unix.S_IFREG || f.Stat.Nlink != 0 || !strings.HasSuffix(f.Link, " (deleted)") {
		return false, nil
	}
	for _, p := range [...]string{"/memfd:", "/dev/zero", "/SYSV", hugepages.AnonName} {
		if strings.HasPrefix(f.Link, p) {
			dev, err := shmemDevice()
			return f.Stat.Dev == dev || hugepages.OfDevice(f.Stat.Dev) != 0, err
		}
	}
	return false, nil
}

// shmemDevice returns the device number of the kernel's own tmpfs.
func shmemDevice() (uint64, error) {
	n, err := unix.MemfdCreate("glis", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("memfd_create: %w", err)
	}
	defer unix.Close(n) //nolint:errcheck // nothing was written
	var st unix.Stat_t
	err = unix.Fstat(n, &st)
	return st.Dev, err
}

// entry is a VmaEntry with the values that it points to.
type entry struct {
	vma.VmaEntry
	start, end, pgoff, shmid     uint64
	prot, flags, status, fdflags uint32
	fd                           int64
	madv                         uint64
}

// Listed tells whether List was called.
func (s *Space) Listed() bool { return s.Entry != nil && s.Entry.Vmas != nil }

// List fills in the entry's list of mappings, and, if it is folded, what else there is to
// it. Tasks have thousands of them, so all are allocated at once.
func (s *Space) List() {
	defer s.unfold()()
	if s.Entry == nil {
		s.Entry = s.describe(s.folded.exe)
	}
	all := make([]entry, len(s.areas)+len(s.guard))
	s.Entry.Vmas = make([]*vma.VmaEntry, len(all))
	for i := range s.areas {
		s.Entry.Vmas[i] = all[i].fill(&s.areas[i])
	}
	for i, g := range s.guard {
		a := area{Span: g, status: statusGuard}
		s.Entry.Vmas[len(s.areas)+i] = all[len(s.areas)+i].fill(&a)
	}
}

func (e *entry) fill(a *area) *vma.VmaEntry {
	e.start, e.end, e.pgoff, e.shmid = a.Start, a.End, a.offset, uint64(a.file)
	e.prot, e.flags, e.status, e.fdflags = a.prot, a.flags, a.status, a.access
	e.fd, e.madv = -1, a.madvise
	e.Start, e.End, e.Pgoff, e.Shmid = &e.start, &e.end, &e.pgoff, &e.shmid
	e.Prot, e.Flags, e.Status, e.Fd = &e.prot, &e.flags, &e.status, &e.fd
	if a.madvise != 0 {
		e.Madv = &e.madv
	}
	if a.is(statusSysVIPC) {
		e.shmid = uint64(a.segment)
	}
	if a.status&(statusFile|statusSysVIPC) != 0 {
		e.Fdflags = &e.fdflags
	}
	if a.extra != 0 {
		putVarint(&e.VmaEntry, vmaExtra, a.extra)
	}
	if a.name != "" {
		putBytes(&e.VmaEntry, vmaName, []byte(a.name))
	}
	return &e.VmaEntry
}

// findStacks notes the pages that stack pointers point into.
func (s *Space) findStacks() {
	for _, th := range s.task.Threads {
		s.stacks = append(s.stacks, arch.SP(&th.Regs)&^(page-1))
	}
	slices.Sort(s.stacks)
	s.stacks = slices.Compact(s.stacks)
}
