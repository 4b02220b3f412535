package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/memfd"
	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/criu/vma"
	"glis.dev/glis/image/protowire"
)

// The status bits of mappings, criu's.
const (
	areaStack       = 1 << 1
	areaVsyscall    = 1 << 2
	areaVdso        = 1 << 3
	areaHeap        = 1 << 5
	areaFilePrivate = 1 << 6
	areaFileShared  = 1 << 7
	areaAnonShared  = 1 << 8
	areaAnonPrivate = 1 << 9
	areaSysV        = 1 << 10
	areaVvar        = 1 << 12
	areaMemfd       = 1 << 14
	areaGuard       = 1 << 16 // not a mapping but a part of one
)

const (
	protExec     = 0x4   // PROT_EXEC
	mapGrowsDown = 0x100 // MAP_GROWSDOWN
)

// kinds of memory in the order they are printed.
var memoryKinds = [...]string{"code", "file-private", "file-shared", "heap", "stack", "anonymous", "shared", "vdso", "other"}

const (
	memCode = iota
	memFilePrivate
	memFileShared
	memHeap
	memStack
	memAnonymous
	memShared
	memVdso
	memOther
)

func memoryKind(v *vma.VmaEntry) int {
	status := v.GetStatus()
	switch has := func(bits uint32) bool { return status&bits != 0 }; {
	case has(areaVdso | areaVvar | areaVsyscall):
		return memVdso
	case has(areaHeap):
		return memHeap
	case has(areaStack) || v.GetFlags()&mapGrowsDown != 0:
		return memStack
	case has(areaFilePrivate) && v.GetProt()&protExec != 0:
		return memCode
	case has(areaFilePrivate):
		return memFilePrivate
	case has(areaMemfd) && has(areaFileShared):
		return memShared // anonymous shared memory is the same to the kernel
	case has(areaFileShared):
		return memFileShared
	case has(areaAnonShared | areaSysV):
		return memShared
	case has(areaAnonPrivate):
		return memAnonymous
	}
	return memOther
}

// span is a mapping's place and kind.
type span struct {
	start, end uint64
	kind       int
}

// readMemory adds up a task's memory by kind.
func (r *reader) readMemory(t *Task) error {
	var spans []span
	var sums [len(memoryKinds)]Memory
	err := each(r, image.MM, []uint32{t.PID}, func(e *mm.MmEntry) error {
		t.Exe = r.path(e.GetExeFileId())
		if madeByGlis(e) {
			r.rep.MadeBy = "glis"
		}
		var err error
		spans, err = r.spans(t, e.GetVmas(), &sums)
		return err
	})
	if err != nil {
		return err
	}
	if err := r.contents(t.PID, spans, &sums); err != nil {
		return err
	}
	for kind, sum := range sums {
		if sum.Mappings == 0 && sum.StoredBytes == 0 && sum.InParentBytes == 0 {
			continue
		}
		sum.Kind = memoryKinds[kind]
		t.Memory = append(t.Memory, sum)
		add(&t.MappedBytes, sum.MappedBytes)
		add(&t.StoredBytes, sum.StoredBytes)
		add(&t.InParentBytes, sum.InParentBytes)
	}
	return nil
}

// madeByGlis looks for a field that Glis puts into every address space and
// criu does not know.
func madeByGlis(e *mm.MmEntry) bool {
	_, made := ownNumber(e.Unknown())
	return made
}

// ownNumber returns the first field of Glis's own, a number.
func ownNumber(rest []byte) (v uint64, ok bool) {
	const glisField = 1500
	for len(rest) > 0 {
		field, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			return 0, false
		}
		if field == glisField {
			v, size := protowire.ConsumeVarint(rest[protowire.SizeTag(field):n])
			return v, size >= 0
		}
		rest = rest[n:]
	}
	return 0, false
}

// spans checks and counts mappings, which are sorted by address.
func (r *reader) spans(t *Task, vmas []*vma.VmaEntry, sums *[len(memoryKinds)]Memory) ([]span, error) {
	if err := r.spend(len(vmas)); err != nil {
		return nil, err
	}
	all := make([]span, 0, len(vmas))
	var last uint64
	for _, v := range vmas {
		if v.GetStatus()&areaGuard != 0 {
			continue
		}
		s := span{v.GetStart(), v.GetEnd(), memoryKind(v)}
		if s.start < last || s.end <= s.start {
			return nil, fmt.Errorf("mapping %#x-%#x is empty or not behind the one before, which ends at %#x", s.start, s.end, last)
		}
		last = s.end
		all = append(all, s)
		sums[s.kind].Mappings++
		add(&sums[s.kind].MappedBytes, s.end-s.start)
		if s.kind == memShared || v.GetStatus()&areaMemfd != 0 {
			r.mapped(t, v)
		}
	}
	return all, nil
}

