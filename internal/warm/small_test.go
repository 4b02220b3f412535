package warm

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A small mapping is found as a whole, and has what it had.
func TestSmall(t *testing.T) {
	all, err := unix.Mmap(-1, 0, 22*os.Getpagesize(), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(all) //nolint:errcheck // of a test
	// What can't be written to keeps it from becoming one with the runtime's.
	b := all[os.Getpagesize() : 21*os.Getpagesize()]
	if err := unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	b[3] = 9
	Small()
	if n := faults(t, func() {
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 7
		}
	}); n > 8 { // the runtime may have some of its own
		t.Errorf("%d faults in 20 pages", n)
	}
	if b[3] != 9 {
		t.Error("the contents changed")
	}
}

func TestWritable(t *testing.T) {
	for line, want := range map[string]bool{
		"7f9de9c44000-7f9de9ce4000 rw-p 00000000 00:00 0 \n":          true,
		"006b6000-006d9000 rw-p 00200000 fd:00 17 /usr/bin/glis\n":    true,
		"7f9de9c44000-7f9de9ce4000 rw-s 00000000 00:01 5 /dev/zero\n": false,
		"7f9de9c44000-7f9de9ce4000 r--p 00000000 00:00 0 \n":          false,
		"7ffc0000-7ffd0000 rw-p 00000000 00:00 0 [stack]\n":           false,
		"7ffd0000-7ffc0000 rw-p 00000000 00:00 0\n":                   false,
		"x-y rw-p 00000000 00:00 0\n":                                 false,
		"":                                                            false,
	} {
		if _, _, ok := writable([]byte(line)); ok != want {
			t.Errorf("%q: %v", line, ok)
		}
	}
}
