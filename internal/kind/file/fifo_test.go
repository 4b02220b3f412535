package file

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fifo"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// A writer elsewhere is told from a FIFO that nobody has written to yet.
func TestFifoOutside(t *testing.T) {
	name := t.TempDir() + "/fifo"
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, name, unix.O_RDONLY|unix.O_NONBLOCK)
	g := self(t)
	g.add(r)
	g.mustDump()
	open(t, name, unix.O_WRONLY)
	g = self(t)
	g.add(r)
	mustFail(t, g.dump(), "writing is held outside")
}

func TestFifoHostile(t *testing.T) {
	im := &images{}
	entry := &fifo.FifoEntry{Id: proto.Uint32(1), PipeId: proto.Uint32(7), RegfId: proto.Uint32(1)}
	_ = im.Put(image.Files, &fdinfo.FileEntry{Type: fdinfo.FdTypes_FIFO.Enum(), Id: proto.Uint32(1), Fifo: entry}, nil)
	k := &Fifo{}
	p := plan.New(im, nil)
	all, _ := im.Entries(image.Files)
	if err := k.Plan(p, all[0].Message.(*fdinfo.FileEntry)); err != nil {
		t.Fatal(err)
	}
	mustFail(t, k.Planned(), "whose path", "missing")
	_ = im.Put(image.FifoData, &pipedata.PipeDataEntry{PipeId: proto.Uint32(7), Bytes: proto.Uint32(0), Size: proto.Uint32(1<<31 + 1)}, nil)
	mustFail(t, (&Fifo{}).Plan(plan.New(im, nil), all[0].Message.(*fdinfo.FileEntry)), "fifo-data.img")
	mustFail(t, (&Fifo{}).Plan(p, &fdinfo.FileEntry{}), "without its entry")
}
