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

// TestAlike: messages of a field that are the same are one; a field that is there twice
// says what both say, and leaves the others as they were.
func TestAlike(t *testing.T) {
	var d proto.Decoder
	owner := func(uid, signal uint32) []byte {
		return (&regfile.RegFileEntry{Fown: &fown.FownEntry{Uid: proto.Uint32(uid), Signum: proto.Uint32(signal)}}).AppendFields(nil)
	}
	read := func(b []byte) *regfile.RegFileEntry {
		out := new(regfile.RegFileEntry)
		b = append((&regfile.RegFileEntry{Id: proto.Uint32(1), Flags: proto.Uint32(0), Pos: proto.Uint64(0), Name: proto.String("")}).AppendFields(nil), b...)
		if err := d.Unmarshal(b, out); err != nil && !strings.Contains(err.Error(), "required") {
			t.Fatal(err)
		}
		clear(b)
		return out
	}
	read(nil) // the first one is nobody's like
	one, same, other := read(owner(1, 2)), read(owner(1, 2)), read(owner(1, 3))
	if one.Fown != same.Fown || one.Fown == other.Fown {
		t.Errorf("the same: %v, others: %v", one.Fown == same.Fown, one.Fown == other.Fown)
	}
	again := read(owner(1, 3))
	pid := (&regfile.RegFileEntry{Fown: &fown.FownEntry{Pid: proto.Uint32(4)}}).AppendFields(nil)
	both := read(append(append(owner(1, 3), pid...), (&regfile.RegFileEntry{Fown: &fown.FownEntry{Pid: proto.Uint32(5)}}).AppendFields(nil)...))
	if f := both.Fown; f.GetUid() != 1 || f.GetSignum() != 3 || f.GetPid() != 5 {
		t.Errorf("of three fields came %v %v %v", f.GetUid(), f.GetSignum(), f.GetPid())
	}
	if again.Fown != other.Fown || again.Fown.Pid != nil {
		t.Error("a field that was there twice changed another message")
	}
	if f := read(owner(7, 8)).Fown; f.GetUid() != 7 || f.Pid != nil {
		t.Error("it stayed for the next message")
	}
}
