package file

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fh"
	"glis.dev/glis/image/criu/fsnotify"
	"glis.dev/glis/image/proto"
)

func TestInotifyRefused(t *testing.T) {
	dir := t.TempDir()
	n, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	own(t, n, err)
	if _, err := unix.InotifyAddWatch(n, dir, unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/x", 0o700); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	g.add(n)
	mustFail(t, g.dump(), "bytes of events wait", "not supported")
}

func TestInotifyHostile(t *testing.T) {
	entry := func(wd ...uint32) *fdinfo.FileEntry {
		e := &fsnotify.InotifyFileEntry{Id: proto.Uint32(1), Flags: proto.Uint32(0), Fown: noOwner()}
		for _, n := range wd {
			e.Wd = append(e.Wd, &fsnotify.InotifyWdEntry{Wd: proto.Uint32(n), FHandle: &fh.FhEntry{Path: proto.String("/x")}})
		}
		return &fdinfo.FileEntry{Type: fdinfo.FdTypes_INOTIFY.Enum(), Id: proto.Uint32(1), Ify: e}
	}
	noPath := entry(1)
	noPath.Ify.Wd[0].FHandle = nil
	never := entry(1)
	putVarint(never.Ify, inotifyNext, 1<<31)
	relative := entry(1)
	relative.Ify.Wd[0].FHandle.Path = proto.String("x")
	decides := &fdinfo.FileEntry{Type: fdinfo.FdTypes_FANOTIFY.Enum(), Id: proto.Uint32(1), Ffy: &fsnotify.FanotifyFileEntry{Id: proto.Uint32(1), Fown: noOwner(), Faflags: proto.Uint32(unix.FAN_CLASS_CONTENT)}}
	for _, c := range []struct {
		want string
		e    *fdinfo.FileEntry
	}{
		{"watch 0", entry(0)},
		{"watch 2147483648", entry(1 << 31)},
		{"there twice", entry(3, 3)},
		{"next watch is 2147483648", never},
		{"without a path", noPath},
		{"no absolute path", relative},
		{"without its entry", &fdinfo.FileEntry{Type: fdinfo.FdTypes_INOTIFY.Enum(), Id: proto.Uint32(1)}},
		{"without its entry", &fdinfo.FileEntry{Type: fdinfo.FdTypes_FANOTIFY.Enum(), Id: proto.Uint32(1)}},
		{"decides what others may do", decides},
	} {
		_, err := planOne(c.e)
		mustFail(t, err, c.want)
	}
}
