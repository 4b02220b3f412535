package unix

import (
	"fmt"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	sk_packet "glis.dev/glis/image/criu/sk-packet"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// Only pairs with both ends, that no other image says anything of but what it says of one
// that is planned, need not be planned.
func TestUndoubted(t *testing.T) {
	named := entry(9, 109, 110)
	named.Usk.Name = []byte("name")
	all := []*fdinfo.FileEntry{
		entry(1, 101, 102), entry(2, 102, 101), // as they come mostly
		entry(3, 103, 105), entry(4, 104, 106), entry(5, 105, 103), entry(6, 106, 104), // in another order
		entry(7, 107, 108), entry(8, 108, 101), // not each other's
		named, entry(10, 110, 109),
		entry(11, 111, 112), entry(12, 112, 111), // with an error, say
		entry(13, 113, 114), entry(14, 114, 113), // with plain data
		entry(17, 117, 118), entry(18, 118, 117), // as told of by 11 and 12
		entry(19, 119, 120), entry(20, 120, 119), // with something else
		entry(21, 121, 123), entry(22, 122, 124), entry(23, 123, 121), entry(24, 124, 122), // the same as that
		entry(25, 125, 126), entry(26, 126, 125), // with files in its queue
		entry(15, 115, 115), {Id: proto.Uint32(16), Type: fdinfo.FdTypes_REG.Enum()},
	}
	withFiles := packet(25, "data")
	withFiles.Message.(*sk_packet.SkPacketEntry).Scm = []*sk_packet.ScmEntry{{}}
	in := images{image.SkQueues: {packet(13, "data"), withFiles}}
	for id, e := range map[uint32]extra.SocketEntry{
		11: {Error: proto.Uint32(104)}, 18: {Error: proto.Uint32(104)}, 19: {Who: proto.Uint32(1)}, 20: {Who: proto.Uint32(2)},
		21: {Who: proto.Uint32(2)}, 22: {Who: proto.Uint32(1)}, 23: {Who: proto.Uint32(1)}, 24: {Who: proto.Uint32(2)},
	} {
		e.Id = &id
		in[extra.Sockets] = append(in[extra.Sockets], plan.Entry{Message: &e})
	}
	sure := make([]bool, len(all))
	d, err := New().Doubt(in)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range all {
		d.See(i, e)
	}
	d.Sure(sure)
	got := ""
	for i, e := range all {
		if !sure[i] {
			got += fmt.Sprint(e.GetId(), " ")
		}
	}
	if want := "7 8 9 10 11 12 19 20 25 26 15 16 "; got != want {
		t.Errorf("%sare doubtful, want %s", got, want)
	}
}

// Of sockets that aren't such pairs a restore is rehearsed unless they are very many, whoever
// their peers are; of a pair that others are like it is in any case.
func TestUndoubtedMany(t *testing.T) {
	for _, n := range []uint32{mostRehearsed, mostRehearsed + 2} {
		all := []*fdinfo.FileEntry{entry(1, 1, 2), entry(2, 2, 1), {Id: proto.Uint32(3), Type: fdinfo.FdTypes_REG.Enum()}}
		for id := uint32(4); id < n+4; id += 2 { // clients, and what their server has accepted
			a, b := entry(id, id, id+1), entry(id+1, id+1, id)
			b.Usk.Name = []byte("server")
			all = append(all, a, b)
		}
		who := func(id uint32) plan.Entry {
			return plan.Entry{Message: &extra.SocketEntry{Id: &id, Who: proto.Uint32(7)}}
		}
		d, err := New().Doubt(images{extra.Sockets: {who(1), who(2)}})
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range all {
			d.See(i, e)
		}
		sure := make([]bool, len(all))
		d.Sure(sure)
		for i, s := range sure {
			if want := i >= 3 && n > mostRehearsed; s != want {
				t.Fatalf("%d sockets: file %d is no question: %v", n, i+1, s)
			}
		}
	}
}
