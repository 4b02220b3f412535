package file

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/image/protowire"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
)

// What was asked for by a directory's descriptor is in the image, and is asked for again
// by the same one.
func TestNotices(t *testing.T) {
	r, err := kmem.Open()
	testkit.KernelMemory(t, err)
	r.Close()
	name := t.TempDir()
	for _, args := range []int{linux.DN_ACCESS, linux.DN_MULTISHOT | linux.DN_CREATE | linux.DN_DELETE, linux.DN_MODIFY | linux.DN_RENAME | linux.DN_ATTRIB} {
		n := open(t, name, unix.O_RDONLY|unix.O_DIRECTORY)
		// A thread that isn't the first makes nobody the owner, as Linux 6.18 has it.
		if _, err := unix.FcntlInt(uintptr(n), unix.F_SETOWN, unix.Getpid()); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(uintptr(n), unix.F_NOTIFY, args); err != nil {
			t.Fatal(err)
		}
		g := self(t)
		f := g.add(n)
		g.mustDump()
		p, err := planAll(g.im, nil)
		if err != nil {
			t.Fatal(err)
		}
		node := p.Node(plan.ID(f.ID)).(*regularNode)
		if want := []asking{{uint32(unix.Getpid()), int32(n), uint32(args)}}; !slices.Equal(node.has().asks, want) {
			t.Errorf("%#x: %v", args, node.has().asks)
		}
		mustFail(t, node.Check(nil), "asks for signals by descriptor")
		p.Use(node.id, plan.Use{Task: uint32(unix.Getpid()), FD: int32(n)})
		if err := node.Check(nil); err != nil {
			t.Error(err)
		}
		unix.Close(n)
	}
}

// Whether somebody asks for signals by a directory (F_NOTIFY) is known without that Glis does so
// itself, which fs.dir-notify-enable of 0 forbids, if nobody watches it.
func TestNoticesUnasked(t *testing.T) {
	r, err := kmem.Open()
	testkit.KernelMemory(t, err)
	r.Close()
	k := &Regular{}
	defer k.Close() //nolint:errcheck // nothing was written
	owned := func() *fd.FD {
		n := open(t, t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY)
		if _, err := unix.FcntlInt(uintptr(n), unix.F_SETOWN, unix.Getpid()); err != nil {
			t.Fatal(err)
		}
		return fd.New(n)
	}
	if all, err := k.notices(&scan.File{}, owned()); err != nil || len(all) != 0 || k.notifiers != 0 {
		t.Errorf("nobody asks: %d do, %v, looked for by a mark of its own: %v", len(all), err, k.notifiers != 0)
	}
	d := owned()
	if _, err := unix.FcntlInt(uintptr(d.Int()), unix.F_NOTIFY, linux.DN_CREATE|linux.DN_MULTISHOT); err != nil {
		testkit.Lacks(t, "dnotify (CONFIG_DNOTIFY, fs.dir-notify-enable)", err, unix.EINVAL)
	}
	if all, err := k.notices(&scan.File{}, d); err != nil || len(all) != 1 {
		t.Errorf("one asks: %d do, %v", len(all), err)
	}
}

// What can't be told of a mask is not taken for less.
func TestNoticeBits(t *testing.T) {
	for _, c := range []struct {
		mask, args uint32
		ok         bool
	}{{0x0800_0001, linux.DN_ACCESS, true}, {0x2800_0240, linux.DN_DELETE | linux.DN_MULTISHOT, true}, {0x0800_0200, 0, false}, {0x0900_0001, 0, false}} {
		if args, ok := (notice{mask: c.mask}).args(); ok != c.ok || ok && args != c.args {
			t.Errorf("%#x: %#x, %v", c.mask, args, ok)
		}
	}
}

func TestNoticesHostile(t *testing.T) {
	three := protowire.AppendVarint(protowire.AppendVarint(protowire.AppendVarint(nil, 1), 2), 3)
	for _, c := range []struct {
		mode, flags uint32
		b           []byte
		want        string
	}{
		{unix.S_IFREG, 0, three, "no open directory"},
		{unix.S_IFDIR, unix.O_PATH, three, "no open directory"},
		{unix.S_IFDIR, 0, three[:2], "can't be read"},
		{unix.S_IFDIR, 0, append(three, 0x80), "can't be read"},
		{unix.S_IFDIR, 0, protowire.AppendVarint(nil, 1<<32), "can't be read"},
	} {
		im, e := &images{}, &regfile.RegFileEntry{Id: proto.Uint32(1), Flags: proto.Uint32(c.flags), Pos: proto.Uint64(0), Name: proto.String("/x"), Mode: proto.Uint32(c.mode), Fown: noOwner()}
		putBytes(e, regNotify, c.b)
		_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(1), Type: fdinfo.FdTypes_REG.Enum(), Reg: e}, nil)
		_, err := planAll(im, nil)
		mustFail(t, err, c.want)
	}
}
