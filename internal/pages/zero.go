package pages

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// NonZero returns the parts of a file of size bytes that hold something else
// than zeros, in multiples of unit.
func NonZero(from io.ReaderAt, size, unit uint64) (out []Span, err error) {
	const step = 256 << 10
	var buf, zeros [step]byte
	for at := uint64(0); at < size; at += unit {
		end := min(at+unit, size)
		for off := at; off < end; off += step {
			b := buf[:min(step, end-off)]
			if n, err := from.ReadAt(b, int64(off)); n < len(b) {
				return nil, fmt.Errorf("read at %#x: %w", off, err)
			}
			if bytes.Equal(b, zeros[:len(b)]) {
				continue
			}
			if n := len(out); n > 0 && out[n-1].End == at {
				out[n-1].End = end
			} else {
				out = append(out, Span{at, end})
			}
			break
		}
	}
	return out, nil
}

// Memory is memory of the engine's own, to write to: of a file that has no
// write(2).
type Memory []byte

// WriteAt implements io.WriterAt. It fails where the kernel has no page to put
// behind.
func (m Memory) WriteAt(b []byte, off int64) (n int, err error) {
	if off < 0 || off > int64(len(m)) || len(b) > len(m)-int(off) {
		return 0, errors.New("behind the end of the memory")
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		fault := recover()
		if _, ok := fault.(runtime.Error); ok {
			n, err = 0, errors.New("the kernel has no page for it: too few huge pages are free, or allowed (cgroup, cpuset)")
		} else if fault != nil {
			panic(fault)
		}
	}()
	return copy(m[off:], b), nil
}
