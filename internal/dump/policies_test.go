package dump

import (
	"bufio"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

// A part of memory with a policy of its own is refused by name; a process with one for all
// of it is not.
func TestPolicies(t *testing.T) {
	_, _, e := unix.Syscall6(unix.SYS_GET_MEMPOLICY, 0, 0, 0, 0, 0, 0)
	if e != 0 {
		testkit.Lacks(t, "NUMA policies (CONFIG_NUMA)", e, unix.ENOSYS)
	}
	program := testkit.BuildC(t, "testdata/mbind.c")
	for how, refused := range map[string]bool{"none": false, "all": false, "part": true, "both": true} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command(program, how)
			out, err1 := cmd.StdoutPipe()
			in, err2 := cmd.StdinPipe()
			if err := errors.Join(err1, err2, cmd.Start()); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait() //nolint:errcheck // it ends when its input does
			defer in.Close() //nolint:errcheck // nothing was written
			at, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			err = noPolicies([]proc.PID{proc.PID(cmd.Process.Pid)})
			if refused != errors.Is(err, kind.ErrUnsupported) || !refused && err != nil {
				t.Errorf("got %v", err)
			}
			if refused && (!strings.Contains(err.Error(), strings.TrimSpace(at)) || !strings.Contains(err.Error(), "bind:0")) {
				t.Errorf("memory at %s with bind:0: got %v", at, err)
			}
		})
	}
}

func TestOwnPolicy(t *testing.T) {
	for _, tt := range []struct{ maps, at, policy string }{
		{"", "", ""},
		{"7000 default\n8000 default anon=1\n", "", ""},
		{"7000 bind:0 file=/x mapped=2\n8000 bind:0 heap anon=1\n", "", ""},
		{"7000 default file=/a\\040(deleted) mapped=2\n8000 default\n9000 interleave=static:0-1 anon=1 N0=1\n", "9000", "interleave=static:0-1"},
		{"7000 prefer (many):0-1 anon=1\n8000 prefer (many):0-1\n9000 prefer:0\n", "9000", "prefer:0"},
		{"7000 default\n8000 weighted interleave:0-1 huge\n9000 default\n", "8000", "weighted interleave:0-1"},
		{"7000\n\n", "", ""},
	} {
		if at, policy, ok := ownPolicy([]byte(tt.maps)); at != tt.at || policy != tt.policy || ok != (at != "") {
			t.Errorf("%q: %q, %q, %v", tt.maps, at, policy, ok)
		}
	}
}

// Where nobody tells how many nodes there are, policies are looked for.
func TestSeveralNodes(t *testing.T) {
	for list, want := range map[string]bool{"0\n": false, "0-1\n": true, "0,4\n": true} {
		if got := several([]byte(list), nil); got != want {
			t.Errorf("%q: %v", list, got)
		}
	}
	if !several(nil, unix.ENOENT) {
		t.Error("one node, if none is told of")
	}
}
