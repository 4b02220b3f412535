package test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// ownVdso returns the code that this kernel maps into every process.
func ownVdso(t *testing.T) []byte {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		from, to, _ := strings.Cut(strings.Fields(line)[0], "-")
		start, err1 := strconv.ParseInt(from, 16, 64)
		end, err2 := strconv.ParseInt(to, 16, 64)
		mem, err := os.Open("/proc/self/mem")
		if err != nil || err1 != nil || err2 != nil {
			t.Fatal(err, err1, err2)
		}
		defer mem.Close()
		text := make([]byte, end-start)
		if _, err := mem.ReadAt(text, start); err != nil {
			t.Fatal(err)
		}
		return text
	}
	t.Skip("this kernel has no vdso")
	return nil
}

// symbolAt returns where, in a vdso, the value of a symbol is told.
func symbolAt(t *testing.T, vdso []byte, name string) int {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(vdso))
	if err != nil {
		t.Fatal(err)
	}
	all, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range all {
		if s.Name == name {
			const size, value = 24, 8 // Elf64_Sym, st_value in it; the first symbol is none
			at := int(f.SectionByType(elf.SHT_DYNSYM).Offset) + (i+1)*size + value
			if got := binary.LittleEndian.Uint64(vdso[at:]); got != s.Value {
				t.Fatalf("%s is at %#x, its entry says %#x", name, s.Value, got)
			}
			return at
		}
	}
	t.Skipf("this kernel's vdso has no %s", name)
	return 0
}

// A checkpoint of another kernel: where that has the functions of the vdso at the same
// places, the program gets this kernel's; else the restore says which is elsewhere, and
// starts nothing.
func TestOtherVdso(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	text := ownVdso(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/vdso.c"), ".")
	p.AwaitAt(t, 0)
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img)
	unmark(t, img)
	path := filepath.Join(img, "pages-1.img")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(good, text)
	if at < 0 {
		t.Fatal("the vdso is not in the images")
	}
	write(t, path, changed(good, at+symbolAt(t, text, "__vdso_clock_gettime")))
	refused(t, e, []string{"restore", "-d", "-D", img, "-o", "r.log"}, "vdso", "clock_gettime is at", "another kernel")
	// A note says which kernel it is of; the functions are where they were.
	note := bytes.Index(text, []byte("Linux\x00"))
	if note < 0 {
		t.Fatal("the vdso has no note")
	}
	write(t, path, changed(good, at+note))
	e.Restore(t, img)
	p.Go(t, 0, true)
	p.WaitExit(t, 0)
}

func changed(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x10
	return b
}
