package testkit

import (
	"testing"

	"glis.dev/glis/image/criu/eventfd"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/proto"
)

// watched is a test that may fail without failing this one.
type watched struct {
	testing.TB
	ends   []func()
	failed bool
}

func (w *watched) Cleanup(f func())      { w.ends = append(w.ends, f) }
func (w *watched) Errorf(string, ...any) { w.failed = true }

// Who changes what is shared is found, who changes what is an entry's own is not.
func TestTwins(t *testing.T) {
	n := proto.Uint32
	for name, change := range map[string]func(*fdinfo.FileEntry){
		"nothing": func(*fdinfo.FileEntry) {},
		"own":     func(e *fdinfo.FileEntry) { e.Efd.Flags = n(7) },
		"shared":  func(e *fdinfo.FileEntry) { e.Efd.Fown.Uid = n(7) },
		"in it":   func(e *fdinfo.FileEntry) { *e.Efd.Fown.Uid = 7 },
	} {
		w := &watched{TB: t}
		owner := &fown.FownEntry{Uid: n(1), Euid: n(2), Signum: n(3), PidType: n(4), Pid: n(5)}
		one := &fdinfo.FileEntry{Type: fdinfo.FdTypes_EVENTFD.Enum(), Id: n(1), Efd: &eventfd.EventfdFileEntry{Id: n(1), Flags: n(2), Fown: owner, Counter: proto.Uint64(3)}}
		change(Twins(w, []*fdinfo.FileEntry{one})[0])
		for _, f := range w.ends {
			f()
		}
		if want := name == "shared" || name == "in it"; w.failed != want {
			t.Errorf("%s: found %v", name, w.failed)
		}
	}
}
