package pages

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/proc"
)

const page = arch.PageSize

// memory maps pages of the test's own, of which only some are touched.
func memory(t testing.TB, n int) ([]byte, uint64) {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil {
		t.Fatal(err)
	}
	return b, uint64(reflect.ValueOf(b).Pointer())
}

func scanner(t testing.TB) *Scanner {
	t.Helper()
	d, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenScanner(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); d.Close() })
	return s
}

// TestScan finds written pages, and neither untouched nor read ones, by every
// method that a kernel may offer.
func TestScan(t *testing.T) {
	const n = 3000
	b, at := memory(t, n)
	var want []Span
	for i := 0; i < n; i++ {
		switch {
		case i%2 == 0 && i < 2400 || i > 2900:
			b[i*page] = 1
			if k := len(want); k > 0 && want[k-1].End == at+uint64(i*page) {
				want[k-1].End += page
			} else {
				want = append(want, Span{at + uint64(i*page), at + uint64((i+1)*page)})
			}
		case i%5 == 0:
			_ = b[i*page : i*page+1][0] // reading maps the zero page
		}
	}
	for name, how := range map[string]method{"guards": scanGuards, "plain": scanPlain, "words": readWords} {
		if how == readWords && os.Getuid() != 0 {
			continue // the frame of the zero page is not shown
		}
		s := scanner(t)
		s.how = how
		var got []Span
		err := s.Scan([]Area{{Span: Span{at, at + n*page}}}, func(i int, p Span, guard bool) {
			if i != 0 || guard {
				t.Errorf("%s: %x-%x: area %d, guard %v", name, p.Start, p.End, i, guard)
			}
			got = append(got, p)
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.how != how {
			t.Logf("%s is not to be had on this kernel", name)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", name, d)
		}
	}
}

// TestScanAreas looks only where it is told to, and tells where it found
// something.
func TestScanAreas(t *testing.T) {
	b, at := memory(t, 64)
	for i := range 64 {
		b[i*page] = 1
	}
	span := func(i, n int) Span { return Span{at + uint64(i*page), at + uint64((i+n)*page)} }
	areas := []Area{{Span: span(2, 3)}, {Span: span(5, 1)}, {Span: span(10, 4), Apart: true}, {Span: span(40, 24)}}
	for _, how := range []method{scanGuards, scanPlain, readWords} {
		s := scanner(t)
		s.how = how
		n := 0
		err := s.Scan(areas, func(i int, p Span, _ bool) {
			if p != areas[i].Span || i != n {
				t.Errorf("method %d: area %d: found %v, want %v", how, i, p, areas[n].Span)
			}
			n++
		})
		if err != nil || n != len(areas) {
			t.Errorf("method %d: %d areas, %v", how, n, err)
		}
	}
}

// TestDrainFill copies scattered pages out of memory and back into other
// memory, with parts that may be neither read nor written in between.
func TestDrainFill(t *testing.T) {
	const n = 4096
	from, at := memory(t, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range from {
		from[i] = byte(r.Uint32())
	}
	spans := []Span{}
	for i := uint64(0); i < n; {
		k := 1 + r.Uint64N(300)
		k = min(k, n-i)
		spans = append(spans, Span{at + i*page, at + (i+k)*page})
		i += k + r.Uint64N(3)
	}
	to, back := memory(t, n)
	for _, b := range [][]byte{from, to} {
		if err := unix.Mprotect(b[100*page:500*page], unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "pages"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Drain(context.Background(), []*Source{{PID: proc.PID(os.Getpid()), Spans: spans, To: f}}, nil, nil); err != nil {
		t.Fatal(err)
	}
	var pieces []Piece
	off := int64(0)
	for _, s := range spans {
		pieces = append(pieces, Piece{Span{s.Start - at + back, s.End - at + back}, f, off})
		off += int64(s.Len())
	}
	if err := Fill(context.Background(), proc.PID(os.Getpid()), pieces); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{from, to} {
		if err := unix.Mprotect(b[100*page:500*page], unix.PROT_READ); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range spans {
		if !bytes.Equal(from[s.Start-at:s.End-at], to[s.Start-at:s.End-at]) {
			t.Fatalf("pages %x-%x differ", s.Start, s.End)
		}
	}
}

// TestHook sees every byte once.
func TestHook(t *testing.T) {
	const n = 1000
	b, at := memory(t, n)
	for i := range b {
		b[i] = byte(i / page)
	}
	seen := make(chan int64, n)
	src := &Source{PID: proc.PID(os.Getpid()), Spans: []Span{{at, at + n*page}}, To: nowhere{}}
	err := Drain(context.Background(), []*Source{src}, Buffer(), func(s *Source, chunk []byte, off int64) error {
		for i := 0; i < len(chunk); i += page {
			if s != src || !bytes.Equal(chunk[i:i+page], b[off+int64(i):off+int64(i)+page]) {
				t.Errorf("wrong contents at %d", off+int64(i))
			}
			seen <- (off + int64(i)) / page
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	close(seen)
	once := map[int64]bool{}
	for i := range seen {
		once[i] = true
	}
	if len(once) != n {
		t.Errorf("the hook saw %d pages of %d", len(once), n)
	}
}

type nowhere struct{}

func (nowhere) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// TestCancel stops between chunks.
func TestCancel(t *testing.T) {
	const n = 4096
	b, at := memory(t, n)
	clear(b)
	why := errors.New("no more")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var chunks atomic.Int32
	src := &Source{PID: proc.PID(os.Getpid()), Spans: []Span{{at, at + page}}, To: nowhere{}}
	for i := uint64(2); i < n; i += 2 {
		src.Spans = append(src.Spans, Span{at + i*page, at + (i+1)*page})
	}
	err := Drain(ctx, []*Source{src}, nil, func(*Source, []byte, int64) error {
		chunks.Add(1)
		cancel(why)
		return nil
	})
	if !errors.Is(err, why) || chunks.Load() > mostWorkers {
		t.Errorf("%v after %d chunks", err, chunks.Load())
	}
}

// TestFile saves a file of shared memory and makes it again.
func TestFile(t *testing.T) {
	const size = 2<<20 + 100
	dir, err := image.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	from, to := memfd(t, size), memfd(t, size)
	data := bytes.Repeat([]byte("0123456789abcdef"), 3*page/16)
	for _, off := range []int64{page, 1 << 20, size - 3*page} {
		if _, err := FD(from).WriteAt(data, off); err != nil {
			t.Fatal(err)
		}
	}
	spans, err := DataSpans(from, size)
	if err != nil {
		t.Fatal(err)
	}
	out, err := dir.Create(image.Pages.FileName(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := DrainFile(context.Background(), &File{From: FD(from), Size: size, Spans: spans, To: out}); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	writePagemap(t, dir, 7, spans)
	if err := FillFile(context.Background(), dir, 7, size, FD(to)); err != nil {
		t.Fatal(err)
	}
	a, b := make([]byte, size), make([]byte, size)
	if _, err := FD(from).ReadAt(a, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := FD(to).ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the contents differ")
	}
	if again, err := DataSpans(to, size); err != nil || cmp.Diff(spans, again) != "" {
		t.Errorf("holes were filled: %v, before %v (%v)", again, spans, err)
	}
	if err := FillFile(context.Background(), dir, 7, size-2*page, FD(to)); err == nil {
		t.Error("contents behind the end of the file are taken")
	}
	if err := FillFile(context.Background(), dir, 8, size, FD(to)); err != nil {
		t.Errorf("a file without contents: %v", err)
	}
}

func memfd(t *testing.T, size int64) int {
	t.Helper()
	n, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(n) })
	if err := unix.Ftruncate(n, size); err != nil {
		t.Fatal(err)
	}
	return n
}

func writePagemap(t *testing.T, dir *image.Dir, id uint64, spans []Span) {
	t.Helper()
	w, err := image.NewPagemapWriter(dir, image.PagemapShmem, id, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range spans {
		if err := w.Add(s.Start, s.Len()/page, image.PagePresent); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzCut cuts any spans and checks that the parts are those spans, in order,
// none larger than a chunk.
func FuzzCut(f *testing.F) {
	f.Add([]byte{1, 2, 200, 3}, []byte{255, 255, 255})
	f.Add(bytes.Repeat([]byte{1}, 3000), []byte{0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var all []*Source
		var want [][]Span
		for _, lens := range [][]byte{a, b} {
			s := &Source{}
			at := uint64(page)
			for _, n := range lens {
				s.Spans = append(s.Spans, Span{at, at + (uint64(n)+1)*page})
				at += (uint64(n) + 2) * page
			}
			all, want = append(all, s), append(want, s.Spans)
		}
		got := map[*Source][]Span{}
		c := cutter{sources: all, chunk: Chunk}
		offs := map[*Source]int64{}
		for p, ok := c.next(); ok; p, ok = c.next() {
			if p.size > Chunk || p.size == 0 || len(p.spans) > mostSpans || p.off != offs[p.source] {
				t.Fatalf("a part of %d bytes, %d spans, at %d", p.size, len(p.spans), p.off)
			}
			offs[p.source] += int64(p.size)
			for _, r := range p.remote() {
				s := Span{uint64(r.Base), uint64(r.Base) + uint64(r.Len)}
				k := got[p.source]
				if n := len(k); n > 0 && k[n-1].End == s.Start {
					k[n-1].End = s.End
				} else {
					got[p.source] = append(k, s)
				}
			}
		}
		for i, s := range all {
			if d := cmp.Diff(want[i], got[s]); d != "" {
				t.Fatalf("source %d: (-want +got)\n%s", i, d)
			}
		}
	})
}
