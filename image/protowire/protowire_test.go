package protowire_test

import (
	"bytes"
	"testing"

	lib "google.golang.org/protobuf/encoding/protowire"

	"glis.dev/glis/image/protowire"
)

var inputs = []string{"", "\x00", "\x08\x01", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
	"\x0a\x02ab", "\x0a\x03ab", "\x0b\x08\x01\x0c", "\x0b\x13\x14\x0c", "\x0b\x13\x0c\x14", "\x0c", "\x0d1234", "\x0d123", "\x09abcdefgh", "\x0e", "\x0f", "\xff\xff\xff\xff\x1f\x01", "\x03\x04"}

// same says whether two lengths, or what is wrong, mean the same.
func same(a, b int) bool { return a == b || a < 0 && b < 0 }

func compare(t *testing.T, b []byte) {
	t.Helper()
	v, n := protowire.ConsumeVarint(b)
	if lv, ln := lib.ConsumeVarint(b); !same(n, ln) || v != lv {
		t.Errorf("varint %x: %d %d, the library has %d %d", b, v, n, lv, ln)
	}
	s, n := protowire.ConsumeBytes(b)
	if ls, ln := lib.ConsumeBytes(b); !same(n, ln) || !bytes.Equal(s, ls) {
		t.Errorf("bytes %x: %x %d, the library has %x %d", b, s, n, ls, ln)
	}
	num, typ, n := protowire.ConsumeField(b)
	lnum, ltyp, ln := lib.ConsumeField(b)
	if !same(n, ln) || n >= 0 && (int32(num) != int32(lnum) || int8(typ) != int8(ltyp)) {
		t.Errorf("field %x: %d %d %d, the library has %d %d %d", b, num, typ, n, lnum, ltyp, ln)
	}
	if (protowire.ParseError(n) == nil) != (lib.ParseError(ln) == nil) {
		t.Errorf("field %x: %v, the library says %v", b, protowire.ParseError(n), lib.ParseError(ln))
	}
	if protowire.SizeVarint(v) != lib.SizeVarint(v) || !bytes.Equal(protowire.AppendVarint(nil, v), lib.AppendVarint(nil, v)) {
		t.Errorf("%d is encoded in another way", v)
	}
	if !bytes.Equal(protowire.AppendBytes(nil, b), lib.AppendBytes(nil, b)) || !bytes.Equal(protowire.AppendString(nil, string(b)), lib.AppendString(nil, string(b))) {
		t.Errorf("%x is encoded in another way", b)
	}
}

func TestWire(t *testing.T) {
	for _, s := range inputs {
		compare(t, []byte(s))
	}
	for n := protowire.MinValidNumber; n < protowire.MaxValidNumber; n = n*3 + 1 {
		if got := protowire.AppendTag(nil, n, protowire.BytesType); !bytes.Equal(got, lib.AppendTag(nil, lib.Number(n), lib.BytesType)) || len(got) != protowire.SizeTag(n) {
			t.Errorf("tag %d: %x", n, got)
		}
	}
	compare(t, bytes.Repeat([]byte{0x0b}, 20000))
}

func FuzzWire(f *testing.F) {
	for _, s := range inputs {
		f.Add([]byte(s))
	}
	f.Fuzz(compare)
}
