package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
)

// NoLeaks checks, when the test ends, that it left no process and no open
// descriptor. Call it first: cleanups run in reverse, so it then sees what is
// left after everything else was put away.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := openFiles()
	t.Cleanup(func() {
		if left := leftBehind(); len(left) > 0 {
			t.Errorf("processes left behind: %s", strings.Join(left, ", "))
		}
		if extra := diffLines(before, openFiles()); extra != "" {
			t.Errorf("descriptors of the test process changed:\n%s", extra)
		}
	})
}

// leftBehind names and then ends all descendants of this process. An engine's
// helper may need a moment to leave after the engine itself.
func leftBehind() []string {
	var left []string
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		left = nil
		tree := Tree(os.Getpid())
		if len(tree) < 2 {
			return nil
		}
		for _, pid := range tree[1:] {
			cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			left = append(left, fmt.Sprintf("%d (%s)", pid, strings.ReplaceAll(string(cmd), "\x00", " ")))
		}
		reapDead(tree[1:])
	}
	for _, pid := range Tree(os.Getpid())[1:] {
		(&Proc{PID: pid}).Kill()
	}
	return left
}

// openFiles lists what this process has open, without what the Go runtime
// opens when it first needs it.
func openFiles() []string {
	var out []string
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || link == "anon_inode:[eventpoll]" || link == "anon_inode:[eventfd]" {
			continue
		}
		out = append(out, e.Name()+" "+link)
	}
	return out
}

// Picture is what must not change in a tree that a dump leaves running.
type Picture []string

// Look takes a Picture of the tree: mappings, descriptors with offsets and
// flags, and per thread the signal state and the tracer.
func Look(t testing.TB, pid int) Picture {
	t.Helper()
	var p Picture
	for _, pid := range Tree(pid) {
		p = append(p, lookFiles(pid)...)
		p = append(p, lookText(fmt.Sprintf("/proc/%d/maps", pid), fmt.Sprintf("%d map ", pid))...)
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		for _, dir := range tasks {
			task := strings.TrimPrefix(dir, "/proc/")
			for _, line := range Status(t, task, "Name", "TracerPid", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "Seccomp") {
				p = append(p, task+" "+line)
			}
		}
	}
	return p
}

// lookFiles lists one process's descriptors; a vanishing process has none.
func lookFiles(pid int) []string {
	var out []string
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		link, _ := os.Readlink(dir + "/" + e.Name())
		info, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, e.Name()))
		flat := strings.Join(strings.Fields(string(info)), " ")
		out = append(out, fmt.Sprintf("%d fd %s %s %s", pid, e.Name(), link, flat))
	}
	return out
}

// lookText returns a file's lines behind a prefix.
func lookText(path, prefix string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		out = append(out, prefix+strings.TrimSpace(line))
	}
	return out
}

// Diff returns the lines only one of two pictures has, "" if none, without
// those that contain one of the words.
func Diff(a, b []string, without ...string) string {
	has := func(line string) bool {
		return slices.ContainsFunc(without, func(w string) bool { return strings.Contains(line, w) })
	}
	a, b = slices.Clone(a), slices.Clone(b)
	return diffLines(slices.DeleteFunc(a, has), slices.DeleteFunc(b, has))
}

// diffLines returns the lines only one side has, "-" first, or "".
func diffLines(a, b []string) string {
	count := map[string]int{}
	for _, s := range a {
		count[s]--
	}
	for _, s := range b {
		count[s]++
	}
	var out []string
	for s, n := range count {
		switch {
		case n < 0:
			out = append(out, "- "+s)
		case n > 0:
			out = append(out, "+ "+s)
		}
	}
	sort.Strings(out)
	return strings.Join(out, "\n")
}
