package socket

import (
	"testing"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

// Programs that images can't have are refused, without a look at where they
// are said to be.
func TestProgramNonsense(t *testing.T) {
	tag := make([]byte, 8)
	id, pin := proto.Uint32(5), proto.String(pins+"/glis-5-00")
	for _, p := range []*extra.SocketProgram{
		{},
		{Id: id, Tag: tag, Pin: pin, Classic: []uint64{6 << 48}},
		{Classic: make([]uint64, maxFilter+1)},
		{Id: id, Tag: tag[:7], Pin: pin},
		{Id: id, Tag: tag, Pin: proto.String("/etc/passwd")},
		{Id: id, Tag: tag, Pin: proto.String(pins + "/glis-/../../x")},
		{Id: id, Tag: tag, Pin: proto.String(pins + "/another")},
	} {
		if CheckProgram(p) == nil {
			t.Errorf("%v is taken", p)
		}
	}
	for _, p := range []*extra.SocketProgram{nil, {Classic: []uint64{6 << 48}}, {Id: id, Tag: tag, Pin: pin}} {
		if err := CheckProgram(p); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
	if CheckUnseen(&extra.SocketEntry{Filter: &extra.SocketProgram{Classic: []uint64{6 << 48}}}) == nil {
		t.Error("a filter of classic BPF is taken as one of eBPF")
	}
}

// A program of another boot, or that is gone, is refused before anything is
// made.
func TestProgramGone(t *testing.T) {
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	other := "another"
	for _, b := range []*string{&boot, &other} {
		p := &extra.SocketProgram{Id: proto.Uint32(1<<32 - 2), Tag: make([]byte, 8), Pin: proto.String(pins + "/glis-0-00"), Boot: b}
		if FindProgram(p) == nil {
			t.Errorf("%v is found", p)
		}
	}
}
