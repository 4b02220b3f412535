package proc

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// manyVMAs is smaps of n mappings, every third of a file.
func manyVMAs(n int) []byte {
	const fields = "Size:                  8 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\nRss:                   8 kB\n" +
		"Pss:                   8 kB\nPss_Dirty:             0 kB\nShared_Clean:          0 kB\nShared_Dirty:          0 kB\n" +
		"Private_Clean:         8 kB\nPrivate_Dirty:         0 kB\nReferenced:            8 kB\nAnonymous:             0 kB\n" +
		"KSM:                   0 kB\nLazyFree:              0 kB\nAnonHugePages:         0 kB\nShmemPmdMapped:        0 kB\n" +
		"FilePmdMapped:         0 kB\nShared_Hugetlb:        0 kB\nPrivate_Hugetlb:       0 kB\nSwap:                  0 kB\n" +
		"SwapPss:               0 kB\nLocked:                0 kB\nTHPeligible:           0\nVmFlags: rd wr mr mw me ac sd \n"
	var s strings.Builder
	for i := range n {
		name := ""
		if i%3 == 0 {
			name = fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%d.so", i/9)
		}
		fmt.Fprintf(&s, "%x-%x rw-p 00000000 fe:00 %d %s\n%s", 0x7f0000000000+i*8192, 0x7f0000001000+i*8192, i, name, fields)
	}
	return []byte(s.String())
}

func BenchmarkSmaps10000(b *testing.B) {
	text := manyVMAs(10000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if v, err := parseSmaps(text); err != nil || len(v) != 10000 {
			b.Fatal(len(v), err)
		}
	}
}

func BenchmarkStat(b *testing.B) {
	text := []byte(statLine("cat"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseStat(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatus(b *testing.B) {
	text := []byte(statusText)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseStatus(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadStatus(b *testing.B) {
	d, err := Open(PID(os.Getpid()))
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.ThreadStatus(TID(os.Getpid())); err != nil {
			b.Fatal(err)
		}
	}
}
