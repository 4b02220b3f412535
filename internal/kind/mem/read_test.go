package mem

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	ipcshm "glis.dev/glis/image/criu/ipc-shm"
	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/criu/pagemap"
	"glis.dev/glis/image/criu/vma"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
)

// store holds images in memory.
type store map[string][]byte

type stored struct {
	*bytes.Reader
}

func (stored) Close() error   { return nil }
func (stored) File() *os.File { return nil }

func (s store) Create(string) (image.WriteFile, error) { return nil, fs.ErrPermission }
func (s store) Remove(string) error                    { return fs.ErrPermission }
func (s store) Sync() error                            { return nil }
func (s store) List() ([]string, error)                { return nil, nil }
func (s store) String() string                         { return "memory" }
func (s store) Open(name string) (image.ReadFile, error) {
	b, ok := s[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return stored{bytes.NewReader(b)}, nil
}

// imageOf is an image file with these entries.
func imageOf(row *image.Row, entries ...[]byte) []byte {
	var b []byte
	if row.Common != 0 {
		b = binary.LittleEndian.AppendUint32(b, row.Common)
	}
	b = binary.LittleEndian.AppendUint32(b, row.Magic)
	for _, e := range entries {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(e))), e...)
	}
	return b
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vmaOf is a private anonymous mapping of pages 16 to 20, changed by f.
func vmaOf(f func(*vma.VmaEntry)) *vma.VmaEntry {
	v := &vma.VmaEntry{
		Start: proto.Uint64(0x10000), End: proto.Uint64(0x14000), Pgoff: proto.Uint64(0), Shmid: proto.Uint64(0), Prot: proto.Uint32(3),
		Flags: proto.Uint32(unix.MAP_PRIVATE | unix.MAP_ANONYMOUS), Status: proto.Uint32(statusRegular | statusAnonPrivate), Fd: proto.Int64(-1),
	}
	if f != nil {
		f(v)
	}
	return v
}

func mmOf(vmas ...*vma.VmaEntry) *mm.MmEntry {
	z := proto.Uint64(0)
	return &mm.MmEntry{
		MmStartCode: z, MmEndCode: z, MmStartData: z, MmEndData: z, MmStartStack: z, MmStartBrk: z, MmBrk: z,
		MmArgStart: z, MmArgEnd: z, MmEnvStart: z, MmEnvEnd: z, ExeFileId: proto.Uint32(1), Vmas: vmas, MmSavedAuxv: []uint64{6, 4096},
	}
}

// pagemapOf is a pagemap with runs of pages that are there.
func pagemapOf(t testing.TB, runs ...[2]uint64) []byte {
	entries := [][]byte{marshal(t, &pagemap.PagemapHead{PagesId: proto.Uint32(1)})}
	for _, r := range runs {
		entries = append(entries, marshal(t, &pagemap.PagemapEntry{Vaddr: proto.Uint64(r[0]), CompatNrPages: proto.Uint32(0), NrPages: proto.Uint64(r[1]), Flags: proto.Uint32(image.PagePresent)}))
	}
	return imageOf(image.Pagemap, entries...)
}

func storeOf(t testing.TB, e *mm.MmEntry, runs ...[2]uint64) store {
	n := uint64(0)
	for _, r := range runs {
		n += r[1]
	}
	return store{"mm-1.img": imageOf(image.MM, marshal(t, e)), "pagemap-1.img": pagemapOf(t, runs...), "pages-1.img": make([]byte, n*page)}
}

// TestReadGood reads what is in order, and finds the pages of each mapping.
func TestReadGood(t *testing.T) {
	next := func(v *vma.VmaEntry) { v.Start, v.End = proto.Uint64(0x14000), proto.Uint64(0x18000) }
	s, err := Read(storeOf(t, mmOf(vmaOf(nil), vmaOf(next)), [2]uint64{0x11000, 5}, [2]uint64{0x17000, 1}), 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.areas) != 2 || len(s.pieces) != 3 {
		t.Fatalf("%d mappings with %d pieces, want 2 with 3", len(s.areas), len(s.pieces))
	}
	if a := s.areas[0]; a.first != 0 || a.last != 1 {
		t.Errorf("the first mapping has pieces %d to %d", a.first, a.last)
	}
	if a := s.areas[1]; a.first != 1 || a.last != 3 {
		t.Errorf("the second mapping has pieces %d to %d", a.first, a.last)
	}
}

// large is a store of which a file is as long as it says, and empty.
type large struct {
	store
	name string
	size int64
}

