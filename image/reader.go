package image

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"glis.dev/glis/image/proto"
)

// MaxEntry is the largest entry, in bytes, that is read or written. The largest
// real ones are those of tasks with tens of thousands of mappings: a few MiB.
const MaxEntry = 64 << 20

// Reader reads one image file from front to back.
type Reader struct {
	name string
	f    ReadFile
	mem  []byte // all of the file, if it was read as a whole; there is no br then
	kept bool   // mem is used for nothing else later
	sec  *io.SectionReader
	br   *bufio.Reader
	off  int64 // of the next byte to be read
	seq  sequence
	buf  []byte
	dec  proto.Decoder

	start   int64 // of the last entry, for messages
	payload int64 // bytes of the last entry's payload not yet read
	pad     int64 // zeros behind it
}

// Open opens the image file of row r with the given ids in s and checks its
// magics. Close the Reader after use.
func Open(s Store, r *Row, ids ...uint32) (*Reader, error) {
	return open(s, r, r.FileName(ids...))
}

func open(s Store, r *Row, name string) (*Reader, error) {
	if r.Raw() {
		return nil, fileError(name, errRaw)
	}
	f, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	rd := newReader(f, r, name)
	if err := rd.header(); err != nil {
		_ = f.Close() // the first error is the one that matters
		return nil, err
	}
	return rd, nil
}

func newReader(f ReadFile, r *Row, name string) *Reader {
	if m, ok := f.(*bytesFile); ok {
		return &Reader{name: name, f: f, mem: m.b, kept: m.kept, seq: sequence{row: r}}
	}
	sec := io.NewSectionReader(f, 0, f.Size())
	size := min(max(f.Size(), 16), bufferSize)
	return &Reader{name: name, f: f, sec: sec, br: bufio.NewReaderSize(sec, int(size)), seq: sequence{row: r}}
}

// header reads what a file of its row begins with.
func (r *Reader) header() error {
	if err := r.magics(); err != nil {
		return err
	}
	want := r.seq.row.first()
	got := make([]byte, len(want))
	if err := r.full(got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return &Error{File: r.name, Offset: r.off - int64(len(want)), Err: fmt.Errorf("%w: the first entry is not that of %s", ErrMagic, r.seq.row)}
	}
	return nil
}

// magics reads the magics. Images of version 1 have no common one.
func (r *Reader) magics() error {
	row := r.seq.row
	got, err := r.word()
	if err != nil {
		return err
	}
	if got == row.Magic {
		return nil
	}
	if row.Common == 0 || got != row.Common {
		want := row.Common
		if want == 0 {
			want = row.Magic
		}
		return &Error{File: r.name, Offset: 0, Err: magicError(want, got)}
	}
	if got, err = r.word(); err != nil {
		return err
	}
	if got != row.Magic {
		return &Error{File: r.name, Offset: 4, Err: magicError(row.Magic, got)}
	}
	return nil
}

func magicError(want, got uint32) error {
	return fmt.Errorf("%w: %#08x instead of %#08x", ErrMagic, got, want)
}

func (r *Reader) word() (uint32, error) {
	if b := r.ready(4); b != nil {
		return binary.LittleEndian.Uint32(b), nil
	}
	var b [4]byte
	if err := r.full(b[:]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

// ready takes n bytes where they are, valid until more is read; nil if they aren't there in
// one piece: full has them then, or says why not.
func (r *Reader) ready(n int) []byte {
	if r.br == nil {
		if r.off += int64(n); r.off <= int64(len(r.mem)) {
			return r.mem[r.off-int64(n) : r.off]
		}
		r.off -= int64(n)
		return nil
	}
	if n > r.br.Size() {
		return nil
	}
	b, err := r.br.Peek(n)
	if err != nil {
		return nil
	}
	_, _ = r.br.Discard(n) // there are as many
	r.off += int64(n)
	return b
}

// full fills p; the end of the file is an error.
func (r *Reader) full(p []byte) error {
	start := r.off
	n, err := 0, io.EOF
	if r.br != nil {
		n, err = io.ReadFull(r.br, p)
	} else if n = copy(p, r.mem[r.off:]); n == len(p) {
		err = nil
	}
	r.off += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("file is cut, %d of %d bytes: %w", n, len(p), io.ErrUnexpectedEOF)
	}
	if err != nil {
		return &Error{File: r.name, Offset: start, Err: err}
	}
	return nil
}

// Range returns n bytes of the file from off on, which are not to be changed: they are
// where they are if all of it was read. Less is an error.
func (r *Reader) Range(off int64, n int) ([]byte, error) {
	if end := off + int64(n); r.br == nil && 0 <= off && off <= end && end <= int64(len(r.mem)) {
		return r.mem[off:end:end], nil
	}
	b := make([]byte, n)
	if got, err := r.f.ReadAt(b, off); got < n {
		return nil, readError(err)
	}
	return b, nil
}

// left is what remains of the file.
func (r *Reader) left() int64 { return r.f.Size() - r.off }

// frame skips what is left of a payload and reads the next entry's bytes, which
// are valid until the next call.
func (r *Reader) frame() ([]byte, error) {
	if err := r.skip(); err != nil {
		return nil, err
	}
	if r.left() == 0 {
		if err := r.seq.complete(); err != nil {
			return nil, &Error{File: r.name, Offset: r.off, Err: fmt.Errorf("%w: %w", err, io.ErrUnexpectedEOF)}
		}
		return nil, io.EOF
	}
	r.start = r.off
	size, err := r.word()
	if err != nil {
		return nil, err
	}
	if size > MaxEntry {
		return nil, r.fail(fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, MaxEntry))
	}
	if int64(size) > r.left() {
		return nil, r.fail(fmt.Errorf("file is cut: entry of %d bytes, %d are left: %w", size, r.left(), io.ErrUnexpectedEOF))
	}
	if b := r.ready(int(size)); b != nil {
		return b, nil
	}
	if uint32(cap(r.buf)) < size {
		r.buf = make([]byte, size)
	}
	r.buf = r.buf[:size]
	return r.buf, r.full(r.buf)
}

