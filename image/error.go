package image

import (
	"errors"
	"fmt"
)

// Sentinels for errors.Is. They come wrapped in an [*Error] that names the
// file and the offset.
var (
	// ErrMagic is a file that is not of the sort its name says.
	ErrMagic = errors.New("wrong magic")
	// ErrTooLarge is an entry larger than [MaxEntry].
	ErrTooLarge = errors.New("entry too large")
	// ErrVersion is a checkpoint in a version of the format that this package
	// does not know.
	ErrVersion = errors.New("unsupported image version")
	// ErrNoParent is returned by Dir.Parent for a checkpoint that has none.
	ErrNoParent = errors.New("no parent checkpoint")
)

// Error is a failure to read or write one image file.
type Error struct {
	File   string // name in the store, such as "core-17.img"
	Offset int64  // byte offset in the file; negative when it means nothing
	Err    error
}

// Error names the file, the offset and the cause.
func (e *Error) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("image %s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("image %s: at offset %d: %v", e.File, e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fileError is an Error that concerns the file as a whole.
func fileError(name string, err error) error {
	return &Error{File: name, Offset: -1, Err: err}
}
