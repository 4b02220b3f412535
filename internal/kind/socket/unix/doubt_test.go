package unix

import (
	"fmt"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// Only pairs with both ends, that no other image says anything special of, need not be
// planned.
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
		entry(15, 115, 115), {Id: proto.Uint32(16), Type: fdinfo.FdTypes_REG.Enum()},
	}
	in := images{image.SkQueues: {packet(13, "data")}, extra.Sockets: {plan.Entry{Message: &extra.SocketEntry{Id: proto.Uint32(11)}}}}
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
	if want := "7 8 9 10 11 12 15 16 "; got != want {
		t.Errorf("%sare doubtful, want %s", got, want)
	}
}
