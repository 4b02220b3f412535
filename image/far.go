package image

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"
)

// Far is a payload that stays in its file until somebody wants it: connections and pipes
// together may have more to be read than there is to be in memory.
type Far struct {
	store Store
	name  string
	at    int64
	size  int
	near  int // the number of the file in the manifest, if it is known
}

// muchAtOnce is from how many bytes on payloads are counted, and mostAtOnce how many of
// these bytes there are in memory at a time, unless one payload has more.
const (
	muchAtOnce = 256 << 10
	mostAtOnce = 4 << 20
)

// shortFile is up to how many bytes a payload is read into memory that is used again.
const shortFile = 32 << 10

// farRoom is had by who uses such payloads.
var farRoom = semaphore.NewWeighted(mostAtOnce)

// Len is how many bytes there are; none if p is nil.
func (p *Far) Len() int {
	if p == nil {
		return 0
	}
	return p.size
}

// Use calls f with the payload, which is valid until f returns. f must not use another one.
func (p *Far) Use(f func([]byte) error) error {
	if p.size < shortFile {
		return p.useShort(f)
	}
	if p.size < muchAtOnce {
		b := make([]byte, p.size)
		if err := p.read(b); err != nil {
			return err
		}
		return f(b)
	}
	room := int64(min(p.size, mostAtOnce))
	if err := farRoom.Acquire(context.Background(), room); err != nil {
		return err
	}
	defer farRoom.Release(room)
	// Not of the heap, where it would stay until garbage is collected.
	b, err := unix.Mmap(-1, 0, p.size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("%s: memory for a payload of %d bytes: %w", p.name, p.size, err)
	}
	defer unix.Munmap(b) //nolint:errcheck // it was mapped
	if err := p.read(b); err != nil {
		return err
	}
	return f(b)
}

// shortRoom is memory into which short files are read, one after the other: else what is read
// of thousands would be garbage.
var shortRoom = sync.Pool{New: func() any { return new([2 * shortFile]byte) }}

// useShort is Use of a payload that is likely to be most of its file.
func (p *Far) useShort(f func([]byte) error) error {
	room := shortRoom.Get().(*[2 * shortFile]byte)
	defer shortRoom.Put(room)
	if c, checked := p.store.(*Checked); checked {
		near := p.near - 1
		b, ok, err := c.short(p.name, room[:], &near)
		if ok && err != nil {
			return err
		}
		if ok { // its size is as it was, or that is an error
			return f(b[p.at : p.at+int64(p.size) : p.at+int64(p.size)])
		}
	}
	b := room[:p.size:p.size]
	if err := p.read(b); err != nil {
		return err
	}
	return f(b)
}

// read fills b.
func (p *Far) read(b []byte) error {
	f, err := p.store.Open(p.name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	if n, err := f.ReadAt(b, p.at); n < len(b) {
		return &Error{File: p.name, Offset: p.at + int64(n), Err: fmt.Errorf("payload of %d bytes: %w", len(b), readError(err))}
	}
	return nil
}

// PayloadIn returns what is left of the last entry's payload: bytes that are read now, or,
// if stays says so of how many they are, where they are in s, in which the Reader reads.
// More than limit bytes are an error.
func (r *Reader) PayloadIn(s Store, limit int64, stays func(n int64) bool) ([]byte, *Far, error) {
	if r.payload <= limit && r.payload > 0 && stays(r.payload) {
		return nil, &Far{store: s, name: r.name, at: r.off, size: int(r.payload)}, nil
	}
	b, err := r.PayloadBytes(limit)
	return b, nil, err
}
