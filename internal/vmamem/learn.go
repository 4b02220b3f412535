package vmamem

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// sample is a mapping made to see what its flags look like.
type sample struct {
	prot, flags int
	size        int  // bytes; 0 is a page
	advice      int  // of madvise(2), 0 is none
	apart       bool // memory of Go's own must not be joined to it
	lock        bool
}

// samples have, one by one, the properties that mappings are given. What a
// kernel refuses is left out: a flag that was not learnt only costs time.
var samples = [...]sample{
	{prot: unix.PROT_READ | unix.PROT_WRITE, flags: unix.MAP_PRIVATE},
	{prot: unix.PROT_READ | unix.PROT_EXEC, flags: unix.MAP_PRIVATE},
	{prot: unix.PROT_READ | unix.PROT_WRITE, flags: unix.MAP_SHARED},
	{flags: unix.MAP_PRIVATE | unix.MAP_GROWSDOWN},
	{flags: unix.MAP_PRIVATE | unix.MAP_NORESERVE},
	{prot: unix.PROT_READ, flags: unix.MAP_PRIVATE | unix.MAP_LOCKED},
	{prot: unix.PROT_READ, flags: unix.MAP_PRIVATE, lock: true},
	{prot: unix.PROT_READ, flags: linux.MAP_DROPPABLE},
	{flags: unix.MAP_PRIVATE | unix.MAP_HUGETLB | unix.MAP_NORESERVE, size: 2 << 20},
	{flags: unix.MAP_PRIVATE, advice: unix.MADV_SEQUENTIAL},
	{flags: unix.MAP_PRIVATE, advice: unix.MADV_RANDOM},
	{flags: unix.MAP_PRIVATE, advice: unix.MADV_DONTFORK},
	{flags: unix.MAP_PRIVATE, advice: unix.MADV_WIPEONFORK},
	{flags: unix.MAP_PRIVATE, advice: unix.MADV_DONTDUMP},
	{flags: unix.MAP_PRIVATE, advice: unix.MADV_HUGEPAGE},
	{flags: unix.MAP_PRIVATE, advice: unix.MADV_NOHUGEPAGE},
	{flags: unix.MAP_PRIVATE, advice: unix.MADV_MERGEABLE},
	{prot: unix.PROT_READ | unix.PROT_WRITE, flags: unix.MAP_PRIVATE, advice: unix.MADV_GUARD_INSTALL, apart: true},
}

// mapSamples makes all samples that this kernel allows.
func mapSamples() (unmap func()) {
	var all [][]byte
	for _, s := range samples {
		b, err := unix.Mmap(-1, 0, max(s.size, os.Getpagesize()), s.prot, s.flags|unix.MAP_ANONYMOUS)
		if err != nil {
			continue
		}
		all = append(all, b)
		if s.apart { // Go's has not this
			_ = unix.Madvise(b, unix.MADV_DONTDUMP)
		}
		if s.advice != 0 {
			_ = unix.Madvise(b, s.advice)
		}
		if s.lock {
			_ = linux.Mlock2(b, linux.MLOCK_ONFAULT)
		}
	}
	return func() {
		for _, b := range all {
			_ = unix.Munmap(b)
		}
	}
}

// learn compares the engine's own mappings with its smaps.
func (r *Reader) learn() (*table, error) {
	defer mapSamples()()
	self, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer self.Close()
	before, err := r.own()
	if err != nil {
		return nil, err
	}
	text, err := self.ReadFile("smaps")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	vmas, err := self.Smaps() // as the kernel has it, see nameless.go
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	after, err := r.own()
	if err != nil {
		return nil, err
	}
	return tableOf(unchanged(before, after), codesOf(text), vmas)
}

// own returns the bits of the engine's own mappings, by their starts.
func (r *Reader) own() (map[uint64]record, error) {
	it, err := r.open(proc.PID(os.Getpid()))
	if err != nil {
		return nil, err
	}
	defer unix.Close(it) //nolint:errcheck // nothing was written
	out := map[uint64]record{}
	end := uint64(0)
	err = each(it, maxOwn, func(m record) error {
		// The kernel's end is not for good: after it some begin anew.
		if m.start < end {
			return errAnew
		}
		end = m.end
		out[m.start] = m
		return nil
	})
	if err != nil && !errors.Is(err, errAnew) {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return out, nil
}

const maxOwn = 1 << 20 // mappings, more than a process has

var errAnew = errors.New("the mappings begin anew")

// unchanged leaves what is the same in both. The Go runtime may map memory at
// any time.
func unchanged(before, after map[uint64]record) map[uint64]record {
	out := map[uint64]record{}
	for start, m := range before {
		if after[start] == m {
			out[start] = m
		}
	}
	return out
}

// tableOf learns from mappings by their starts and from smaps, as text and as it
// was understood, and checks the one against the other.
func tableOf(seen map[uint64]record, codes map[uint64][]string, smaps []proc.VMA) (*table, error) {
	var t table
	for start, m := range seen {
		if err := t.learn(m.bits, codes[start]); err != nil {
			return nil, err
		}
	}
	for i := range smaps {
		v := &smaps[i]
		if v.Name == gateName {
			t.gate = v
		}
		if m, ok := seen[v.Start]; ok && m.end == v.End {
			if err := t.check(m.bits, v); err != nil {
				return nil, err
			}
		}
	}
	if t.known == 0 {
		return nil, fmt.Errorf("%w: smaps shows no flags that match", ErrUnavailable)
	}
	return &t, nil
}
