package filemem

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// TestEach compares what the kernel's memory tells with what /proc does.
func TestEach(t *testing.T) {
	r, err := Open()
	testkit.KernelMemory(t, err)
	defer r.Close()
	dir := t.TempDir()
	open := func(name string, flags int) int {
		n, err := unix.Open(filepath.Join(dir, name), flags, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(n) })
		return n
	}
	plain := open("plain", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC)
	if _, err := unix.Seek(plain, 1234567, 0); err != nil {
		t.Fatal(err)
	}
	appending, deleted, folder := open("append", unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND), open("deleted", unix.O_RDONLY|unix.O_CREAT), open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err := errors.Join(unix.Unlink(filepath.Join(dir, "deleted")), unix.Flock(appending, unix.LOCK_EX)); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(folder), unix.F_SETOWN, unix.Getpid()); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	found := map[int32]File{}
	stop := errors.New("no time left")
	seen := 0
	if err := r.Each(pidfd, func(*File) error { seen++; return stop }); err != stop || seen != 1 {
		t.Errorf("it went on for %d files (%v)", seen, err)
	}
	if err := r.Each(pidfd, func(f *File) error { found[f.FD] = *f; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{plain, appending, deleted, folder} {
		isFile(t, found[int32(n)], n)
	}
	if f := found[int32(plain)]; f.Pos != 1234567 || f.Locked || f.Flags&unix.O_CLOEXEC == 0 || f.Flags&unix.O_ACCMODE != unix.O_RDWR || r.layout.owner >= 0 && !f.Unowned {
		t.Errorf("plain: %+v", f)
	}
	if f := found[int32(appending)]; !f.Locked || f.Flags&unix.O_APPEND == 0 || f.Flags&unix.O_CLOEXEC != 0 {
		t.Errorf("append: %+v", f)
	}
	if f := found[int32(folder)]; f.Unowned {
		t.Errorf("owned: %+v", f)
	}
}

// isFile fails the test if what was found is not what a descriptor is.
func isFile(t *testing.T, f File, n int) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(n, &st); err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", n))
	if err != nil {
		t.Fatal(err)
	}
	if f.Path != link || f.Dev == 0 || f.Ino != st.Ino || uint32(f.Mode) != st.Mode {
		t.Errorf("descriptor %d: %+v, want %s, inode %d, mode %#o", n, f, link, st.Ino, st.Mode)
	}
}

// FuzzRecords reads whatever the program in the kernel might have written: nothing is
// read that is not there, and each file is of bytes of its own.
func FuzzRecords(f *testing.F) {
	r := &Reader{layout: layout{file: 128, flags: 8, pos: 16, owner: 120}}
	record := make([]byte, r.layout.pathAt(), r.layout.pathAt()+8)
	record[recordLength] = 5
	record = append(record, "/abc\x00"...)
	f.Add(record)
	f.Add(slices.Concat(record, record, record[:20]))
	f.Fuzz(func(t *testing.T, b []byte) {
		used := 0
		left, err := r.records(b, func(f *File) error { used += r.layout.pathAt() + len(f.Path) + 1; return nil })
		if err == nil && used+left != len(b) {
			t.Errorf("%d bytes of files and %d left, of %d", used, left, len(b))
		}
	})
}
