package testkit

import (
	"bytes"
	"testing"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
)

// Twins decodes entries of open files as a restore does, each behind a twin: what messages
// that are alike share (proto.Alike) they have in common. Nobody may change it, so that
// when the test ends every twin has to be what it was.
func Twins(t testing.TB, in []*fdinfo.FileEntry) []*fdinfo.FileEntry {
	t.Helper()
	var d proto.Decoder
	o := proto.MarshalOptions{AllowPartial: true}
	read := func(b []byte) (*fdinfo.FileEntry, error) {
		e := &fdinfo.FileEntry{}
		return e, d.Unmarshal(bytes.Clone(b), e)
	}
	var out []*fdinfo.FileEntry
	for _, e := range in {
		was, err := o.Marshal(e)
		if err != nil {
			t.Fatalf("encode an entry: %v", err)
		}
		if _, err := read(was); err != nil { // it is no whole one, and the first is like nobody
			out = append(out, e)
			continue
		}
		twin, err1 := read(was)
		own, err2 := read(was)
		if err1 != nil || err2 != nil {
			t.Fatalf("decode an entry again: %v, %v", err1, err2)
		}
		out = append(out, own)
		t.Cleanup(func() {
			if is, err := o.Marshal(twin); err != nil || !bytes.Equal(is, was) {
				t.Errorf("what entries share was changed:\n%v\nwas\n%v\n(%v)", twin, e, err)
			}
		})
	}
	return out
}
