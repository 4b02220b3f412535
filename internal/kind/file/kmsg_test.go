package file

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/testkit"
)

// A reader of the kernel's log goes on where it was.
func TestKmsg(t *testing.T) {
	memory := kmem.Share(logNames...)
	defer memory.Close()
	_, err := memory.Reader()
	testkit.KernelMemory(t, err)
	w, err := unix.Open("/dev/kmsg", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		testkit.Lacks(t, "/dev/kmsg", err, unix.ENOENT, unix.EPERM)
	}
	own(t, w, err)
	for range 3 {
		if _, err := unix.Write(w, []byte("<7>glis: a test\n")); err != nil {
			t.Fatal(err)
		}
	}
	for name, place := range map[string]func(n int) error{
		"at the beginning":  func(int) error { return nil },
		"at the end":        func(n int) error { _, err := unix.Seek(n, 0, unix.SEEK_END); return err },
		"behind the oldest": func(n int) error { _, err := readMessage(fd.New(n)); return err },
		"behind two": func(n int) error {
			_, err := readMessage(fd.New(n))
			if err == nil {
				_, err = readMessage(fd.New(n))
			}
			return err
		},
	} {
		n := open(t, "/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK)
		if err := place(n); err != nil {
			t.Fatal(name, err)
		}
		g := self(t)
		f := g.add(n)
		again := g.roundTrip()[plan.ID(f.ID)]
		was, err := nextMessage(memory, fd.New(n))
		// Old messages go while others come.
		if is, err2 := nextMessage(memory, again); is < was || is > was && name == "at the end" || err != nil || err2 != nil {
			t.Errorf("%s: at %d, was at %d: %v, %v", name, is, was, err, err2)
		}
	}
}

// Who was further than the log of this boot goes begins with its oldest message.
func TestKmsgOfAnother(t *testing.T) {
	d := borrowSelf(t, open(t, "/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK))
	first, err := readMessage(borrowSelf(t, open(t, "/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK)))
	if err != nil {
		t.Fatal(err)
	}
	far := uint64(1) << 60
	n := &regularNode{name: "/dev/kmsg", more: &moreOfRegular{message: &far}}
	if err := n.readOn(d); err != nil {
		t.Fatal(err)
	}
	if got, err := readMessage(d); got < first || err != nil {
		t.Errorf("it reads %d, %v; want %d at least", got, err, first)
	}
	mustFail(t, n.readOn(borrowSelf(t, open(t, "/dev/null", unix.O_RDONLY))), "no /dev/kmsg any more")
}

func TestKmsgHostile(t *testing.T) {
	for _, c := range []struct{ mode, flags uint32 }{{unix.S_IFREG, unix.O_RDONLY}, {unix.S_IFCHR, unix.O_WRONLY}, {unix.S_IFCHR, unix.O_PATH}} {
		im, e := &images{}, &regfile.RegFileEntry{Id: proto.Uint32(1), Flags: proto.Uint32(c.flags), Pos: proto.Uint64(0), Name: proto.String("/dev/kmsg"), Mode: proto.Uint32(c.mode), Fown: noOwner()}
		putVarint(e, regLog, 7)
		_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(1), Type: fdinfo.FdTypes_REG.Enum(), Reg: e}, nil)
		_, err := planAll(im, nil)
		mustFail(t, err, "no log of the kernel's")
	}
}
