package sockmem

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
)

// btf builds a BTF file of types and names.
func btf(types []uint32, names string) []byte {
	le := binary.NativeEndian
	b := le.AppendUint16(nil, 0xeb9f)
	b = append(b, 1, 0)
	for _, v := range []uint32{24, 0, uint32(4 * len(types)), uint32(4 * len(types)), uint32(len(names))} {
		b = le.AppendUint32(b, v)
	}
	for _, v := range types {
		b = le.AppendUint32(b, v)
	}
	return append(b, names...)
}

const names = "\x00socket\x00sk\x00unix_sock\x00file\x00bpf_iter_task_file\x00sock\x00sk_receive_queue\x00sk_buff_head\x00qlen\x00"

// whole has everything that is asked for: names at 1, 8, 11, 21, 26, 45, 50,
// 67, 80.
func whole() []uint32 {
	return []uint32{
		1, btfStruct<<24 | 1, 128, 8, 0, 24 * 8, // struct socket { sk at 24 }
		11, btfStruct << 24, 1088,
		21, btfStruct << 24, 184,
		26, btfFunc << 24, 9,
		45, btfStruct<<24 | 1, 776, 50, 0, 192 * 8, // struct sock { sk_receive_queue at 192 }
		67, btfStruct<<24 | 1, 24, 80, 0, 16 * 8, // struct sk_buff_head { qlen at 16 }
	}
}

func TestLayout(t *testing.T) {
	x, err := parseBTF(btf(whole(), names))
	if err != nil {
		t.Fatal(err)
	}
	l, err := x.layout()
	if err != nil {
		t.Fatal(err)
	}
	if want := (layout{function: 4, sk: 24, sock: 1088, file: 184, queue: 192, length: 16}); *l != want {
		t.Errorf("%+v, want %+v", *l, want)
	}
}

func TestLayoutBad(t *testing.T) {
	huge := whole()
	huge[8] = 1 << 30
	outside := whole()
	outside[20] = 1080 * 8
	tests := []struct {
		name string
		in   []byte
	}{
		{"empty", nil},
		{"no magic", make([]byte, 64)},
		{"cut", btf(whole(), names)[:60]},
		{"cut type", btf(whole()[:4], names)},
		{"unknown kind", btf(append([]uint32{0, 31 << 24, 0}, whole()...), names)},
		{"nothing asked for", btf([]uint32{11, btfStruct << 24, 1088}, names)},
		{"no sk", btf(append([]uint32{1, btfStruct << 24, 128}, whole()[6:]...), names)},
		{"huge", btf(huge, names)},
		{"queue outside", btf(outside, names)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, err := parseBTF(tt.in)
			if err == nil {
				_, err = x.layout()
			}
			if !errors.Is(err, errBTF) && !errors.Is(err, ErrUnavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestLayoutLive(t *testing.T) {
	if _, err := os.Stat(btfFile); err != nil {
		t.Skip(err)
	}
	l, err := kernelLayout()
	if err != nil {
		t.Fatal(err)
	}
	if l.sock < 512 || l.file < 100 {
		t.Errorf("%+v", *l)
	}
}

func FuzzLayout(f *testing.F) {
	f.Add(btf(whole(), names))
	f.Add(btf(whole()[:7], names))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parseBTF(b)
		if err != nil {
			return
		}
		l, err := x.layout()
		if err == nil && (l.sock > maxStruct || l.file > maxStruct || l.sk > maxStruct) {
			t.Errorf("%+v", *l)
		}
	})
}