// mapped notes that a task has shared memory mapped. The id of a mapped memfd is
// that of its file, whose contents have an id of their own.
func (r *reader) mapped(t *Task, v *vma.VmaEntry) {
	id, kind := v.GetShmid(), "anonymous"
	switch status := v.GetStatus(); {
	case status&areaMemfd != 0:
		f := r.files[fileKey{typeMemfd, uint32(id)}]
		if f == nil || f.Shared == nil || id > 1<<32-1 {
			return
		}
		id, kind = *f.Shared, "memfd"
	case status&areaSysV != 0:
		kind = "sysv"
	}
	s := r.shared[id]
	if s == nil {
		s = &Shared{ID: id, Kind: kind}
		r.shared[id] = s
	}
	if n := len(s.Tasks); n == 0 || s.Tasks[n-1] != t.PID {
		s.Tasks = append(s.Tasks, t.PID)
	}
}

// contents adds up the stored pages of a task by the mapping they are in.
func (r *reader) contents(pid uint32, spans []span, sums *[len(memoryKinds)]Memory) error {
	r.used[image.Pagemap.FileName(pid)] = true
	p, err := image.OpenPagemap(r.store, image.Pagemap, uint64(pid))
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // only looked at
	if err := r.spend(len(p.Ranges)); err != nil {
		return &image.Error{File: p.Name, Offset: -1, Err: err}
	}
	for _, rg := range p.Ranges {
		at := rg.Vaddr
		for at < rg.End() {
			for len(spans) > 0 && spans[0].end <= at {
				spans = spans[1:]
			}
			end, kind := rg.End(), memOther
			if len(spans) > 0 && spans[0].start > at {
				end = min(end, spans[0].start)
			} else if len(spans) > 0 {
				end, kind = min(end, spans[0].end), spans[0].kind
			}
			sums[kind].count(rg.Flags, end-at)
			at = end
		}
	}
	return nil
}

func (m *Memory) count(flags uint32, n uint64) {
	switch {
	case flags&image.PagePresent != 0:
		add(&m.StoredBytes, n)
	case flags&image.PageParent != 0:
		add(&m.InParentBytes, n)
	}
}

// readMemfds reads the memory that is open as a file.
func (r *reader) readMemfds() error {
	byInode := map[uint64]*memfd.MemfdInodeEntry{}
	err := optional(r, image.Memfd, nil, func(e *memfd.MemfdInodeEntry) error {
		byInode[e.GetInodeId()] = e
		id := uint64(e.GetShmid())
		r.shared[id] = &Shared{ID: id, Kind: "memfd", Name: e.GetName(), Size: e.Size}
		return checkName(e.GetName())
	})
	if err != nil {
		return err
	}
	for _, f := range r.rep.Files {
		if f.Kind != kindWords[typeMemfd] {
			continue
		}
		e := byInode[uint64(f.memfdInode)]
		if e == nil {
			return &image.Error{File: image.Files.FileName(), Offset: -1, Err: fmt.Errorf("memfd %d: its inode %d is not in %s", f.ID, f.memfdInode, image.Memfd.FileName())}
		}
		id := uint64(e.GetShmid())
		f.name(e.GetName())
		f.Size, f.Shared, f.Seals = e.Size, &id, sealWords(e.GetSeals())
	}
	return nil
}

// readShared reads how much of shared memory is stored.
func (r *reader) readShared() error {
	for _, s := range r.shared {
		r.rep.Shared = append(r.rep.Shared, s)
	}
	slices.SortFunc(r.rep.Shared, func(a, b *Shared) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	for _, s := range r.rep.Shared {
		if err := r.stored(s); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) stored(s *Shared) error {
	r.used[image.PagemapShmem.FileName64(s.ID)] = true
	p, err := image.OpenPagemap(r.store, image.PagemapShmem, s.ID)
	if errors.Is(err, fs.ErrNotExist) {
		if _, isImage := errors.AsType[*image.Error](err); !isImage {
			return nil // memory in which nothing was ever written
		}
	}
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // only looked at
	if err := r.spend(len(p.Ranges) + 1); err != nil {
		return &image.Error{File: p.Name, Offset: -1, Err: err}
	}
	var sum Memory
	for _, rg := range p.Ranges {
		sum.count(rg.Flags, rg.End()-rg.Vaddr)
	}
	s.StoredBytes, s.InParentBytes = sum.StoredBytes, sum.InParentBytes
	return nil
}
