package testkit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
)

// Program is a target that knows the save point protocol.
type Program struct {
	Argv        []string // the executable and its arguments; the folder comes behind them
	Generations int      // save points to pass, 2 if zero
	DumpArgs    []string
	RestoreArgs []string
	Changing    bool // threads, mappings or descriptors come and go by themselves
	// Compared makes of a line what is compared of it, "" if it is not to be; nil: all.
	Compared func(line string) string
	Begin    func(t *testing.T) // called before it is started; may be nil
}

// Engines are who dumps and who restores, usually the same.
type Engines struct{ Saver, Restorer Engine }

// Observations are what a target saw: Seen[n] before save point n, the last
// one after the last save point.
type Observations struct{ Seen [][]string }

// RoundTrip runs the program natively first, then killed and restored at
// every save point, then dumped and left running, and compares what it sees.
// Lines that begin with "=" (addresses, PIDs) must stay the same within one
// run; all others must be what the native run printed.
func RoundTrip(t *testing.T, e Engines, p Program) {
	t.Helper()
	want := Restored(t, e, p)
	t.Run("running", func(t *testing.T) {
		NoLeaks(t)
		compare(t, want, p.run(t, func(t *testing.T, proc *Proc, n int) {
			LeaveRunning(t, e.Saver, proc.PID, p)
		}))
	})
}

// Restored is the first half of RoundTrip: natively, then killed and restored.
// It returns what the native run saw.
func Restored(t *testing.T, e Engines, p Program) Observations {
	t.Helper()
	want := Native(t, p)
	t.Run("restored", func(t *testing.T) {
		NoLeaks(t)
		compare(t, want, p.run(t, func(t *testing.T, proc *Proc, n int) {
			img := NewDir(t)
			e.Saver.Save(t, proc.PID, img, p.DumpArgs...)
			if pid := e.Restorer.Restore(t, img, p.RestoreArgs...); pid != proc.PID {
				t.Fatalf("restored as %d, was %d", pid, proc.PID)
			}
			Unharmed(t, proc.PID)
		}))
	})
	return want
}

// Compared runs the program natively, and then once more with act at every save
// point, and compares what it sees.
func Compared(t *testing.T, p Program, act func(t *testing.T, proc *Proc, n int)) {
	t.Helper()
	NoLeaks(t)
	compare(t, p.run(t, func(*testing.T, *Proc, int) {}), p.run(t, act))
}

// Native runs the program without an engine: a target that fails by itself
// says nothing about one.
func Native(t *testing.T, p Program) Observations {
	t.Helper()
	var o Observations
	ok := t.Run("native", func(t *testing.T) {
		NoLeaks(t)
		o = p.run(t, func(*testing.T, *Proc, int) {})
		for _, line := range constants(o) {
			t.Error(line)
		}
	})
	if !ok {
		t.FailNow()
	}
	return o
}

// LeaveRunning dumps with --leave-running and checks that nothing of the
// engine stays in the tree.
func LeaveRunning(t testing.TB, e Engine, pid int, p Program) {
	t.Helper()
	before := Look(t, pid)
	kept, _ := filepath.Glob(keptPrograms)
	img := NewDir(t)
	e.Save(t, pid, img, append([]string{"--leave-running"}, p.DumpArgs...)...)
	letGo(img, kept)
	Unharmed(t, pid)
	if p.Changing {
		return
	}
	if diff := diffLines(before, Look(t, pid)); diff != "" {
		t.Errorf("the dump changed the tree:\n%s", diff)
	}
}

// run starts the program and acts at every save point.
func (p Program) run(t *testing.T, act func(*testing.T, *Proc, int)) Observations {
	t.Helper()
	generations := max(p.Generations, 1)
	if p.Generations == 0 {
		generations = 2
	}
	if p.Begin != nil {
		p.Begin(t)
	}
	dir := NewDir(t)
	proc := Start(t, dir, append(p.Argv, dir)...)
	for n := range generations {
		proc.AwaitAt(t, n)
		act(t, proc, n)
		proc.Go(t, n, n == generations-1)
	}
	proc.WaitExit(t, 0)
	var o Observations
	for n := range generations + 1 {
		o.Seen = append(o.Seen, p.compared(observation(t, dir, n)))
	}
	return o
}

// compared is what is compared of lines.
func (p Program) compared(lines []string) (out []string) {
	if p.Compared == nil {
		return lines
	}
	for _, l := range lines {
		if l = p.Compared(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// observation joins what all tasks of the target wrote at one point.
func observation(t *testing.T, dir string, n int) []string {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, fmt.Sprintf("obs.%d.*", n)))
	sort.Strings(names)
	if len(names) == 0 {
		t.Fatalf("the target wrote no observation %d%s", n, targetError(dir))
	}
	var out []string
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		who := strings.SplitN(filepath.Base(name), ".", 3)[2]
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			if rest, ok := strings.CutPrefix(line, "="); ok {
				out = append(out, "="+who+": "+rest)
			} else {
				out = append(out, who+": "+line)
			}
		}
	}
	return out
}

// compare checks a run against the native one and against itself.
func compare(t *testing.T, want, got Observations) {
	t.Helper()
	for n := range want.Seen {
		if diff := diffLines(varying(want.Seen[n]), varying(got.Seen[n])); diff != "" {
			t.Errorf("after save point %d (- native, + here):\n%s", n-1, diff)
		}
	}
	for _, line := range constants(got) {
		t.Error(line)
	}
}

// varying returns the lines that are compared with the native run.
func varying(lines []string) []string {
	var out []string
	for _, l := range lines {
		if !strings.HasPrefix(l, "=") {
			out = append(out, l)
		}
	}
	return out
}

// constants returns a complaint for every "=" line that changed during a run.
func constants(o Observations) []string {
	var first, out []string
	for n, seen := range o.Seen {
		var these []string
		for _, l := range seen {
			if strings.HasPrefix(l, "=") {
				these = append(these, l)
			}
		}
		if n == 0 {
			first = these
		} else if diff := diffLines(first, these); diff != "" {
			out = append(out, fmt.Sprintf("changed between save point 0 and %d:\n%s", n, diff))
		}
	}
	return out
}

// keptPrograms are the names of BPF programs that a dump has the kernel keep.
const keptPrograms = "/sys/fs/bpf/glis-*"

// letGo removes those that a dump's images name and that were not there before: nobody
// restores from a dump that left its tree running. Others may dump meanwhile.
func letGo(img string, before []string) {
	now, _ := filepath.Glob(keptPrograms)
	now = slices.DeleteFunc(now, func(path string) bool { return slices.Contains(before, path) })
	if len(now) == 0 {
		return
	}
	files, _ := filepath.Glob(filepath.Join(img, "*.img"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, path := range now {
			if bytes.Contains(text, []byte(path)) {
				_ = os.Remove(path)
			}
		}
	}
}
