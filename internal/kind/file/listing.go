package file

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"

	"golang.org/x/sys/unix"
)

// listing are the names of a directory that are of regular files, as the directory
// itself says. To open one of these has no effect and doesn't wait, whatever it has
// become since the dump; so it need not be looked for by its name first, which takes
// longer than to ask what was opened.
type listing struct {
	seed  maphash.Seed
	names []uint64 // hashes of them, 0 where none is; a power of 2
}

const (
	// mostListed is how many names a directory may have for each file that is wanted of it.
	mostListed = 4
	// listRoom is how many bytes of a directory are read at a time.
	listRoom = 64 << 10

	direntSize = 19 // struct linux_dirent64 up to the name: d_ino, d_off, d_reclen, d_type
	direntLen  = 16
	direntType = 18
)

// list reads an open directory, for so many files. nil if that isn't worth it, or fails:
// then each is looked for.
func list(dir, files int) *listing {
	d, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(d) //nolint:errcheck // only read from
	l := &listing{seed: maphash.MakeSeed(), names: make([]uint64, 1<<bits.Len(uint(2*mostListed*files)))}
	buf := make([]byte, listRoom)
	for left := mostListed * files; ; {
		n, err := unix.Getdents(d, buf)
		if err != nil {
			return nil
		}
		if n <= 0 {
			return l
		}
		if left -= l.read(buf[:n], left); left < 0 {
			return nil
		}
	}
}

// read adds what one call has read, up to so many names, for which there is room. It
// returns how many names there were; more than it may add if there are, or if it can't
// be read.
func (l *listing) read(b []byte, most int) (names int) {
	for ; len(b) > direntSize; names++ {
		size := int(binary.NativeEndian.Uint16(b[direntLen:]))
		if size <= direntSize || size > len(b) || names == most {
			return most + 1
		}
		if b[direntType] == unix.DT_REG {
			l.add(name(b[direntSize:size]))
		}
		b = b[size:]
	}
	return names
}

func name(b []byte) []byte {
	for i, c := range b {
		if c == 0 {
			return b[:i]
		}
	}
	return b
}

func (l *listing) add(name []byte) {
	h := max(maphash.Bytes(l.seed, name), 1)
	l.names[l.find(h)] = h
}

// find returns where a hash is, or would be. There is always room: no more names are
// added than half of the table.
func (l *listing) find(h uint64) int {
	at := int(h) & (len(l.names) - 1)
	for l.names[at] != 0 && l.names[at] != h {
		at = (at + 1) & (len(l.names) - 1)
	}
	return at
}

// has tells whether a name is of a regular file. A nil one knows of none.
func (l *listing) has(name string) bool {
	if l == nil {
		return false
	}
	h := max(maphash.String(l.seed, name), 1)
	return l.names[l.find(h)] == h
}
