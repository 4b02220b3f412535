package dump

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/scan"
)

// looked is what was found out of a descriptor. The zero value is nothing yet.
type looked struct {
	file  *scan.File
	err   error
	place kmem.Addr // where the kernel has it; 0: not known
}

const (
	// lookedAtOnce is how many descriptors are looked at on all CPUs at a time.
	lookedAtOnce = 512
	// fewLooks is up to how many are looked at in turn: another thread had to wake first.
	fewLooks = 32
)

// lookAt finds out what it can of some descriptors of a task, most of it on all CPUs: what the
// kernel's memory told, and what /proc tells of the others. What the parent may have, too,
// is left out, as who asks for it compares them first. What ended has kept from being looked at
// is nothing yet.
func lookAt(t *scan.Task, fds []int32, known, plain []*scan.File, ended func() error) []looked {
	all, ask := make([]looked, len(fds)), make([]int, 0, len(fds))
	for i, n := range fds {
		if all[i].file = fileOf(known, n); all[i].file == nil {
			all[i].file = fileOf(plain, n)
		}
		if all[i].file != nil {
			continue
		}
		if _, ok := above(t, n); !ok {
			ask = append(ask, i)
		}
	}
	if len(ask) <= fewLooks {
		return all
	}
	_ = par.Do(len(ask), func(k int) error { // who gets there tells what failed
		if err := ended(); err != nil {
			return err
		}
		at := &all[ask[k]]
		at.file, at.err = describe(t, fds[ask[k]])
		return at.err
	})
	return all
}

// above returns where a task's parent has a descriptor of this number.
func above(t *scan.Task, n int32) (at int, ok bool) {
	if t.Parent == nil {
		return 0, false
	}
	return slices.BinarySearchFunc(t.Parent.FDs, n, func(r scan.Ref, n int32) int { return cmp.Compare(r.FD, n) })
}

// describe reads what /proc tells of one descriptor.
func describe(t *scan.Task, n int32) (*scan.File, error) {
	f := &scan.File{Task: t, FD: n}
	if err := readLink(f); err != nil {
		return nil, err
	}
	info, err := t.Dir.FDInfo(n)
	if err != nil {
		return nil, err
	}
	f.Told, f.Pos, f.Flags, f.MntID = &info, info.Pos, info.Flags, info.MntID
	err = statAt(t, f.Path(), &f.Stat)
	if errors.Is(err, unix.ENOENT) && strings.HasPrefix(f.Link, "/proc/") {
		return nil, kind.Unsupported(f, "it is a directory of descriptors of a process that has ended, of which the kernel tells nothing any more; close it")
	}
	return f, err
}

// readLink fills in where a file is.
func readLink(f *scan.File) (err error) {
	f.Link, err = f.Task.Dir.Link(f.Path())
	if errors.Is(err, unix.ENAMETOOLONG) {
		f.Link = "a long path"
		return kind.Unsupported(f, "its path is longer than 4095 bytes, and the kernel tells no such; close it, or rename directories that it leads through")
	}
	return err
}

func statAt(t *scan.Task, path string, to *scan.Stat) error {
	if err := to.At(t.Dir.Fd(), path); err != nil {
		return fmt.Errorf("/proc/%d/%s: stat: %w", t.PID, path, err)
	}
	return nil
}
