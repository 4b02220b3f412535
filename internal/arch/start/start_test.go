package start_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"glis.dev/glis/internal/arch/start"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// said is what a program was started with, as it saw it.
type said struct {
	Args, Env  []string
	CPUs, Page int
	Heap       string
	Room       int
	Limit      string
}

func say(t *testing.T, args, env []string) (s said) {
	t.Helper()
	cmd := exec.Command(testkit.BuildGlis(t, "./testdata/say"), args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q %q: %v\n%s", args, env, err, out)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s
}

// A program that begins ahead of the Go runtime has its arguments, environment and
// auxiliary vector (of which the runtime has the size of a page) as any other, and
// one CPU unless the user said how many.
func TestStart(t *testing.T) {
	all := runtime.NumCPU()
	one := "GOMAXPROCS=" + start.One
	for _, c := range []struct {
		args, env, want []string
		cpus            int
	}{
		{nil, []string{}, []string{one}, 1},
		{[]string{""}, []string{"A=1"}, []string{one, "A=1"}, 1},
		{[]string{"-a", "b c"}, []string{"A=1", "B="}, []string{one, "A=1", "B="}, 1},
		{nil, []string{"GOMAXPRO=7", "GOMAXPROCS2=7", "=", "GOMAXPROC="}, []string{one, "GOMAXPRO=7", "GOMAXPROCS2=7", "=", "GOMAXPROC="}, 1},
		{nil, []string{"A=1", "GOMAXPROCS=3", "B=2"}, []string{"A=1", "GOMAXPROCS=3", "B=2"}, 3},
		{nil, []string{"GOMAXPROCS="}, []string{"GOMAXPROCS="}, all},
		{strings.Fields(strings.Repeat("x ", 1001)), []string{strings.Repeat("y=", 5000)}, []string{one, strings.Repeat("y=", 5000)}, 1},
	} {
		got := say(t, c.args, c.env)
		if !slices.Equal(got.Args[1:], c.args) || !slices.Equal(got.Env, c.want) || got.CPUs != c.cpus || got.Page != os.Getpagesize() {
			t.Errorf("%.60q %.60q: it saw %.300s", c.args, c.env, fmt.Sprint(got))
		}
	}
}

// Such a program has room for descriptors, whatever the soft limit, which is what it was.
func TestDescriptors(t *testing.T) {
	if start.Descriptors != fd.Plenty {
		t.Errorf("there is room for %d at the start and for %d later", start.Descriptors, fd.Plenty)
	}
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ set, soft, hard int }{{0, int(l.Cur), int(l.Max)}, {'S', 100, int(l.Max)}, {'H', 150, 150}} {
		var sh string
		if c.set != 0 {
			sh = fmt.Sprintf("ulimit -%cn %d; ", c.set, c.soft)
		}
		cmd := exec.Command("/bin/sh", "-c", sh+`exec "$0"`, testkit.BuildGlis(t, "./testdata/say"))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var s said
		if err := json.Unmarshal(out, &s); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if want := min(start.Descriptors, c.hard); s.Room < want || c.set == 'S' && s.Limit != fmt.Sprint(c.soft) {
			t.Errorf("%q: it has room for %d of %d descriptors, and its soft limit was %s", sh, s.Room, want, s.Limit)
		}
	}
}

// Where the Go runtime could not begin, or would panic as soon as it needs more, a program
// ends with a line that says what there is too little of.
func TestTooLittle(t *testing.T) {
	say := testkit.BuildGlis(t, "./testdata/say")
	for _, c := range []struct{ limit, want string }{
		{"ulimit -n 8", "ulimit -n"}, {"ulimit -n 3", "ulimit -n"},
		{"ulimit -v 400000", "ulimit -v"}, {"ulimit -v 1000000", "ulimit -v"},
		{"ulimit -s 16", "ulimit -s"}, {"ulimit -p 1", "ulimit -u"},
	} {
		program, err := os.Open(say)
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		cmd := exec.Command("/bin/sh", "-c", c.limit+`; exec /proc/self/fd/3`)
		cmd.ExtraFiles = []*os.File{program}
		if strings.HasPrefix(c.limit, "ulimit -p") { // of processes, which root does not heed
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
		}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(string(out), "Error (start): ") || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", c.limit, err, out)
		}
	}
}

// The heap of such a program consists of huge pages from its beginning, wherever the
// runtime has it begin.
func TestHeapHuge(t *testing.T) {
	for range 10 {
		if s := say(t, nil, nil); !strings.Contains(s.Heap, " hg") {
			if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
				testkit.Lacks(t, "huge pages", err, syscall.ENOENT)
			}
			t.Fatalf("the heap is in a mapping with %q", s.Heap)
		}
	}
}
