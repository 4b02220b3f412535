package optiontest

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
)

// Sort is one sort of sockets, for Survive.
type Sort struct {
	Table socket.Table
	Like  func() (int, error)
	// Again dumps a socket, closes it, and restores it. What it returns is closed by
	// Survive.
	Again func(t *testing.T, fd int) int
	// Fixed are options that can't be changed on such a socket, or not alone, by
	// name, and why.
	Fixed map[string]string
}

// special are values of options that the usual ones don't hit: the first that is
// taken and changes something counts.
var special = map[string][][]byte{
	"SO_LINGER":                     {pair(1, 7)},
	"SO_RCVTIMEO":                   {long(5, 40000)},
	"SO_SNDTIMEO":                   {long(5, 40000)},
	"SO_VM_SOCKETS_CONNECT_TIMEOUT": {long(5, 40000)},
	"SO_TIMESTAMPING":               {pair(1<<4, 0)}, // SOF_TIMESTAMPING_SOFTWARE
	"SO_TIMESTAMPING_NEW":           {pair(1<<4, 0)},
	"SO_MAX_PACING_RATE":            {long(12345678901)},
	"SO_BUF_LOCK":                   {word(2)},
	"SO_VM_SOCKETS_BUFFER_SIZE":     {long(100_000)},
	"IP_MULTICAST_IF":               {word(0x0100007f)},
	"IP_UNICAST_IF":                 {word(1 << 24)},
	"IPV6_UNICAST_IF":               {word(1 << 24)},
	"IP_LOCAL_PORT_RANGE":           {word(50000<<16 | 40000)},
	"IPV6_ADDR_PREFERENCES":         {word(1)}, // IPV6_PREFER_SRC_TMP
	"PACKET_VNET_HDR_SZ":            {word(10)},
	"TCP_CONGESTION":                {[]byte("reno\x00"), []byte("cubic\x00")},
}

func word(v uint32) []byte    { return binary.NativeEndian.AppendUint32(nil, v) }
func pair(a, b uint32) []byte { return append(word(a), word(b)...) }
func long(v ...uint64) (out []byte) {
	for _, n := range v {
		out = append(out, pair(uint32(n), uint32(n>>32))...)
	}
	return out
}

// Survive changes each option of a table that such a socket lets be changed, one
// socket after the other, then all of them on one: what getsockopt(2) tells of each
// option must be the same of the restored socket. One that can be read, but that
// nothing changed, is a failing line, too. It returns how many were changed.
func Survive(t *testing.T, s Sort) (changed int) {
	t.Helper()
	all := s.socket(t)
	for i := range s.Table {
		o := &s.Table[i]
		n := s.socket(t)
		before, ok := read(n, id(o))
		v := change(n, o, before)
		switch {
		case ok && v != nil:
			changed++
			s.compare(t, o.Name, n)
			_ = linux.Setsockopt(all, o.Level, o.Opt, v) // another one may exclude it
			continue
		case ok && !o.Ask && s.Fixed[o.Name] == "":
			t.Errorf("%s can be read, and nothing changes it", o.Name)
		}
		unix.Close(n)
	}
	s.compare(t, "all options", all)
	return changed
}

// Changed changes each option of a table that can be changed on a socket, and returns
// the names of those that are otherwise than on a new one in the end.
func Changed(t *testing.T, s Sort) (n int, names []string) {
	t.Helper()
	n = s.socket(t)
	fresh := s.told(n)
	for i := range s.Table {
		if s.Table[i].Name != "SO_BUF_LOCK" { // which sizes that are set change
			change(n, &s.Table[i], fresh[i])
		}
	}
	for i, now := range s.told(n) {
		if !bytes.Equal(now, fresh[i]) {
			names = append(names, s.Table[i].Name)
		}
	}
	return n, names
}

// Told is what a socket tells of each option of a table that it has, by name.
func Told(table socket.Table, n int) map[string][]byte {
	s := Sort{Table: table}
	out := map[string][]byte{}
	for i, v := range s.told(n) {
		if v != nil {
			out[table[i].Name] = v
		}
	}
	return out
}

func id(o *socket.Option) ID { return ID{o.Level, o.Opt} }

func (s *Sort) socket(t *testing.T) int {
	t.Helper()
	n, err := s.Like()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// compare restores a socket and compares what it tells of all options.
func (s *Sort) compare(t *testing.T, changed string, n int) {
	t.Helper()
	want := s.told(n)
	n = s.Again(t, n)
	defer unix.Close(n)
	got := s.told(n)
	for i := range s.Table {
		if !bytes.Equal(want[i], got[i]) {
			t.Errorf("%s changed: %s is %x, and was %x", changed, s.Table[i].Name, got[i], want[i])
		}
	}
}

// told is what a socket tells of each option, nil of those it doesn't have.
func (s *Sort) told(n int) [][]byte {
	out := make([][]byte, len(s.Table))
	for i := range s.Table {
		if v, ok := read(n, id(&s.Table[i])); ok {
			out[i] = v
		}
	}
	return out
}

// change gives an option another value, and returns what it was set to; nil if none
// changes anything.
func change(n int, o *socket.Option, before []byte) []byte {
	for _, v := range append(special[o.Name], usual(before)...) {
		if linux.Setsockopt(n, o.Level, o.Opt, v) != nil {
			continue
		}
		if after, ok := read(n, id(o)); ok && !bytes.Equal(before, after) {
			return v
		}
	}
	return nil
}

// usual are values that may differ from one enough to change something.
func usual(before []byte) (out [][]byte) {
	if len(before) < 4 {
		return nil
	}
	first := binary.NativeEndian.Uint32(before)
	for _, v := range []uint32{first ^ 1, 2, 3, 7, 16, 100, 1000, 4096, 65536, 200_000} {
		one := bytes.Clone(before)
		binary.NativeEndian.PutUint32(one, v)
		out = append(out, one)
	}
	return out
}
