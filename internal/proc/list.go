package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Threads returns the numbers of all threads, ascending. The leader's is there
// also when it has ended before the others.
func (d *Dir) Threads() ([]TID, error) { return numbers[TID](d, "task") }

// Living opens the directory of a thread that has not ended, of the process with
// this number: of the first, or, if that has ended while others go on, of another
// one. Only there are the memory and the files of a process to be seen.
func Living(pid PID) (*Dir, error) {
	d, err := Open(pid)
	if err != nil {
		return nil, err
	}
	st, err := d.Stat()
	if err != nil || st.State != 'Z' || st.NumThreads < 2 {
		return d, nil // what is wrong with it is seen by who reads more
	}
	tids, err := d.Threads()
	for _, tid := range tids {
		if own, err := d.ThreadStat(tid); err == nil && own.State != 'Z' && own.State != 'X' {
			_ = d.Close() // nothing is buffered
			return Open(PID(tid))
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// FDs returns the numbers of all open descriptors, ascending. A zombie has
// none.
func (d *Dir) FDs() ([]int32, error) { return numbers[int32](d, "fd") }

// Children returns the children that a thread has made, in no order. All of
// them must be stopped, or some may be missed. Needs CONFIG_PROC_CHILDREN.
func (d *Dir) Children(tid TID) ([]PID, error) {
	return parsed(d, d.Thread(tid).prefix, "children", parseChildren)
}

func parseChildren(b []byte) ([]PID, error) {
	t := oneLine("children", b)
	var out []PID
	for t.blanks(); len(t.b) > 0; t.blanks() {
		out = append(out, PID(t.int32("a process number")))
	}
	return out, t.err
}

// numbers lists the entries of a directory whose names are numbers, ascending.
func numbers[T ~int32](d *Dir, name string) ([]T, error) {
	n, err := openat(d.fd, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, d.fail("", name, err)
	}
	defer unix.Close(n)
	buf := d.take()
	defer func() { d.give(buf) }()
	var out []T
	for {
		if err := d.Ended(); err != nil {
			return nil, err
		}
		got, err := unix.Getdents(n, buf[:cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, d.fail("", name, err)
		}
		if got == 0 {
			break
		}
		if out, err = appendDirents(out, name, buf[:got]); err != nil {
			return nil, fmt.Errorf("%s/%w", d.path, err)
		}
	}
	// The kernel gives them in order, but does not promise it.
	if !slices.IsSorted(out) {
		slices.Sort(out)
	}
	return out, nil
}

// appendDirents adds the numbers among the entries that getdents64(2) has put
// into b: ino u64, off u64, reclen u16, type u8, name.
func appendDirents[T ~int32](out []T, dir string, b []byte) ([]T, error) {
	const head = 19
	for len(b) > 0 {
		size := 0
		if len(b) > head {
			size = int(binary.NativeEndian.Uint16(b[16:]))
		}
		if size <= head || size > len(b) {
			return nil, &ParseError{File: dir, Line: 1, Want: "a directory entry", Got: excerpt(b)}
		}
		t := text{b: b[head:size], file: dir, line: 1}
		b = b[size:]
		if t.b[0] == '.' {
			continue
		}
		n := t.int32("a number as name")
		if t.lit("\x00"); t.err != nil {
			return nil, t.err
		}
		out = append(out, T(n))
	}
	return out, nil
}
