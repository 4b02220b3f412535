package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"glis.dev/glis/image/proto"
)

// Each calls f for each entry of a file, in order; their payloads are skipped. A file
// that is not there is an error that errors.Is fs.ErrNotExist.
func Each[T proto.Message](s Store, r *Row, f func(T) error, ids ...uint32) error {
	return EachIn(s, r, nil, f, ids...)
}

// EachIn is Each of entries that fresh has made: empty ones, of which f may have given
// some back. nil: they are new.
func EachIn[T proto.Message](s Store, r *Row, fresh func() proto.Message, f func(T) error, ids ...uint32) error {
	rd, err := Open(s, r, ids...)
	if err != nil {
		return err
	}
	defer rd.Close() //nolint:errcheck // only read from
	rd.seq.fresh = fresh
	for {
		m, err := nextAs[T](rd)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(m)
		}
		if err != nil {
			return err
		}
	}
}

// ReadAll returns what Each gives.
func ReadAll[T proto.Message](s Store, r *Row, ids ...uint32) ([]T, error) {
	var all []T
	err := Each(s, r, func(m T) error {
		all = append(all, m)
		return nil
	}, ids...)
	if err != nil {
		return nil, err
	}
	return all, nil
}

// EachRaw calls f for the encoded form of each entry of a file, which is valid until
// f returns, in order.
func EachRaw(s Store, r *Row, f func(entry []byte) error, ids ...uint32) error {
	rd, err := Open(s, r, ids...)
	if err != nil {
		return err
	}
	defer rd.Close() //nolint:errcheck // only read from
	for {
		b, err := rd.frame()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = rd.blame(f(b))
		}
		if err != nil {
			return err
		}
	}
}

// blame says of which entry, which was read last, an error is.
func (r *Reader) blame(err error) error {
	if err == nil {
		return nil
	}
	return r.fail(err)
}

// ReadOptional is ReadAll for a file that may be absent: criu writes none for a
// sort of which there is nothing.
func ReadOptional[T proto.Message](s Store, r *Row, ids ...uint32) ([]T, error) {
	all, err := ReadAll[T](s, r, ids...)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return all, err
}

// ReadOne reads the entry of a file that has exactly one.
func ReadOne[T proto.Message](s Store, r *Row, ids ...uint32) (T, error) {
	var none T
	all, err := ReadAll[T](s, r, ids...)
	if err != nil {
		return none, err
	}
	if len(all) != 1 {
		return none, fileError(r.FileName(ids...), fmt.Errorf("%d entries, there must be exactly one", len(all)))
	}
	return all[0], nil
}

func nextAs[T proto.Message](rd *Reader) (T, error) {
	var none T
	m, err := rd.NextAny()
	if err != nil {
		return none, err
	}
	t, ok := m.(T)
	if !ok {
		return none, rd.fail(fmt.Errorf("entry is a %s, not a %T", m.ProtoName(), none))
	}
	return t, nil
}

// WriteOne makes a file with the one entry m.
func WriteOne(s Store, r *Row, m proto.Message, ids ...uint32) error {
	return WriteAll(s, r, []proto.Message{m}, ids...)
}

// WriteAll makes a file with the given entries, which have no payload. Without
// entries it makes none, as criu does.
func WriteAll[T proto.Message](s Store, r *Row, all []T, ids ...uint32) error {
	if len(all) == 0 {
		return nil
	}
	w, err := Create(s, r, ids...)
	if err != nil {
		return err
	}
	for _, m := range all {
		if err := w.Put(m); err != nil {
			break // Close returns it
		}
	}
	return w.Close()
}
