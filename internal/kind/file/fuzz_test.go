package file

import (
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	lockimg "glis.dev/glis/image/criu/file-lock"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/image/criu/regfile"
	remapimg "glis.dev/glis/image/criu/remap-file-path"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// beside are the images beside files.img that plans of files read, and an entry
// of each.
var beside = []struct {
	row  *image.Row
	seed proto.Message
}{
	{image.TTYInfo, ptyInfo(15)},
	{image.TTYInfo, ptyInfo(14)},
	{image.TTYInfo, &tty.TtyInfoEntry{Id: proto.Uint32(2 * indexConsole), Type: tty.TtyType_CONSOLE.Enum(), Rdev: proto.Uint32(auxMajor<<8 | minorConsole), Termios: settings()}},
	{image.TTYInfo, &tty.TtyInfoEntry{Id: proto.Uint32(2 * indexVT), Type: tty.TtyType_VT.Enum(), Rdev: proto.Uint32(vtMajor<<8 | 5), Termios: settings()}},
	{image.TTYData, &tty.TtyDataEntry{TtyId: proto.Uint32(15), Data: []byte("on its way")}},
	{image.PipesData, &pipedata.PipeDataEntry{PipeId: proto.Uint32(7), Bytes: proto.Uint32(4), Size: proto.Uint32(65536)}},
	{image.Memfd, inode("x", 10, 0)},
	{image.FileLocks, &lockimg.FileLockEntry{Flag: proto.Uint32(lockPosix), Type: proto.Uint32(unix.F_WRLCK), Pid: proto.Int32(5), Fd: proto.Int32(3), Start: proto.Int64(0), Len: proto.Int64(9)}},
	{image.RemapFile, &remapimg.RemapFilePathEntry{OrigId: proto.Uint32(31), RemapId: proto.Uint32(1), RemapType: remapimg.RemapType_GHOST.Enum()}},
}

func settings() *tty.TermiosEntry {
	return &tty.TermiosEntry{CIflag: new(uint32), COflag: new(uint32), CCflag: new(uint32), CLflag: new(uint32), CLine: new(uint32), CCc: make([]uint32, controlChars)}
}

func ptyInfo(id uint32) *tty.TtyInfoEntry {
	return &tty.TtyInfoEntry{Id: &id, Type: tty.TtyType_PTY.Enum(), Pty: &tty.TtyPtyEntry{Index: proto.Uint32(id >> 1)}, Sid: proto.Uint32(5), Termios: settings()}
}

// userFiles are files that refer to all of those images.
func userFiles() []plan.Entry {
	im := pipeImages(7, 0, 1)
	put := func(e *fdinfo.FileEntry) { _ = im.Put(image.Files, e, nil) }
	for i, info := range []uint32{15, 14, 2 * indexConsole, 2 * indexVT} {
		id := proto.Uint32(uint32(i) + 20)
		put(&fdinfo.FileEntry{Id: id, Type: fdinfo.FdTypes_TTY.Enum(), Tty: &tty.TtyFileEntry{Id: id, TtyInfoId: proto.Uint32(info), Flags: proto.Uint32(2), Fown: noOwner(), RegfId: proto.Uint32(30)}})
	}
	for _, n := range []uint32{30, 31} {
		id := proto.Uint32(n)
		put(&fdinfo.FileEntry{Id: id, Type: fdinfo.FdTypes_REG.Enum(), Reg: &regfile.RegFileEntry{Id: id, Flags: proto.Uint32(2), Pos: proto.Uint64(0), Fown: noOwner(), Name: proto.String("/tmp/x")}})
	}
	m := memfdImage(nil, 0).rows[image.Files.FileName()][0].Message.(*fdinfo.FileEntry)
	m.Id, m.Memfd.Id = proto.Uint32(40), proto.Uint32(40)
	put(m)
	return im.rows[image.Files.FileName()]
}

// FuzzPlan plans whatever decodes as an entry of files.img, or of an image beside
// it; it must neither panic nor make anything.
func FuzzPlan(f *testing.F) {
	for _, im := range []*images{eventfdImage(3, 1), pipeImages(7, 0, 1), epollImage(3, 4), memfdImage(inode("x", 1, 2), 3)} {
		for _, e := range im.rows[image.Files.FileName()] {
			b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(e.Message)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(len(beside)), b, []byte(nil))
		}
	}
	e := dataEntry(7, 3, 65536)
	e.SetUnknown([]byte{0xe2, 0x5d, 2, 1, 2})
	b, err := proto.Marshal(e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(5), b, []byte("abc"))
	for i, x := range beside {
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(x.seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b, []byte("data"))
	}
	f.Fuzz(func(t *testing.T, which uint8, b, payload []byte) {
		im, n := &images{}, int(which)%(len(beside)+1)
		if n == len(beside) {
			planFile(b)
			return
		}
		for _, e := range userFiles() {
			_ = im.Put(image.Files, e.Message, nil)
		}
		for i, x := range beside {
			m, data := x.seed, []byte("abcd")
			if i == n {
				m, data = x.row.New(), payload
				if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(b, m) != nil {
					return
				}
			}
			if l, ok := m.(*lockimg.FileLockEntry); ok {
				checkLockEntry(t, l)
			}
			_ = im.Put(x.row, m, data)
		}
		p, err := planAll(im, nil)
		if err != nil {
			return
		}
		for _, n := range must(p.Nodes()) {
			_ = n.String()
		}
	})
}

// planFile plans one open file.
func planFile(b []byte) {
	m := &fdinfo.FileEntry{}
	if proto.Unmarshal(b, m) != nil {
		return
	}
	im := memfdImage(inode("x", 10, 0), 0)
	im.rows[image.Files.FileName()] = nil
	_ = im.Put(image.Files, m, nil)
	if p, err := planAll(im, nil); err == nil {
		for _, n := range must(p.Nodes()) {
			_ = n.String()
		}
	}
}

// checkLockEntry: what is taken for a lock can be put into a struct flock.
func checkLockEntry(t *testing.T, e *lockimg.FileLockEntry) {
	t.Helper()
	if checkLock(e) != nil {
		return
	}
	if e.GetPid() < 1 || e.GetFd() < 0 || e.GetStart() < 0 || e.GetLen() < 0 || len(flock(e)) != 32 {
		t.Errorf("%v is taken for a lock", e)
	}
}
