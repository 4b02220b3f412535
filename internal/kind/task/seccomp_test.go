package task

import (
	"encoding/binary"
	"strings"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/seccomp"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/tracee"
)

// seccompOf has filters of these lengths, each of which leads to the one
// before.
func seccompOf(sizes ...int) Seccomp {
	var all []*seccomp.SeccompFilter
	for i, n := range sizes {
		f := &seccomp.SeccompFilter{Filter: make([]byte, n)}
		if i > 0 {
			f.Prev = proto.Uint32(uint32(i - 1))
		}
		all = append(all, f)
	}
	return Seccomp{func(image.Store) ([]*seccomp.SeccompFilter, error) { return all, nil }}
}

func code(op uint16, k uint32) []byte {
	b := binary.NativeEndian.AppendUint16(nil, op)
	return binary.NativeEndian.AppendUint32(append(b, 0, 0), k)
}

// Threads with the same filters share entries; the order is that of
// installing.
func TestFilters(t *testing.T) {
	a, b, c := tracee.Filter{Code: code(6, 1)}, tracee.Filter{Code: code(6, 2), Log: true}, tracee.Filter{Code: code(6, 3)}
	th := &scan.Thread{Task: &scan.Task{}, Status: &proc.Status{}}
	var f Filters
	first, err := f.Add(th, []tracee.Filter{a, b, c})
	again, err2 := f.Add(th, []tracee.Filter{a, b, c})
	other, err3 := f.Add(th, []tracee.Filter{a, c})
	if err != nil || err2 != nil || err3 != nil || first != again || other == first || len(f.Entry().SeccompFilters) != 4 {
		t.Fatalf("%d %d %d of %d, %v %v %v", first, again, other, len(f.Entry().SeccompFilters), err, err2, err3)
	}
	got, err := chain(f.Entry().SeccompFilters, first)
	if err != nil || len(got) != 3 || got[0].Filter[4] != 1 || got[1].Filter[4] != 2 || got[1].GetFlags() != linux.SECCOMP_FILTER_FLAG_LOG || got[2].Filter[4] != 3 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := f.Add(th, []tracee.Filter{{Code: code(linux.BPF_RET_K, linux.SECCOMP_RET_USER_NOTIF|5)}}); err == nil || !strings.Contains(err.Error(), "USER_NOTIF") {
		t.Errorf("a filter with a listener: %v", err)
	}
	if _, err := f.Add(th, nil); err == nil {
		t.Error("no filter is one")
	}
}

// Filters of all threads are the leader's, to be installed for all; others stay
// each thread's own.
func TestJoinedFilters(t *testing.T) {
	a, b := tracee.Filter{Code: code(6, 1)}, tracee.Filter{Code: code(6, 2), Log: true}
	var f Filters
	process := func(filters ...[]tracee.Filter) *scan.Task {
		p := &scan.Task{}
		for _, x := range filters {
			th := &scan.Thread{Task: p, Status: &proc.Status{}}
			th.Status.Seccomp = linux.SECCOMP_MODE_FILTER
			n, err := f.Add(th, x)
			if err != nil {
				t.Fatal(err)
			}
			th.Filter = n
			p.Threads = append(p.Threads, th)
		}
		f.Join(p)
		return p
	}
	both, one := []tracee.Filter{a, b}, []tracee.Filter{a}
	p := process(both, both, both)
	if p.Threads[0].Joined || !p.Threads[1].Joined || !p.Threads[2].Joined {
		t.Error("all threads have the same, and have it each for itself")
	}
	got, err := chain(f.Entry().SeccompFilters, p.Threads[0].Filter)
	const all = linux.SECCOMP_FILTER_FLAG_TSYNC
	if err != nil || len(got) != 2 || got[0].GetFlags() != all || got[1].GetFlags() != all|linux.SECCOMP_FILTER_FLAG_LOG || got[1].Filter[4] != 2 {
		t.Errorf("%v, %v", got, err)
	}
	for _, p := range []*scan.Task{process(both, one), process(both)} {
		got, err := chain(f.Entry().SeccompFilters, p.Threads[0].Filter)
		if err != nil || got[0].GetFlags() != 0 || p.Threads[len(p.Threads)-1].Joined {
			t.Errorf("threads that differ, or a single one: %v, %v", got, err)
		}
	}
}

func TestHostileFilters(t *testing.T) {
	for want, f := range map[string]*seccomp.SeccompFilter{
		"has 7 bytes":     {Filter: make([]byte, 7)},
		"has 0 bytes":     {Filter: []byte{}},
		"has 32776 bytes": {Filter: make([]byte, 32776)},
		"leads to 0":      {Filter: make([]byte, 8), Prev: proto.Uint32(0)},
		"flags 0x8":       {Filter: make([]byte, 8), Flags: proto.Uint32(8)},
	} {
		dir, err := image.OpenDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := image.WriteOne(dir, image.Seccomp, &seccomp.SeccompEntry{SeccompFilters: []*seccomp.SeccompFilter{f}}); err != nil {
			t.Fatal(err)
		}
		if _, err := readFilters(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// CRIU says by a flag that filters are those of all threads.
func TestFiltersOfAllThreads(t *testing.T) {
	dir, err := image.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &seccomp.SeccompFilter{Filter: make([]byte, 8), Flags: proto.Uint32(linux.SECCOMP_FILTER_FLAG_TSYNC | linux.SECCOMP_FILTER_FLAG_LOG)}
	if err := image.WriteOne(dir, image.Seccomp, &seccomp.SeccompEntry{SeccompFilters: []*seccomp.SeccompFilter{f}}); err != nil {
		t.Fatal(err)
	}
	if all, err := readFilters(dir); err != nil || len(all) != 1 {
		t.Errorf("%d filters, %v", len(all), err)
	}
}
