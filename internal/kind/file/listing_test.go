package file

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A directory's listing knows its regular files, and nothing else; one that has many more
// names than are wanted is not read to its end.
func TestListing(t *testing.T) {
	dir := t.TempDir()
	const files = 1000
	for i := range files {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), nil, 0o600))
	}
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(t, os.Symlink("file1", filepath.Join(dir, "link")))
	must(t, os.Mkdir(filepath.Join(dir, "dir"), 0o700))
	at, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(at)
	l := list(at, files)
	for i := range files {
		if name := fmt.Sprint("file", i); !l.has(name) {
			t.Errorf("it lacks %s", name)
		}
	}
	for _, name := range []string{"fifo", "link", "dir", ".", "..", "", "file", fmt.Sprint("file", files)} {
		if l.has(name) {
			t.Errorf("%q is said to be a regular file", name)
		}
	}
	if l := list(at, files/mostListed/2); l != nil || l.has("file1") {
		t.Error("all names of a large directory were read")
	}
}

// Of a directory with more short names than are wanted, of which one call reads more than
// the table has room for, the reading ends.
func TestListingFull(t *testing.T) {
	dir := t.TempDir()
	const names, files = 3000, 200
	for i := range names {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%x", i)), nil, 0o600))
	}
	at, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(at)
	if l := list(at, files); l != nil || l.has("1") {
		t.Error("all names of a large directory were read")
	}
	// "." and ".." are names, too.
	if l := list(at, (names+2+mostListed-1)/mostListed); !l.has("bb7") || l.has("bb8") {
		t.Error("not all names of a directory were read that has as many as are read at most")
	}
}
