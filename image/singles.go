package image

import (
	"errors"
	"io"
	"io/fs"

	"glis.dev/glis/image/proto"
)

// Singles reads files of one row that have one entry each, one after the other, and
// all in the same memory: a checkpoint has such a file for every connection. It is
// for one goroutine.
type Singles struct {
	store Store
	row   *Row
	msg   proto.Message
	room  []byte
	rd    Reader
	file  bytesFile
	nums  [32]uint32
	stays func(n int64) bool
	at    int // the number of the last file in the manifest
}

// NewSingles returns a Singles of a row. stays tells of a payload's length whether it is to
// be left in its file.
func NewSingles(s Store, r *Row, stays func(n int64) bool) *Singles {
	return &Singles{store: s, row: r, msg: r.New(), stays: stays}
}

// Read reads the file of an id and returns its entry, which is valid until the next
// call, and the entry's payload; nil if there is no such file.
func (s *Singles) Read(id uint32) (m proto.Message, payload []byte, far *Far, err error) {
	rd, err := s.open(s.row.FileName(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil, nil
	}
	if err != nil {
		return nil, nil, nil, err
	}
	defer rd.Close() //nolint:errcheck // only read from
	rd.dec.Reuse(s.nums[:])
	if err := rd.Next(s.msg); err != nil {
		if errors.Is(err, io.EOF) {
			err = rd.fail(errors.New("there is no entry"))
		}
		return nil, nil, nil, err
	}
	if s.row.Payload != nil {
		if payload, far, err = rd.PayloadIn(s.store, MaxEntry, s.stays); err != nil {
			return nil, nil, nil, err
		}
		if far != nil {
			far.near = s.at
		}
	}
	if _, err := rd.frame(); err == nil {
		return nil, nil, nil, rd.fail(errors.New("a second entry, and there should be one"))
	} else if err != io.EOF {
		return nil, nil, nil, err
	}
	return s.msg, payload, far, nil
}

// open is Open for a file that is short, as they are, in a directory that is checked.
func (s *Singles) open(name string) (*Reader, error) {
	c, checked := s.store.(*Checked)
	if !checked {
		return open(s.store, s.row, name)
	}
	b, ok, err := c.short(name, s.room, &s.at)
	if !ok {
		return open(s.store, s.row, name)
	}
	if err != nil {
		return nil, err
	}
	if cap(b) > cap(s.room) {
		s.room = b
	}
	dec := s.rd.dec
	s.file.b = b
	s.rd = Reader{name: name, f: &s.file, mem: b, seq: sequence{row: s.row, names: s.rd.seq.names}, dec: dec}
	return &s.rd, s.rd.header()
}
