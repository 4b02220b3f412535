package testkit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Tree returns pid and all its descendants, parents first. It is empty if
// there is no such process.
func Tree(pid int) []int {
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err != nil {
		return nil
	}
	children := childrenByParent()
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree
}

// childrenByParent reads every process's parent from /proc/PID/stat. Processes
// that end meanwhile are left out.
func childrenByParent() map[int][]int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if ppid, ok := parent(pid); ok {
			children[ppid] = append(children[ppid], pid)
		}
	}
	return children
}

// parent returns the PPid field, the second one after the name's last ")".
func parent(pid int) (int, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	_, rest, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	if !ok {
		return 0, false
	}
	f := strings.Fields(rest)
	if len(f) < 2 {
		return 0, false
	}
	ppid, err := strconv.Atoi(f[1])
	return ppid, err == nil
}

// Status returns the named fields of /proc/PID/status (or of a thread, for
// "PID/task/TID") as "Name: value" lines in the order asked for.
func Status(t testing.TB, task string, names ...string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + task + "/status")
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
		return nil // it has ended
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if slices.Contains(names, name) {
			out = append(out, name+": "+strings.TrimSpace(value))
		}
	}
	return out
}

// MeantToStop is the name of a process that a target itself has stopped.
const MeantToStop = "meant-to-stop"

// Stopped returns the tasks of the tree that are stopped, as Unharmed takes them.
func Stopped(t testing.TB, pid int) (stopped []string) {
	t.Helper()
	eachTask(pid, func(task string, _ bool) {
		for _, line := range Status(t, task, "State") {
			if strings.HasPrefix(line, "State: T") {
				stopped = append(stopped, task)
			}
		}
	})
	return stopped
}

// eachTask calls f for every thread of the tree; meant: it is one of MeantToStop.
func eachTask(pid int, f func(task string, meant bool)) {
	for _, p := range Tree(pid) {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p))
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p))
		for _, dir := range tasks {
			f(strings.TrimPrefix(dir, "/proc/"), strings.TrimSpace(string(comm)) == MeantToStop)
		}
	}
}

// Unharmed fails the test if a task of the tree is traced or stopped, but for
// those called MeantToStop, and such as were stopped before. Tasks may end while it looks.
func Unharmed(t testing.TB, pid int, stopped ...string) {
	t.Helper()
	eachTask(pid, func(task string, meant bool) {
		meant = meant || slices.Contains(stopped, task)
		for _, line := range Status(t, task, "State", "TracerPid") {
			if strings.HasPrefix(line, "State: T") && !meant || strings.HasPrefix(line, "State: t") ||
				strings.HasPrefix(line, "TracerPid") && line != "TracerPid: 0" {
				t.Errorf("task %s left behind with %s", task, line)
			}
		}
	})
}
