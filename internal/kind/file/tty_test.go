package file

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// newTerminal makes a terminal and returns both its ends.
func newTerminal(t *testing.T) (master, slave int) {
	t.Helper()
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		testkit.Lacks(t, "pseudo-terminals", err, unix.ENOENT)
	}
	own(t, m, nil)
	if err := unix.IoctlSetPointerInt(m, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(m, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	s, err := unix.Open(fmt.Sprintf("/dev/pts/%d", uint32(n)), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		testkit.Lacks(t, "/dev/pts", err, unix.ENOENT)
	}
	return m, own(t, s, nil)
}

func TestTTYDump(t *testing.T) {
	_, s := newTerminal(t)
	g := self(t)
	g.add(s)
	mustFail(t, g.dump(), "use --shell-job", "/dev/pts/")
	g = self(t)
	f := g.add(s)
	g.env.Options.ShellJob = true
	g.task.Stat.TTY, g.task.Stat.Session, g.task.Stat.Tpgid = uint32(f.Stat.Rdev), 4711, 4712
	g.mustDump()
	files, _ := g.im.Entries(image.Files)
	if len(files) != 2 {
		t.Fatalf("%d files, want the terminal and its path", len(files))
	}
	e := files[0].Message.(*fdinfo.FileEntry).GetTty()
	reg := files[1].Message.(*fdinfo.FileEntry).GetReg()
	if e.GetRegfId() != reg.GetId() || reg.GetName() != f.Link {
		t.Errorf("entries are %v, %v", e, reg)
	}
	infos, _ := g.im.Entries(image.TTYInfo)
	i := infos[0].Message.(*tty.TtyInfoEntry)
	if i.GetId() != e.GetTtyInfoId() || i.GetId() != 2*i.GetPty().GetIndex() || i.GetSid() != 4711 || i.GetPgrp() != 4712 || len(i.GetTermios().GetCCc()) != 19 {
		t.Errorf("info is %v", i)
	}
}

func TestTTYRefused(t *testing.T) {
	m, s := newTerminal(t)
	_, s2 := newTerminal(t)
	g := self(t)
	g.env.Options.ShellJob = true
	g.add(s)
	g.add(s2)
	mustFail(t, g.dump(), "another terminal, too")

	g = self(t)
	g.env.Options.ShellJob = true
	f := g.add(s)
	g.task.Stat.TTY, g.task.Stat.Session = uint32(f.Stat.Rdev), g.task.PID
	mustFail(t, g.dump(), "the leader of the session")

	unix.Close(m)
	g = self(t)
	g.add(s)
	if err := g.dump(); err != nil {
		t.Error("a slave that was hung up:", err)
	}
}

// stdin puts a descriptor in the place of the standard input.
func stdin(t *testing.T, n int) {
	t.Helper()
	old, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup2(n, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Dup2(old, 0); err != nil {
			t.Error(err)
		}
		unix.Close(old)
	})
}

func TestTTYRestore(t *testing.T) {
	_, s := newTerminal(t)
	g := self(t)
	g.env.Options.ShellJob = true
	g.add(s)
	g.mustDump()
	_, err := planAll(g.im, nil)
	mustFail(t, err, "use --shell-job")

	m2, s2 := newTerminal(t)
	stdin(t, s2)
	p, err := planAll(g.im, &options.Restore{Both: options.Both{ShellJob: true}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.Node(1).Create(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	write(t, m2, "typed\n")
	b := make([]byte, 10)
	if n, err := unix.Read(d.Int(), b); err != nil || string(b[:n]) != "typed\n" {
		t.Errorf("read %q, %v", b[:max(n, 0)], err)
	}
	if err := unix.SetNonblock(d.Int(), true); err != nil {
		t.Fatal(err)
	}
	if flagsOf(t, 0)&unix.O_NONBLOCK != 0 {
		t.Error("the caller's own descriptor is changed")
	}
}

// ttyImage is an image with a terminal.
func ttyImage(i *tty.TtyInfoEntry) *images {
	im := &images{}
	e := &tty.TtyFileEntry{Id: proto.Uint32(1), TtyInfoId: proto.Uint32(6), Flags: proto.Uint32(2), Fown: noOwner()}
	_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(1), Type: fdinfo.FdTypes_TTY.Enum(), Tty: e}, nil)
	_ = im.Put(image.PsTree, &pstree.PstreeEntry{Pid: proto.Uint32(9), Pgid: proto.Uint32(9)}, nil)
	if i != nil {
		_ = im.Put(image.TTYInfo, i, nil)
	}
	return im
}

func ttyInfoFor(typ tty.TtyType, cc int, pgrp uint32) *tty.TtyInfoEntry {
	return &tty.TtyInfoEntry{Id: proto.Uint32(6), Type: typ.Enum(), Pgrp: proto.Uint32(pgrp), Termios: &tty.TermiosEntry{CCc: make([]uint32, cc)}}
}

func TestTTYPlan(t *testing.T) {
	job := &options.Restore{Both: options.Both{ShellJob: true}}
	hung := ttyInfoFor(tty.TtyType_PTY, 19, 0)
	hung.Termios = nil
	pair := ttyImage(ttyInfoFor(tty.TtyType_PTY, 19, 0))
	_ = pair.Put(image.TTYInfo, &tty.TtyInfoEntry{Id: proto.Uint32(7), Type: tty.TtyType_PTY.Enum(), Pty: &tty.TtyPtyEntry{Index: proto.Uint32(4)}}, nil)
	settings := ttyInfoFor(tty.TtyType_PTY, 20, 0)
	settings.Id, settings.Pty = proto.Uint32(7), &tty.TtyPtyEntry{Index: proto.Uint32(3)}
	odd := ttyImage(ttyInfoFor(tty.TtyType_PTY, 19, 0))
	_ = odd.Put(image.TTYInfo, settings, nil)
	for _, c := range []struct {
		im   *images
		want string
	}{
		{ttyImage(nil), "missing in tty-info.img"},
		{ttyImage(hung), "hung up"},
		{ttyImage(ttyInfoFor(tty.TtyType_PTY, 20, 0)), "20 control characters"},
		{ttyImage(ttyInfoFor(tty.TtyType_SERIAL, 19, 0)), "of type SERIAL"},
		{pair, "it can't be"},
		{odd, "20 control characters"},
	} {
		_, err := planAll(c.im, job)
		mustFail(t, err, c.want)
	}
	p, err := planAll(ttyImage(ttyInfoFor(tty.TtyType_PTY, 19, 9)), job)
	if err != nil || p.Node(1).String() != "terminal 0x1: the caller's, group 9 in the foreground" {
		t.Error(p.Node(1), err)
	}
}
