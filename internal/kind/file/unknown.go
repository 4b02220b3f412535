package file

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// Unknown is the last kind: it takes what no other does, and refuses it by
// name.
type Unknown struct{}

// PathOnly is what has no path and was opened with O_PATH, through /proc/PID/fd. The
// kernel tells nothing of it, not even which one it is: all anonymous files have the
// same inode.
type PathOnly struct{ Unknown }

// Match implements kind.File.
func (PathOnly) Match(f *scan.File) bool {
	return f.Flags&unix.O_PATH != 0 && (strings.HasPrefix(f.Link, "anon_inode:") || strings.HasPrefix(f.Link, "pidfd:["))
}

// Dump implements kind.File.
func (PathOnly) Dump(_ context.Context, _ *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	return nil, kind.Unsupported(f, "it is %s that was opened with O_PATH, and the kernel does not tell which one; close it", describe(f))
}

// Type implements kind.File.
func (Unknown) Type() fdinfo.FdTypes { return fdinfo.FdTypes_UND }

// Match implements kind.File.
func (Unknown) Match(*scan.File) bool { return true }

// Dump implements kind.File.
func (Unknown) Dump(_ context.Context, _ *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	return nil, kind.Unsupported(f, "Glis can't carry over %s yet; %s", describe(f), advice(f.Link))
}

// advice says what to do about what a library brings in without a word.
func advice(link string) string {
	switch {
	case strings.Contains(link, "[io_uring]"):
		return kind.WithoutRings
	case strings.Contains(link, "[userfaultfd]"):
		return "end what handles its page faults (a migration of qemu, lazy pages of criu, a garbage collector)"
	case strings.Contains(link, "[perf_event]"), strings.Contains(link, "bpf"):
		return "end the measurement or filter it belongs to"
	}
	return "let the program close it first"
}

// describe says what an open file is.
func describe(f *scan.File) string {
	if name, ok := strings.CutPrefix(f.Link, "anon_inode:"); ok {
		name = strings.Trim(name, "[]")
		return article(name)
	}
	if before, _, ok := strings.Cut(f.Link, ":["); ok && !strings.HasPrefix(f.Link, "/") {
		switch before {
		case "socket":
			return "a socket of this family"
		case "pidfd":
			return article(before)
		}
		return "a " + before + " namespace"
	}
	switch f.Stat.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
		return fmt.Sprintf("%s %d:%d", typeName(f.Stat.Mode), unix.Major(f.Stat.Rdev), unix.Minor(f.Stat.Rdev))
	}
	return typeName(f.Stat.Mode)
}

// article puts "a" or "an" before the name of an anonymous file.
func article(name string) string {
	if strings.IndexAny(name, "aeiou") == 0 {
		return "an " + name + " file"
	}
	return "a " + name + " file"
}

// Plan implements kind.File.
func (Unknown) Plan(_ *plan.Plan, e *fdinfo.FileEntry) error {
	return entryError(e, "it is of type %v, which Glis can't restore yet", e.GetType())
}
