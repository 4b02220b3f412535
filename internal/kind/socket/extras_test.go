package socket

import (
	"slices"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// encoded is a source that has one image, encoded.
type encoded []string

func (encoded) Entries(*image.Row, ...uint32) ([]plan.Entry, error) { return nil, nil }

func (s encoded) Raw(_ *image.Row, f func([]byte) error) error {
	for _, e := range s {
		if err := f([]byte(e)); err != nil {
			return err
		}
	}
	return nil
}

// TestExtras: each is found by its number, and whole, whoever was asked for before.
func TestExtras(t *testing.T) {
	var src encoded
	all := []*extra.SocketEntry{
		{Id: proto.Uint32(7), Options: []*extra.SocketOption{{Level: proto.Uint32(1), Name: proto.Uint32(2), Value: []byte("abcd")}}},
		{Id: proto.Uint32(9), Error: proto.Uint32(104), Ended: proto.Bool(true)},
		{Id: proto.Uint32(1 << 31), Inode: &extra.SocketInode{Uid: proto.Uint32(5), Gid: proto.Uint32(6), Mode: proto.Uint32(0o600)}},
	}
	for _, e := range all {
		b, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		src = append(src, string(b))
	}
	x, err := NewExtras(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{2, 0, 1, 0, 2} {
		if got, err := x.Of(all[i].GetId()); err != nil || got == nil || !proto.Equal(got, all[i]) {
			t.Errorf("%v, %v instead of %v", got, err, all[i])
		}
	}
	if got, err := x.Of(8); got != nil || err != nil {
		t.Errorf("%v, %v of a socket that has nothing", got, err)
	}
	if x, err := NewExtras(encoded{src[0], src[1][:len(src[1])-1]}); err == nil {
		if got, err := x.Of(9); err == nil {
			t.Errorf("%v of an entry that is cut", got)
		}
	}
}

// TestEachExtra: of sockets of which the same is said all but their number is the same.
func TestEachExtra(t *testing.T) {
	var src encoded
	for id, e := range []*extra.SocketEntry{{Who: proto.Uint32(300)}, {Who: proto.Uint32(2), Accepted: proto.Bool(true)}, {Who: proto.Uint32(300)}, {}} {
		e.Id = proto.Uint32(uint32(id) * 1000)
		b, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		src = append(src, string(b))
	}
	var ids []uint32
	var rests []string
	err := EachExtra(src, func(id uint32, rest []byte) { ids, rests = append(ids, id), append(rests, string(rest)) })
	if err != nil || !slices.Equal(ids, []uint32{0, 1000, 2000, 3000}) {
		t.Fatalf("%v, %v", ids, err)
	}
	if rests[0] != rests[2] || rests[0] == rests[1] || rests[3] != "" {
		t.Errorf("%q", rests)
	}
	if x, err := NewExtras(src); err != nil || !x.Any() {
		t.Errorf("%v: there are none", err)
	}
	if x, err := NewExtras(encoded{}); err != nil || x.Any() {
		t.Errorf("%v: there are some", err)
	}
}
