package proto_test

import (
	"fmt"
	"strings"
	"testing"

	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/image/proto"
)

// TestHoard: what many messages point to lies together, and is still each one's own.
func TestHoard(t *testing.T) {
	var d proto.Decoder
	var all []*regfile.RegFileEntry
	name := func(i int) string { return strings.Repeat(fmt.Sprint("/", i), i%37*i%41) }
	for i := range 3000 {
		in := &regfile.RegFileEntry{Id: proto.Uint32(uint32(i)), Flags: proto.Uint32(1), Pos: proto.Uint64(2), Name: proto.String(name(i)),
			Fown: &fown.FownEntry{Uid: proto.Uint32(uint32(i)), Euid: proto.Uint32(3), Signum: proto.Uint32(4), PidType: proto.Uint32(5), Pid: proto.Uint32(6)}}
		b, err := proto.MarshalOptions{}.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		out := new(regfile.RegFileEntry)
		if err := d.Unmarshal(b, out); err != nil {
			t.Fatal(err)
		}
		clear(b) // nothing of it is kept
		all = append(all, out)
	}
	for i, m := range all {
		if m.GetId() != uint32(i) || m.GetFown().GetUid() != uint32(i) || m.GetName() != name(i) {
			t.Fatalf("message %d became %v, owner %v, %q", i, m.GetId(), m.GetFown().GetUid(), m.GetName())
		}
		*m.Name, *m.Fown.Uid = "changed", 0
	}
}
