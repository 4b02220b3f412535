package file

import (
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
)

// Entries without what they should have.
func TestEmptyEntries(t *testing.T) {
	for _, k := range allKinds() {
		im := &images{}
		_ = im.Put(image.Files, &fdinfo.FileEntry{Id: proto.Uint32(1), Type: k.Type().Enum()}, nil)
		_, err := planAll(im, nil)
		mustFail(t, err, "file 0x1")
	}
}

func TestWrongNumber(t *testing.T) {
	im := eventfdImage(2, 0)
	im.rows[image.Files.FileName()][0].Message.(*fdinfo.FileEntry).Id = proto.Uint32(2)
	_, err := planAll(im, nil)
	mustFail(t, err, "file 0x2: inside it is called 0x1")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// BenchmarkRegular is what one open regular file costs while the tree stands
// still.
func BenchmarkRegular(b *testing.B) {
	t := &testing.T{}
	g := self(t)
	name := b.TempDir() + "/file"
	f := g.add(open(t, name, 0o102))
	k := &Regular{}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Dump(b.Context(), g.env, f); err != nil {
			b.Fatal(err)
		}
	}
}
