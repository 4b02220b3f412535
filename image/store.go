package image

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Store is where the files of one checkpoint live. [Dir] is the usual one.
// Names are single path components; a Store refuses any other.
type Store interface {
	// Create makes a new file, mode 0600. An existing one is an error that
	// errors.Is fs.ErrExist, unless the store was told to overwrite.
	Create(name string) (WriteFile, error)
	// Open opens a file for reading. One that is not there is an error that
	// errors.Is fs.ErrNotExist.
	Open(name string) (ReadFile, error)
	// List returns the names of all files, sorted.
	List() ([]string, error)
	// Remove removes a file.
	Remove(name string) error
	// Sync makes what was created and removed so far last through a power cut.
	// The content of a file is made to last by its own Sync.
	Sync() error
	// String says where the store is, for messages.
	String() string
}

// WriteFile is a file being written.
type WriteFile interface {
	io.Writer
	io.WriterAt
	Sync() error
	Close() error
	// File returns the file itself, or nil if the store has none. It is still
	// owned by the WriteFile. Pages are written through it by other processes.
	File() *os.File
}

// ReadFile is a file being read.
type ReadFile interface {
	io.ReaderAt
	// Size is the file's length in bytes when it was opened.
	Size() int64
	Close() error
	// File returns the file itself, or nil if the store has none. It is still
	// owned by the ReadFile, and its position means nothing.
	File() *os.File
}

var errBadName = errors.New("not a plain file name")

// checkName refuses what is not one component of a path.
func checkName[T string | []byte](name T) error {
	const nameMax = 255 // NAME_MAX, linux/limits.h
	if n := string(name); n == "" || n == "." || n == ".." || len(n) > nameMax ||
		strings.IndexByte(n, '/') >= 0 || strings.IndexByte(n, 0) >= 0 {
		return fmt.Errorf("file name %q: %w", name, errBadName)
	}
	return nil
}
