package file

import (
	"fmt"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
)

func TestOwner(t *testing.T) {
	r, w := newPipeFDs(t, 0)
	pid, other := unix.Getpid(), exec.Command(testkit.RequireProgram(t, "sleep", "coreutils"), "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = other.Process.Kill() // it runs
		_ = other.Wait()
	}()
	if unix.Getpgrp() == 0 { // it is of another PID namespace
		if err := unix.Setpgid(0, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what string
		set  func() error
		ok   bool
	}{
		{"pid", func() error { _, err := unix.FcntlInt(uintptr(r), unix.F_SETOWN, pid); return err }, true},
		{"outside", func() error { _, err := unix.FcntlInt(uintptr(r), unix.F_SETOWN, other.Process.Pid); return err }, false},
		{"group", func() error { _, err := unix.FcntlInt(uintptr(r), unix.F_SETOWN, -unix.Getpgrp()); return err }, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			if err := c.set(); err != nil {
				t.Fatal(err)
			}
			if _, err := unix.FcntlInt(uintptr(r), 10, int(unix.SIGUSR1)); err != nil {
				t.Fatal(err)
			}
			g := self(t)
			g.add(r)
			g.add(w)
			if !c.ok {
				mustFail(t, g.dump(), fmt.Sprintf("its signals go to %d, which is outside of the tree", other.Process.Pid))
				return
			}
			made := g.roundTrip()
			a, err := linux.FcntlGetOwnerEx(r)
			b, err2 := linux.FcntlGetOwnerEx(made[1].Int())
			if err != nil || err2 != nil || a != b {
				t.Errorf("owner is %v, want %v (%v, %v)", b, a, err2, err)
			}
			if sig, _ := unix.FcntlInt(uintptr(made[1].Int()), 11, 0); sig != int(unix.SIGUSR1) {
				t.Errorf("signal is %d", sig)
			}
		})
	}
}

func TestOwnerOfAnotherUser(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("needs root")
	}
	r, _ := newPipeFDs(t, 0)
	o := owner{who: linuxOwner(unix.Getpid()), uid: 65534, euid: 65533}
	d := borrowSelf(t, r)
	if err := o.set(d); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	e, err := readOwner(g.env, &scan.File{Task: g.task, FD: int32(r)}, d)
	if err != nil || e.GetUid() != 65534 || e.GetEuid() != 65533 || proc.PID(e.GetPid()) != g.task.PID {
		t.Errorf("owner is %v, %v", e, err)
	}
	if unix.Geteuid() != 0 {
		t.Error("the test is another user now")
	}
	if n, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); n != 1 {
		t.Errorf("dumpable is %d", n)
	}
}

func TestOwnerHostile(t *testing.T) {
	for _, e := range []*fown.FownEntry{
		{Signum: proto.Uint32(65)}, {PidType: proto.Uint32(3)}, {Pid: proto.Uint32(1 << 31)},
	} {
		_, err := planOwner(e)
		mustFail(t, err, "can't be")
	}
	if o, err := planOwner(nil); err != nil || o != (owner{}) {
		t.Errorf("no owner is %v, %v", o, err)
	}
}
