package dump

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
)

// inRecvmmsg is a program that waits in recvmmsg(2), with one of two messages, and what it says
// of the next call in the end.
type inRecvmmsg struct {
	*testkit.Proc
	t    *testing.T
	task *scan.Task
}

func startRecvmmsg(t *testing.T) *inRecvmmsg {
	dir := testkit.NewDir(t)
	p := &inRecvmmsg{Proc: testkit.Start(t, dir, testkit.BuildC(t, "../../test/targets/recvmmsg.c"), "."), t: t}
	in := fmt.Sprintf("%d ", unix.SYS_RECVMMSG)
	testkit.Poll(t, "it waits", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", p.PID))
		return err == nil && strings.HasPrefix(string(b), in)
	})
	d, err := proc.Open(proc.PID(p.PID))
	must(t, err)
	t.Cleanup(func() { d.Close() })
	p.task = &scan.Task{PID: proc.PID(p.PID), Dir: d}
	return p
}

// says returns how the next call has ended.
func (p *inRecvmmsg) says() (says string) {
	testkit.Poll(p.t, "it goes on", func() bool {
		b, err := os.ReadFile(filepath.Join(p.Dir, "says.0"))
		says = string(b)
		return err == nil && strings.HasSuffix(says, ".")
	})
	return says
}

// fails has its socket meet an error by itself, when it has stopped: its peer goes elsewhere
// and leaves a message unread.
func (p *inRecvmmsg) fails() error {
	pidfd, err := fd.Task(p.PID)
	if err != nil {
		return err
	}
	defer pidfd.Close()
	var ends [2]*fd.FD
	for i := range ends {
		if ends[i], err = fd.Borrow(pidfd.Int(), int32(3+i)); err != nil {
			return err
		}
		defer ends[i].Close()
	}
	// What the stop has left is told to who sends.
	if err := unix.Sendto(ends[0].Int(), []byte("x"), unix.MSG_DONTWAIT, nil); !errors.Is(err, unix.Errno(512)) {
		return fmt.Errorf("the stop has left %v", err)
	}
	if err := unix.Sendto(ends[0].Int(), []byte("x"), unix.MSG_DONTWAIT, nil); err != nil {
		return err
	}
	return linux.Connect(ends[1].Int(), binary.NativeEndian.AppendUint16(nil, unix.AF_UNSPEC))
}

// A dump that has to end leaves nothing of its stop at the socket of a recvmmsg(2), and takes
// no error that the call has met by itself; where the kernel's memory can't be read it says so.
func TestForgetStop(t *testing.T) {
	testkit.RequireRoot(t)
	p := startRecvmmsg(t)
	must(t, cutShort(t, p.task, []proc.TID{proc.TID(p.PID)}, true, func() error { return nil }))
	if got, want := p.says(), fmt.Sprintf("1, -1 %d.", int(unix.EAGAIN)); got != want {
		t.Errorf("after the stop it says %q, want %q", got, want)
	}

	if r, err := kmem.Open("sock.sk_err"); errors.Is(err, kmem.ErrUnavailable) {
		testkit.KernelMemory(t, err)
	} else {
		must(t, errors.Join(err, r.Close()))
	}
	p = startRecvmmsg(t)
	must(t, cutShort(t, p.task, []proc.TID{proc.TID(p.PID)}, true, p.fails))
	if got, want := p.says(), fmt.Sprintf("1, -1 %d.", int(unix.ECONNRESET)); got != want {
		t.Errorf("with an error of its own it says %q, want %q", got, want)
	}

	t.Setenv(bpf.Off, "1")
	p = startRecvmmsg(t)
	err := cutShort(t, p.task, []proc.TID{proc.TID(p.PID)}, true, p.fails)
	if !errors.Is(err, unix.ECONNRESET) || !strings.Contains(err.Error(), "had met an error") {
		t.Errorf("where nobody tells which error it is: %v", err)
	}
}