func (l large) Open(name string) (image.ReadFile, error) {
	if name == l.name {
		return emptyFile(l.size), nil
	}
	return l.store.Open(name)
}

type emptyFile int64

func (f emptyFile) Size() int64                           { return int64(f) }
func (f emptyFile) Close() error                          { return nil }
func (f emptyFile) File() *os.File                        { return nil }
func (f emptyFile) ReadAt(b []byte, _ int64) (int, error) { return len(b), nil }

// Memory in very many pieces takes little more than the list of them while it is read.
func TestReadManyPieces(t *testing.T) {
	const n = 300_000
	runs := make([][2]uint64, n)
	for i := range runs {
		runs[i] = [2]uint64{0x10000 + uint64(i)*3*page, 1}
	}
	runs[n/2][1] = 2 // which reaches into the other mapping
	const middle = 0x10000 + n/2*3*page + page
	first := func(v *vma.VmaEntry) { v.End = proto.Uint64(middle) }
	second := func(v *vma.VmaEntry) { v.Start, v.End = proto.Uint64(middle), proto.Uint64(0x10000+n*3*page) }
	s := large{storeOf(t, mmOf(vmaOf(first), vmaOf(second))), "pages-1.img", (n + 1) * page}
	s.store["pagemap-1.img"] = pagemapOf(t, runs...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	space, err := Read(s, 1)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	if len(space.pieces) != n+1 {
		t.Errorf("%d pieces, want %d", len(space.pieces), n+1)
	}
	checkSpace(t, space)
	if got, most := after.TotalAlloc-before.TotalAlloc, uint64(n*16*5/4); got > most {
		t.Errorf("it took %d bytes, at most %d are enough", got, most)
	}
}

// Pieces are cut where mappings end, wherever that is.
func TestAssignCuts(t *testing.T) {
	s := spaceOf([]area{anon(10, 20), anon(20, 22), anon(22, 40), anon(41, 50)}, [2]uint64{11, 12}, [2]uint64{15, 30}, [2]uint64{31, 40}, [2]uint64{41, 50})
	var got [][2]uint64
	for i, p := range s.pieces {
		got = append(got, [2]uint64{p.start() / page, p.end() / page})
		if want := int64(p.start() - 15*page); i >= 1 && i <= 3 && p.offset() != want {
			t.Errorf("piece %d is at %d, want %d", i, p.offset(), want)
		}
	}
	if want := [][2]uint64{{11, 12}, {15, 20}, {20, 22}, {22, 30}, {31, 40}, {41, 50}}; !slices.Equal(got, want) {
		t.Errorf("pieces %d, want %d", got, want)
	}
	checkSpace(t, s)
	for _, c := range []struct {
		stored [2]uint64
		stray  uint64
	}{{[2]uint64{38, 42}, 40}, {[2]uint64{40, 41}, 40}, {[2]uint64{9, 11}, 9}, {[2]uint64{45, 60}, 50}, {[2]uint64{5, 6}, 5}} {
		s.pieces = []piece{pieceOf(c.stored, 0, false)}
		if at, ok := s.assign(); ok || at != c.stray*page {
			t.Errorf("pages %d: a stray one at %d, %v; want %d", c.stored, at/page, ok, c.stray)
		}
	}
}

func ringVMA(v *vma.VmaEntry) {
	v.Flags, v.Status = proto.Uint32(unix.MAP_SHARED), proto.Uint32(statusAIORing)
}

func withRing(e *mm.MmEntry, at uint64, requests uint32) *mm.MmEntry {
	e.Aios = append(e.Aios, &mm.AioRingEntry{Id: proto.Uint64(at), NrReq: proto.Uint32(requests), RingLen: proto.Uint32(0x4000)})
	return e
}

// TestRingContent refuses what no ring can hold.
func TestRingContent(t *testing.T) {
	good := make([]byte, 0x4000)
	put := func(b []byte, at int, v uint32) []byte {
		b = bytes.Clone(b)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	good = put(put(good, linux.AIORingMagic, linux.AIO_RING_MAGIC), linux.AIORingNr, 511)
	for _, c := range []struct {
		name  string
		pages []byte
		want  string
	}{
		{"good", good, ""},
		{"cut", good[:0x3000], "not in the images"},
		{"magic", put(good, linux.AIORingMagic, 1), "no header"},
		{"size", put(good, linux.AIORingNr, 1<<31), "no header"},
		{"head", put(good, linux.AIORingHead, 511), "stands at events 511"},
		{"tail", put(good, linux.AIORingTail, 1<<31), "stands at events 0 and"},
	} {
		st := storeOf(t, withRing(mmOf(vmaOf(ringVMA)), 0x10000, ringRequests(0x4000)), [2]uint64{0x10000, uint64(len(c.pages)) / page})
		st["pages-1.img"] = c.pages
		s, err := Read(st, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.ringContent(&s.areas[0])
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want an error that says %q", c.name, err, c.want)
		}
	}
}

// TestCheckRings: a ring that this machine would make larger is told beforehand.
func TestCheckRings(t *testing.T) {
	cpus, err := possibleCPUs()
	if err != nil || cpus < 1 {
		t.Fatalf("%d CPUs, %v", cpus, err)
	}
	s := &Space{areas: []area{{Span: pages.Span{Start: 0x10000, End: 0x10000 + ringSize(1, cpus)}, status: statusAIORing}}}
	if err := CheckRings([]*Space{s}); err != nil {
		t.Error(err)
	}
	if got := ringSize(1, 4*cpus+64); got == s.areas[0].Len() {
		t.Errorf("%d bytes for many CPUs, too", got)
	}
	s.areas[0].End = s.areas[0].Start + mostRing
	if err := CheckRings([]*Space{s}); err == nil || !strings.Contains(err.Error(), "fs.aio-max-nr") {
		t.Error(err)
	}
}

// TestReadBad refuses what makes no sense or can't be restored.
func TestReadBad(t *testing.T) {
	change := func(f func(*vma.VmaEntry)) *mm.MmEntry { return mmOf(vmaOf(f)) }
	for _, c := range []struct {
		name string
		mm   *mm.MmEntry
		runs [][2]uint64
		want string
	}{
		{"no mappings", mmOf(), nil, "no mappings"},
		{"empty", change(func(v *vma.VmaEntry) { v.End = v.Start }), nil, "no such addresses"},
		{"backwards", change(func(v *vma.VmaEntry) { v.End = proto.Uint64(0x1000) }), nil, "no such addresses"},
		{"unaligned", change(func(v *vma.VmaEntry) { v.Start = proto.Uint64(0x10001) }), nil, "no such addresses"},
		{"in the kernel", change(func(v *vma.VmaEntry) { v.End = proto.Uint64(arch.TaskSize + page) }), nil, "no such addresses"},
		{"twice", mmOf(vmaOf(nil), vmaOf(nil)), nil, "not behind the one before"},
		{"protection", change(func(v *vma.VmaEntry) { v.Prot = proto.Uint32(8) }), nil, "protection 0x8"},
		{"flags", change(func(v *vma.VmaEntry) { v.Flags = proto.Uint32(0x10022) }), nil, "flags 0x10022"},
		{"huge pages of no size", change(func(v *vma.VmaEntry) { v.Flags = proto.Uint32(0x40022 | 1<<unix.MAP_HUGE_SHIFT) }), nil, "no size that can be"},
		{"huge pages of the usual size", change(func(v *vma.VmaEntry) { v.Flags = proto.Uint32(0x40022) }), nil, "huge pages"},
		{"half a huge page", change(func(v *vma.VmaEntry) { v.Flags = proto.Uint32(0x40022 | unix.MFD_HUGE_2MB) }), nil, "can't be there"},
		{"a size of no huge page", change(func(v *vma.VmaEntry) { v.Flags = proto.Uint32(0x22 | unix.MFD_HUGE_2MB) }), nil, "flags"},
		{"status", change(func(v *vma.VmaEntry) { v.Status = proto.Uint32(1 << 20) }), nil, "status 0x100000"},
		{"nothing", change(func(v *vma.VmaEntry) { v.Status = proto.Uint32(0) }), nil, "no mapping"},
		{"shared and private", change(func(v *vma.VmaEntry) { v.Status = proto.Uint32(statusRegular | statusFileShared) }), nil, "don't go together"},
		{"vdso and vvar", change(func(v *vma.VmaEntry) {
			v.Status = proto.Uint32(statusRegular | statusAnonPrivate | statusVdso | statusVvar)
		}), nil, "don't go together"},
		{"ring", change(func(v *vma.VmaEntry) { v.Status = proto.Uint32(statusRegular | statusAnonShared | statusAIORing) }), nil, "special sort"},
		{"a ring of a packet socket, from its middle on", change(func(v *vma.VmaEntry) {
			v.Status, v.Flags, v.Pgoff = proto.Uint32(statusRegular|statusSocket), proto.Uint32(unix.MAP_SHARED), proto.Uint64(page)
		}), nil, "none of a packet socket's ring"},
		{"a ring of a packet socket that is anonymous", change(func(v *vma.VmaEntry) { v.Status = proto.Uint32(statusRegular | statusSocket) }), nil, "none of a packet socket's ring"},
		{"a ring of no packet socket", change(func(v *vma.VmaEntry) {
			v.Status, v.Flags, v.Shmid = proto.Uint32(statusRegular|statusSocket), proto.Uint32(unix.MAP_SHARED), proto.Uint64(0)
		}), nil, "no file"},
		{"ring that no entry is about", change(ringVMA), nil, "can't be a ring"},
		{"ring of another size", withRing(change(ringVMA), 0x10000, 3), nil, "can't be a ring"},
		{"ring that is not mapped", withRing(mmOf(vmaOf(nil)), 0x10000, 254), nil, "memory of 0"},
		{"advice", change(func(v *vma.VmaEntry) { v.Madv = proto.Uint64(1 << unix.MADV_DONTNEED) }), nil, "advice"},
		{"offset", change(func(v *vma.VmaEntry) { v.Pgoff = proto.Uint64(7) }), nil, "offset"},
		{"access", change(func(v *vma.VmaEntry) { v.Fdflags = proto.Uint32(unix.O_TRUNC) }), nil, "opened with"},
		{"file", change(func(v *vma.VmaEntry) { v.Shmid = proto.Uint64(1 << 40) }), nil, "file 0x10000000000"},
		{"no file", change(func(v *vma.VmaEntry) {
			v.Flags, v.Status = proto.Uint32(unix.MAP_PRIVATE), proto.Uint32(statusRegular|statusFilePrivate)
		}), nil, "no file"},
		{"guard alone", mmOf(vmaOf(nil), vmaOf(func(v *vma.VmaEntry) {
			v.Start, v.End, v.Status = proto.Uint64(0x20000), proto.Uint64(0x21000), proto.Uint32(statusGuard)
		})), nil, "in no mapping"},
		{"auxv", func() *mm.MmEntry { e := mmOf(vmaOf(nil)); e.MmSavedAuxv = []uint64{1}; return e }(), nil, "auxiliary vector"},
		{"stray page", mmOf(vmaOf(nil)), [][2]uint64{{0x14000, 1}}, "page at 0x14000 is in no mapping"},
		{"page before", mmOf(vmaOf(nil)), [][2]uint64{{0xf000, 2}}, "page at 0xf000 is in no mapping"},
		{"page behind", mmOf(vmaOf(nil)), [][2]uint64{{0x13000, 2}}, "page at 0x14000 is in no mapping"},
		{"page of a shared file", change(func(v *vma.VmaEntry) {
			v.Flags, v.Status, v.Shmid = proto.Uint32(unix.MAP_SHARED), proto.Uint32(statusRegular|statusFileShared), proto.Uint64(3)
		}), [][2]uint64{{0x10000, 1}}, "page at 0x10000 is in no mapping"},
	} {
		_, err := Read(storeOf(t, c.mm, c.runs...), 1)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error that says %q", c.name, err, c.want)
		}
	}
}

// TestReadCut reads images of which bytes are missing, and one with bytes too
// many.
func TestReadCut(t *testing.T) {
	good := storeOf(t, mmOf(vmaOf(nil)), [2]uint64{0x10000, 2})
	for name, b := range good {
		for n := range len(b) {
			bad := store{}
			for k, v := range good {
				bad[k] = v
			}
			bad[name] = b[:n]
			// A pagemap that ends behind a whole entry is a good one.
			if s, err := Read(bad, 1); err == nil && (name != "pagemap-1.img" || len(s.pieces) != 0) {
				t.Fatalf("%s cut at %d of %d is taken", name, n, len(b))
			}
			if n == 4096 {
				break
			}
		}
	}
	good["mm-1.img"] = append(good["mm-1.img"], 0)
	if _, err := Read(good, 1); err == nil {
		t.Error("a byte behind the entry is taken")
	}
}

// FuzzRead feeds anything to Read, and the result of what it takes to what
// relies on it; the same as one mapping, and as a segment of System V.
func FuzzRead(f *testing.F) {
	next := func(v *vma.VmaEntry) { v.Start, v.End = proto.Uint64(0x14000), proto.Uint64(0x18000) }
	guard := func(v *vma.VmaEntry) { v.End, v.Status = proto.Uint64(0x11000), proto.Uint32(statusGuard) }
	vdso := func(v *vma.VmaEntry) { v.Status = proto.Uint32(*v.Status | statusVdso) }
	huge := func(v *vma.VmaEntry) {
		v.Start, v.End, v.Flags = proto.Uint64(2<<20), proto.Uint64(4<<20), proto.Uint32(0x40022|unix.MFD_HUGE_2MB)
	}
	for _, e := range []*mm.MmEntry{mmOf(vmaOf(nil), vmaOf(next)), mmOf(vmaOf(nil), vmaOf(guard)), mmOf(vmaOf(vdso)), mmOf(vmaOf(nil), vmaOf(huge)), withRing(mmOf(vmaOf(ringVMA)), 0x10000, ringRequests(0x4000))} {
		f.Add(marshal(f, e), pagemapOf(f, [2]uint64{0x11000, 3}))
		f.Add(marshal(f, e), pagemapOf(f, [2]uint64{0x10000, 4}, [2]uint64{0x16000, 1}))
	}
	for _, v := range []*vma.VmaEntry{vmaOf(nil), vmaOf(func(v *vma.VmaEntry) { v.Madv, v.Fdflags = proto.Uint64(1<<16), proto.Uint32(2) })} {
		f.Add(marshal(f, v), []byte(nil))
	}
	for _, e := range []*ipcshm.IpcShmEntry{shmEntry(0, 0x4000), shmEntry(1<<31, 1<<63)} {
		f.Add(marshal(f, e), []byte("\x00\x00\x01\x00\x00\x00\x00\x00\x00\x40\x01\x00\x00\x00\x00\x00"))
	}
	f.Fuzz(func(t *testing.T, mmEntry, pagemap []byte) {
		checkArea(t, mmEntry)
		checkSegment(t, mmEntry, pagemap)
		s, err := Read(store{"mm-1.img": imageOf(image.MM, mmEntry), "pagemap-1.img": pagemap, "pages-1.img": make([]byte, 16*page)}, 1)
		if err != nil {
			return
		}
		checkSpace(t, s)
		parent, err := Read(storeOf(t, mmOf(vmaOf(nil), vmaOf(next)), [2]uint64{0x10000, 1}, [2]uint64{0x13000, 3}), 1)
		if err != nil {
			t.Fatal(err)
		}
		s.link(parent)
		checkSpace(t, s)
		_ = CheckVdso(s)
		s.WantHuge(&hugepages.Wanted{}, s)
		_, _ = Hole([]*Space{s, parent}, 1<<20, 0x10000)
	})
}

// checkSpace fails the test unless all that Read promises holds.
func checkSpace(t *testing.T, s *Space) {
	t.Helper()
	at, next := uint64(0), 0
	for i := range s.areas {
		a := &s.areas[i]
		if a.Start < at || a.End <= a.Start || a.End > arch.TaskSize {
			t.Fatalf("%v is not behind %x", a, at)
		}
		if at = a.End; a.first != next {
			t.Fatalf("%v begins with piece %d, not %d", a, a.first, next)
		}
		for _, p := range s.pieces[a.first:a.last] {
			if p.start() < a.Start || p.end() > a.End || !a.private() {
				t.Fatalf("%v has pages %x-%x", a, p.start(), p.end())
			}
		}
		if next = a.last; a.from != nil && (a.from.Start > a.Start || a.from.End < a.End) {
			t.Fatalf("%v is inherited from %v", a, a.from)
		}
	}
	if next != len(s.pieces) {
		t.Fatalf("%d pieces belong to mappings, of %d", next, len(s.pieces))
	}
}

// checkArea compares the decoder with the one of the message.
func checkArea(t *testing.T, b []byte) {
	t.Helper()
	var v vma.VmaEntry
	want := proto.Unmarshal(b, &v)
	a, err := decodeArea(b)
	if want != nil || err != nil {
		if want != nil && err == nil {
			t.Fatalf("taken, though %v", want)
		}
		return
	}
	got := [...]uint64{a.Start, a.End, a.offset, uint64(a.file), uint64(a.prot), uint64(a.flags), uint64(a.status), a.madvise}
	have := [...]uint64{v.GetStart(), v.GetEnd(), v.GetPgoff(), v.GetShmid(), uint64(v.GetProt()), uint64(v.GetFlags()), uint64(v.GetStatus()), v.GetMadv()}
	if got != have {
		t.Fatalf("%x, want %x", got, have)
	}
}
