package file

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/pipe"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/options"
)

// byPath opens what a descriptor is with O_PATH.
func byPath(t *testing.T, n int) int {
	return open(t, fmt.Sprintf("/proc/self/fd/%d", n), unix.O_PATH)
}

// A pipe that was opened with O_PATH is the same pipe afterwards, and that is no end of it.
func TestPipeByPath(t *testing.T) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	own(t, ends[0], nil)
	path := byPath(t, ends[0])
	g := self(t)
	p, r := g.add(path), g.add(ends[0])
	if err := unix.Close(ends[1]); err != nil {
		t.Fatal(err)
	}
	made := g.roundTrip()
	again := made[plan.ID(p.ID)].Int()
	var is, end unix.Stat_t
	if err := unix.Fstat(again, &is); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fstat(made[plan.ID(r.ID)].Int(), &end); err != nil || is.Ino != end.Ino {
		t.Errorf("inode %d, and that of its end %d, %v", is.Ino, end.Ino, err)
	}
	if flags := flagsOf(t, again); flags != unix.O_PATH {
		t.Errorf("flags %#o", flags)
	}
	if n, err := unix.Read(made[plan.ID(r.ID)].Int(), make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("not the end of the file: %d, %v", n, err)
	}
}

// A namespace that was opened with O_PATH is that of whoever restores, as others are.
func TestNamespaceByPath(t *testing.T) {
	g := self(t)
	f := g.add(open(t, "/proc/self/ns/uts", unix.O_PATH))
	e, err := NSFile{}.Dump(context.Background(), g.env, f)
	if !(NSFile{}).Match(f) || err != nil {
		t.Fatal(err)
	}
	e.Id, e.Nsf.NsId = proto.Uint32(f.ID), proto.Uint32(0) // the images have no inventory
	p := plan.New(&images{}, nil)
	if err := (NSFile{}).Plan(p, e); err != nil {
		t.Fatal(err)
	}
	d, err := p.Node(plan.ID(f.ID)).Create(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if is := g.add(d.Int()); is.Link != f.Link || flagsOf(t, d.Int()) != unix.O_PATH {
		t.Errorf("%s with flags %#o, not %s", is.Link, flagsOf(t, d.Int()), f.Link)
	}
}

// A memfd that was opened with O_PATH is the one that another descriptor is of, or has what
// was in it if there is none.
func TestMemfdByPath(t *testing.T) {
	for _, alone := range []bool{false, true} {
		mem, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC)
		if err == nil {
			_, err = unix.Pwrite(mem, []byte("held"), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		path := byPath(t, mem)
		g := self(t)
		p := g.add(path)
		var other *scan.File
		if alone {
			unix.Close(mem)
		} else {
			other = g.add(own(t, mem, nil))
		}
		g.mustDump()
		r := newRedo(t, g.im)
		putPages(t, r.env.Store, p.Stat.Ino, []byte("held"))
		made := r.mustCreate()
		again := made[plan.ID(p.ID)].Int()
		if flags := flagsOf(t, again); flags&^unix.O_LARGEFILE != unix.O_PATH {
			t.Errorf("flags %#o", flags)
		}
		b := make([]byte, 4)
		if n, err := unix.Read(open(t, fmt.Sprintf("/proc/self/fd/%d", again), unix.O_RDONLY), b); err != nil || string(b[:n]) != "held" {
			t.Errorf("alone %v: it holds %q, %v", alone, b[:n], err)
		}
		var its, st unix.Stat_t
		if err := unix.Fstat(again, &st); err != nil {
			t.Fatal(err)
		}
		if !alone && (unix.Fstat(made[plan.ID(other.ID)].Int(), &its) != nil || its.Ino != st.Ino) {
			t.Errorf("inode %d, and that of the other %d", st.Ino, its.Ino)
		}
	}
}

// What can't be told by O_PATH is refused by name.
func TestPathOnly(t *testing.T) {
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	own(t, ev, err)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, c := range []struct {
		fd   int
		want string
	}{{ev, "an eventfd file that was opened with O_PATH"}, {int(r.Fd()), "a pipe that was opened with O_PATH"}} {
		g := self(t)
		g.add(byPath(t, c.fd))
		mustFail(t, g.dump(), c.want)
	}
}

func TestHostilePipeByPath(t *testing.T) {
	im := &images{}
	e := &pipe.PipeEntry{Id: proto.Uint32(1), PipeId: proto.Uint32(9), Flags: proto.Uint32(unix.O_PATH), Fown: noOwner()}
	_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(1), Type: fdinfo.FdTypes_PIPE.Enum(), Pipe: e}, nil)
	k, p := &Pipe{}, plan.New(im, nil)
	if err := k.Plan(p, im.rows[image.Files.FileName()][0].Message.(*fdinfo.FileEntry)); err != nil {
		t.Fatal(err)
	}
	mustFail(t, k.Planned(), "no file is an end")
}

// The file of a slave is there as long as its master is, which a restore has to make first.
func TestSlaveByPath(t *testing.T) {
	m, s := newTerminal(t)
	g := self(t)
	path := g.add(byPath(t, s))
	master := g.add(m)
	g.add(s)
	g.mustDump()
	p, err := planAll(g.im, &options.Restore{})
	if err != nil {
		t.Fatal(err)
	}
	n := p.Node(plan.ID(path.ID)).(*regularNode)
	if needs := n.Needs(); !slices.Equal(needs, []plan.ID{plan.ID(master.ID)}) || n.Independent() {
		t.Errorf("%v needs %v, and not %d alone", n, needs, master.ID)
	}
}
