package file

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	remap "glis.dev/glis/image/criu/remap-file-path"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
)

// alone are entries that are no question, whatever the others are.
type alone struct {
	plain func(*fdinfo.FileEntry) bool
	some  []int
}

// See implements kind.Doubt.
func (a *alone) See(at int, e *fdinfo.FileEntry) {
	if a.plain(e) {
		a.some = append(a.some, at)
	}
}

// Sure implements kind.Doubt.
func (a *alone) Sure(sure []bool) {
	for _, at := range a.some {
		sure[at] = true
	}
}

// Doubt implements kind.Doubter: files and directories that come back by their paths are no
// question.
func (k *Regular) Doubt(src plan.Source) (kind.Doubt, error) {
	all, err := src.Entries(image.RemapFile)
	if err != nil {
		return nil, err
	}
	moved := map[uint32]bool{}
	for _, e := range all {
		moved[e.Message.(*remap.RemapFilePathEntry).GetOrigId()] = true
	}
	asked := 0
	return &alone{plain: func(e *fdinfo.FileEntry) bool {
		if !plainRegular(e) {
			return false
		}
		if moved[e.GetId()] {
			asked++
			return asked > mostMoved
		}
		return true
	}}, nil
}

// mostMoved is of how many deleted files, and such with another name, a restore is
// rehearsed: what is said of those is said of the others.
const mostMoved = 4000

// plainRegular tells whether nothing but what criu knows is in an entry, and that is sound.
func plainRegular(e *fdinfo.FileEntry) bool {
	in := e.GetReg()
	if in == nil || in.GetExt() || len(in.Unknown()) > 0 || checkRegular(in) != nil {
		return false
	}
	if t := in.GetMode() & unix.S_IFMT; t != unix.S_IFREG && t != unix.S_IFDIR {
		return false
	}
	_, err := newBase(e, in.GetId(), in.GetFlags(), in.GetFown())
	return err == nil
}
