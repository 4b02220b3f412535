package restore

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// shelf is a file in memory where the entries of thousands of processes are until
// somebody needs them: they are looked at a few times, one after the other.
type shelf struct {
	file *fd.FD
	mu   sync.Mutex
	end  int64
}

// place is where an entry is on a shelf.
type place struct {
	at   int64
	size int
}

func newShelf() (*shelf, error) {
	n, err := unix.MemfdCreate("glis-entries", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	return &shelf{file: fd.New(n)}, nil
}

// put puts an entry there. Several goroutines may.
func (s *shelf) put(b []byte) (place, error) {
	s.mu.Lock()
	p := place{s.end, len(b)}
	s.end += int64(len(b))
	s.mu.Unlock()
	n, err := unix.Pwrite(s.file.Int(), b, p.at)
	if err == nil && n < len(b) {
		err = unix.ENOSPC
	}
	if err != nil {
		err = fmt.Errorf("keep %d bytes in memory (tmpfs): %w", len(b), err)
	}
	return p, err
}

// get returns an entry.
func (s *shelf) get(p place) ([]byte, error) {
	b := make([]byte, p.size)
	n, err := unix.Pread(s.file.Int(), b, p.at)
	if err == nil && n < len(b) {
		err = unix.EIO
	}
	if err != nil {
		return nil, fmt.Errorf("read %d bytes that were kept in memory: %w", p.size, err)
	}
	return b, nil
}

// close closes it. There may be none.
func (s *shelf) close() {
	if s != nil {
		_ = s.file.Close() // nobody needs it any more
	}
}
