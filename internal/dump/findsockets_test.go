package dump

import (
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// TestFindSockets has all sockets found that are asked for, also if whoever is shown one reads
// the same memory.
func TestFindSockets(t *testing.T) {
	o := options.NewDump()
	o.Tree = os.Getpid()
	d := newDump(o, dirOf(t), slog.New(slog.DiscardHandler))
	defer d.close()
	s, err := newSockets()
	testkit.KernelMemory(t, err)
	d.files.sockets = s
	defer d.files.close() //nolint:errcheck // nothing was written
	inodes, numbers := map[uint64]bool{}, map[uint64]int32{}
	for range 200 {
		n, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(n)
		var st unix.Stat_t
		if err := unix.Fstat(n, &st); err != nil {
			t.Fatal(err)
		}
		inodes[st.Ino], numbers[st.Ino] = true, int32(n)
	}
	for _, memory := range []bool{true, false} {
		found := 0
		if err := d.findSockets(inodes, func(f *scan.File) error {
			if found++; f.FD != numbers[f.Stat.Ino] {
				t.Errorf("socket %d is descriptor %d, and not %d", f.Stat.Ino, f.FD, numbers[f.Stat.Ino])
			}
			return s.reader.Each(f.Task.Pidfd.Int(), func(sockmem.Socket) error { return nil })
		}); err != nil {
			t.Fatal(err)
		}
		if found != len(inodes) {
			t.Errorf("by memory: %v: %d of %d sockets were found", memory, found, len(inodes))
		}
		d.files.sockets = nil
	}
	d.files.sockets = s
}
