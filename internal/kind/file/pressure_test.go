package file

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
)

// What was written to a file of pressure is written to the new one.
func TestPressure(t *testing.T) {
	memory := kmem.Share(pressureNames...)
	defer memory.Close()
	_, err := memory.Reader()
	testkit.KernelMemory(t, err)
	root := t.TempDir()
	if err := unix.Mount("none", root, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH) //nolint:errcheck // nothing was written
	group := fmt.Sprintf("%s/glis-pressure-%d", root, unix.Getpid())
	if err := unix.Mkdir(group, 0o700); err != nil {
		t.Fatal(err)
	}
	defer unix.Rmdir(group) //nolint:errcheck // it is empty
	for _, c := range []struct{ name, want string }{
		{"/proc/pressure/io", "some 150000 2000000"}, {"/proc/pressure/memory", "full 1 4000000"}, {"/proc/pressure/cpu", ""},
		{group + "/memory.pressure", "full 2000000 2000000"}, {group + "/cpu.pressure", ""},
	} {
		want := c.want
		n, err := unix.Open(c.name, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			testkit.Lacks(t, "pressure (CONFIG_PSI)", err, unix.ENOENT)
		}
		if err != nil {
			t.Fatal(err)
		}
		if want != "" {
			if _, err := unix.Write(n, []byte(want+"\x00")); err != nil {
				t.Fatal(err)
			}
		}
		g := self(t)
		f := g.add(n)
		again := g.roundTrip()[plan.ID(f.ID)]
		if got, err := readTrigger(memory, f.Link, again); got != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		if is, err := unix.Seek(again.Int(), 0, unix.SEEK_CUR); err != nil || is != f.Pos {
			t.Errorf("at %d, was at %d: %v", is, f.Pos, err)
		}
		unix.Close(n)
	}
}

func TestTrigger(t *testing.T) {
	for state, want := range []string{"some", "full", "some", "full", "some", "full", "full"} {
		if got := trigger(uint32(state), 7_000, 2_000_000); got != want+" 7 2000" {
			t.Errorf("%d: %s", state, got)
		}
	}
}

func TestPressureHostile(t *testing.T) {
	for _, c := range []struct {
		name, text string
		flags      uint32
	}{
		{"/etc/passwd", "some 1 2", unix.O_RDWR},
		{"/proc/pressure/cpu", "root::0:0::/:/bin/sh", unix.O_RDWR},
		{"/proc/pressure/cpu", "some 1 2", unix.O_RDONLY},
		{"/proc/pressure/cpu", "some 1 2\n", unix.O_RDWR},
	} {
		im, e := &images{}, &regfile.RegFileEntry{Id: proto.Uint32(1), Flags: proto.Uint32(c.flags), Pos: proto.Uint64(0), Name: proto.String(c.name), Mode: proto.Uint32(unix.S_IFREG), Fown: noOwner()}
		putBytes(e, regPressure, []byte(c.text))
		_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(1), Type: fdinfo.FdTypes_REG.Enum(), Reg: e}, nil)
		_, err := planAll(im, nil)
		mustFail(t, err, "no file of pressure")
	}
	// One that is called so, and is on another file system, is not written to.
	name := t.TempDir() + "/x.pressure"
	d := borrowSelf(t, open(t, name, unix.O_CREAT|unix.O_RDWR))
	n := &regularNode{name: name, more: &moreOfRegular{pressure: "some 1 2"}}
	mustFail(t, errors.Join(n.press(d)), "no file of pressure")
}
