package sockdiag

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// message builds an answer about a unix socket.
func message(typ, state uint8, ino uint32, cookie uint64, attrs ...[]byte) []byte {
	ne := binary.NativeEndian
	b := []byte{unix.AF_UNIX, typ, state, 0}
	b = ne.AppendUint32(b, ino)
	b = ne.AppendUint32(b, uint32(cookie))
	b = ne.AppendUint32(b, uint32(cookie>>32))
	for _, a := range attrs {
		b = append(b, a...)
	}
	return b
}

// attr builds an attribute, padded.
func attr(typ uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(attrHeader+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func attrWords(typ uint16, words ...uint32) []byte {
	var v []byte
	for _, w := range words {
		v = binary.NativeEndian.AppendUint32(v, w)
	}
	return attr(typ, v...)
}

func TestParseUnix(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		want Unix
		cut  bool
	}{
		{name: "bare", in: message(1, 7, 42, 1<<33|5), want: Unix{Type: 1, State: 7, Ino: 42, Cookie: 1<<33 | 5}},
		{name: "pair", in: message(1, 1, 42, 5, attrWords(unixDiagPeer, 43), attrWords(unixDiagRQLen, 11, 768), attr(unixDiagShutdown, 2)),
			want: Unix{Type: 1, State: 1, Ino: 42, Cookie: 5, HasPeer: true, Peer: 43, RQueue: 11, WQueue: 768, Shutdown: 2}},
		{name: "closed peer", in: message(2, 1, 42, 5, attrWords(unixDiagPeer, 0)), want: Unix{Type: 2, State: 1, Ino: 42, Cookie: 5, HasPeer: true}},
		{name: "listener", in: message(1, 10, 9, 5, attr(unixDiagName, []byte("\x00abc")...), attrWords(unixDiagIcons, 7, 0)),
			want: Unix{Type: 1, State: 10, Ino: 9, Cookie: 5, Name: []byte("\x00abc"), Icons: []uint32{7, 0}}},
		{name: "path", in: message(1, 10, 9, 5, attr(unixDiagName, []byte("/run/x\x00")...), attrWords(unixDiagVFS, 77, 0x800001), attrWords(unixDiagUID, 1000)),
			want: Unix{Type: 1, State: 10, Ino: 9, Cookie: 5, Name: []byte("/run/x"), HasVFS: true, VFSIno: 77, VFSDev: 0x800001, UID: 1000}},
		{name: "abstract name that ends with NUL", in: message(1, 10, 9, 5, attr(unixDiagName, []byte("\x00x\x00")...)), want: Unix{Type: 1, State: 10, Ino: 9, Cookie: 5, Name: []byte("\x00x\x00")}},
		{name: "memory", in: message(1, 1, 9, 5, attrWords(unixDiagMemInfo, 1, 2, 3, 4, 5, 6, 7, 8, 9)),
			want: Unix{Type: 1, State: 1, Ino: 9, Cookie: 5, HasMem: true, Mem: MemInfo{1, 2, 3, 4, 5, 6, 7, 8, 9}}},
		{name: "memory of an old kernel", in: message(1, 1, 9, 5, attrWords(unixDiagMemInfo, 1, 2, 3, 4, 5, 6, 7)),
			want: Unix{Type: 1, State: 1, Ino: 9, Cookie: 5, HasMem: true, Mem: MemInfo{1, 2, 3, 4, 5, 6, 7, 0, 0}}},
		{name: "unknown attribute", in: message(1, 1, 9, 5, attr(99, 1, 2, 3)), want: Unix{Type: 1, State: 1, Ino: 9, Cookie: 5}},
		{name: "cut head", in: message(1, 1, 9, 5)[:15], cut: true},
		{name: "cut attribute", in: append(message(1, 1, 9, 5), 8, 0, 2, 0, 1, 2, 3), cut: true},
		{name: "attribute shorter than its head", in: append(message(1, 1, 9, 5), 3, 0, 2, 0), cut: true},
		{name: "short peer", in: message(1, 1, 9, 5, attr(unixDiagPeer, 1, 2)), cut: true},
		{name: "short memory", in: message(1, 1, 9, 5, attrWords(unixDiagMemInfo, 1)), cut: true},
		{name: "no shutdown", in: message(1, 1, 9, 5, attr(unixDiagShutdown)), cut: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Unix{Icons: []uint32{1, 2, 3}, Name: []byte("left over")}
			err := ParseUnix(tt.in, &got)
			if errors.Is(err, ErrCut) != tt.cut {
				t.Fatalf("error %v, cut should be %v", err, tt.cut)
			}
			if tt.cut {
				return
			}
			if len(got.Icons) == 0 {
				got.Icons = nil
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseUnixOtherFamily(t *testing.T) {
	b := message(1, 1, 9, 5)
	b[0] = unix.AF_INET
	if err := ParseUnix(b, &Unix{}); err == nil {
		t.Error("an answer of another family was taken")
	}
}

func BenchmarkParseUnix(b *testing.B) {
	m := message(1, 1, 42, 5, attrWords(unixDiagPeer, 43), attrWords(unixDiagRQLen, 11, 768), attrWords(unixDiagMemInfo, 1, 2, 3, 4, 5, 6, 7, 8, 9), attr(unixDiagShutdown, 2))
	var u Unix
	b.ReportAllocs()
	for b.Loop() {
		if err := ParseUnix(m, &u); err != nil {
			b.Fatal(err)
		}
	}
}