// fail blames the entry read last.
func (r *Reader) fail(err error) error {
	return &Error{File: r.name, Offset: r.start, Err: err}
}

// Next reads the next entry into m, which must be of the row's type. The rest of
// the last entry's payload is skipped. At the end of the file, and only there,
// the error is io.EOF itself.
func (r *Reader) Next(m proto.Message) error {
	b, err := r.frame()
	if err != nil {
		return err
	}
	if err := r.seq.check(m); err != nil {
		return r.fail(err)
	}
	if err := r.dec.Unmarshal(b, m); err != nil {
		return r.fail(err)
	}
	return r.setPayload(r.seq.took(m))
}

// NextAny is Next with a message made for the purpose.
func (r *Reader) NextAny() (proto.Message, error) {
	m := r.seq.next()
	if err := r.Next(m); err != nil {
		return nil, err
	}
	return m, nil
}

func (r *Reader) setPayload(n int64) error {
	if n == RestOfFile {
		n = r.left()
	}
	if n < 0 || n > r.left() {
		return r.fail(fmt.Errorf("file is cut: payload of %d bytes, %d are left: %w", n, r.left(), io.ErrUnexpectedEOF))
	}
	pad := r.seq.row.padding(n)
	if pad > r.left()-n {
		return r.fail(fmt.Errorf("file is cut in the padding of a payload: %w", io.ErrUnexpectedEOF))
	}
	r.payload, r.pad = n, pad
	return nil
}

// skip leaves the payload behind, by seeking if it is not in the buffer.
func (r *Reader) skip() error {
	n := r.payload + r.pad
	r.payload, r.pad = 0, 0
	r.off += n
	if r.br == nil {
		return nil // there is as much, see setPayload
	}
	if n <= int64(r.br.Buffered()) {
		_, err := r.br.Discard(int(n))
		return err
	}
	if _, err := r.sec.Seek(r.off, io.SeekStart); err != nil {
		return &Error{File: r.name, Offset: r.off, Err: err}
	}
	r.br.Reset(r.sec)
	return nil
}

// Payload returns a reader of what is left of the last entry's payload and its
// length in bytes, 0 if there is none. It is valid until the next Next.
func (r *Reader) Payload() (io.Reader, int64) {
	return payloadReader{r}, r.payload
}

// PayloadBytes reads what is left of the last entry's payload, which is not to be changed:
// it is where it is if all of the file was read. More than limit bytes are an error.
func (r *Reader) PayloadBytes(limit int64) ([]byte, error) {
	if r.payload > limit {
		return nil, r.fail(fmt.Errorf("payload of %d bytes: %w, the limit is %d", r.payload, ErrTooLarge, limit))
	}
	if end := r.off + r.payload; r.kept && end <= int64(len(r.mem)) {
		b := r.mem[r.off:end:end]
		r.off, r.payload = end, 0
		return b, nil
	}
	b := make([]byte, r.payload)
	if err := r.full(b); err != nil {
		return nil, err
	}
	r.payload = 0
	return b, nil
}

type payloadReader struct{ r *Reader }

func (p payloadReader) Read(b []byte) (int, error) {
	r := p.r
	if r.payload == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), r.payload)]
	if r.br == nil {
		n := copy(b, r.mem[r.off:])
		r.off, r.payload = r.off+int64(n), r.payload-int64(n)
		return n, nil
	}
	n, err := r.br.Read(b)
	r.off += int64(n)
	r.payload -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the file was cut after we looked at its size
	}
	if err != nil {
		return n, &Error{File: r.name, Offset: r.off, Err: err}
	}
	return n, nil
}

// Offset is the offset in the file of the next byte to be read: after Next, of
// the payload. With File it lets the kernel copy a payload.
func (r *Reader) Offset() int64 { return r.off }

// File returns the file being read, still owned by the Reader.
func (r *Reader) File() ReadFile { return r.f }

// Name is the file's name in its store.
func (r *Reader) Name() string { return r.name }

// Close closes the file.
func (r *Reader) Close() error { return r.f.Close() }
