package image

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"glis.dev/glis/image/proto"
)

// Writer writes one image file. It is buffered: nothing is certain to be in the
// file before Close. The first error stays, and every later call returns it.
type Writer struct {
	name string
	f    WriteFile
	bw   *bufio.Writer
	off  int64
	seq  sequence
	buf  []byte
	err  error
}

// Create makes the image file of row r with the given ids in s and writes its
// header. Note that criu has no file at all for a sort without entries.
func Create(s Store, r *Row, ids ...uint32) (*Writer, error) {
	return create(s, r, r.FileName(ids...))
}

func create(s Store, r *Row, name string) (*Writer, error) {
	if r.Raw() {
		return nil, fileError(name, errRaw)
	}
	f, err := s.Create(name)
	if err != nil {
		return nil, err
	}
	w := &Writer{name: name, f: f, bw: newBuffer(f, bufferFor(r)), seq: sequence{row: r}}
	if err := w.write(r.header(nil)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

const bufferSize = 32 << 10

// bufferFor returns how large a buffer an image is worth. Most have one entry.
func bufferFor(r *Row) int {
	if r.Single {
		return bufferSize / 16
	}
	return bufferSize
}

// Buffers of images that are closed: such with one entry, of which there may be as many
// as connections, and others, as many as tasks, one after the other.
var buffers, largeBuffers sync.Pool

func buffersOf(size int) *sync.Pool {
	if size == bufferSize {
		return &largeBuffers
	}
	return &buffers
}

func newBuffer(f io.Writer, size int) *bufio.Writer {
	if b, ok := buffersOf(size).Get().(*bufio.Writer); ok {
		b.Reset(f)
		return b
	}
	return bufio.NewWriterSize(f, size)
}

// leaveBuffer gives the buffer to another image: nothing is written any more.
func (w *Writer) leaveBuffer() {
	w.bw.Reset(nil)
	buffersOf(w.bw.Size()).Put(w.bw)
	w.bw = nil
}

var errRaw = errors.New("a raw image has no entries, use the store's Create and Open")

// Put writes an entry that no payload follows.
func (w *Writer) Put(m proto.Message) error {
	return w.PutPayload(m, nil)
}

// PutPayload writes an entry and the raw bytes that follow it. Their number must
// be what m says; padding is added.
func (w *Writer) PutPayload(m proto.Message, payload []byte) error {
	if err := w.entry(m, int64(len(payload))); err != nil {
		return err
	}
	if err := w.write(payload); err != nil {
		return err
	}
	return w.pad(int64(len(payload)))
}

// PutPayloadFrom is PutPayload with n bytes read from src. If src ends early the
// file is of no use and the error is io.ErrUnexpectedEOF.
func (w *Writer) PutPayloadFrom(m proto.Message, src io.Reader, n int64) error {
	if err := w.entry(m, n); err != nil {
		return err
	}
	done, err := io.CopyN(w.bw, src, n)
	w.off += done
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return w.fail(fmt.Errorf("payload, %d of %d bytes: %w", done, n, err))
	}
	return w.pad(n)
}

// entry writes m with its size after checking it against the row.
func (w *Writer) entry(m proto.Message, payload int64) error {
	if w.err != nil {
		return w.err
	}
	if err := w.seq.check(m); err != nil {
		return w.fail(err)
	}
	var err error
	w.buf, err = marshal.MarshalAppend(append(w.buf[:0], 0, 0, 0, 0), m)
	if err != nil {
		return w.fail(err)
	}
	size := len(w.buf) - 4
	if size > MaxEntry {
		return w.fail(fmt.Errorf("%s of %d bytes: %w", m.ProtoName(), size, ErrTooLarge))
	}
	binary.LittleEndian.PutUint32(w.buf, uint32(size))
	if want := w.seq.took(m); want != payload && want != RestOfFile {
		return w.fail(fmt.Errorf("%s with a payload of %d bytes says it has %d", m.ProtoName(), payload, want))
	}
	return w.write(w.buf)
}

// marshal always gives the same bytes for the same message.
var marshal = proto.MarshalOptions{Deterministic: true}

func (w *Writer) pad(n int64) error {
	return w.write(make([]byte, w.seq.row.padding(n)))
}

func (w *Writer) write(p []byte) error {
	if w.err != nil {
		return w.err
	}
	n, err := w.bw.Write(p)
	w.off += int64(n)
	if err != nil {
		return w.fail(err)
	}
	return nil
}

func (w *Writer) fail(err error) error {
	w.err = &Error{File: w.name, Offset: w.off, Err: err}
	return w.err
}

// Size is the number of bytes written so far, header included.
func (w *Writer) Size() int64 { return w.off }

// Sync flushes the buffer and makes the content last through a power cut.
func (w *Writer) Sync() error {
	if w.err != nil {
		return w.err
	}
	if err := w.bw.Flush(); err != nil {
		return w.fail(err)
	}
	if err := w.f.Sync(); err != nil {
		return w.fail(err)
	}
	return nil
}

// Close writes what is still buffered and closes the file. It returns the first
// error of the Writer's life, also if that is that entries are missing. A file
// whose Close failed must not be used.
func (w *Writer) Close() error {
	if w.f == nil {
		return w.err
	}
	if err := w.bw.Flush(); err != nil && w.err == nil {
		_ = w.fail(err)
	}
	if err := w.seq.complete(); err != nil && w.err == nil {
		_ = w.fail(err)
	}
	if err := w.f.Close(); err != nil && w.err == nil {
		_ = w.fail(err)
	}
	w.f = nil
	first := w.err
	if first == nil {
		w.leaveBuffer()
		w.err = fileError(w.name, errors.New("write to a closed image"))
		return nil
	}
	return first
}
