package proto_test

import (
	"bytes"
	"os"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	lib "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"glis.dev/glis/image"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	_ "glis.dev/glis/image/proto/schemas"
)

// pair is a message as it is here and as the library has it.
type pair struct{ ours, theirs func() any }

func (p pair) empty() (proto.Message, lib.Message) {
	return p.ours().(proto.Message), p.theirs().(lib.Message)
}

// pairs are the messages of all images.
func pairs(t testing.TB) []pair {
	t.Helper()
	own := extraFiles(t)
	var all []pair
	for _, r := range append(image.Table(), extra.Table()...) {
		for _, f := range []func() proto.Message{r.New, r.Head, r.Sub} {
			if f != nil {
				all = append(all, pair{func() any { return f() }, library(t, own, protoreflect.FullName(f().ProtoName()))})
			}
		}
	}
	return all
}

// library finds a message by its name: one of criu's in what go-criu has linked
// in, one of Glis's in its own schemas.
func library(t testing.TB, own *protoregistry.Files, name protoreflect.FullName) func() any {
	t.Helper()
	if m, err := protoregistry.GlobalTypes.FindMessageByName(name); err == nil {
		return func() any { return m.New().Interface() }
	}
	d, err := own.FindDescriptorByName(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return func() any { return dynamicpb.NewMessage(d.(protoreflect.MessageDescriptor)) }
}

func extraFiles(t testing.TB) *protoregistry.Files {
	t.Helper()
	b, err := os.ReadFile("testdata/extra.binpb")
	if err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := lib.Unmarshal(b, set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// compare decodes b in both ways, and encodes again what came of it.
func compare(t *testing.T, p pair, b []byte) {
	t.Helper()
	ours, theirs := p.empty()
	err, want := proto.Unmarshal(b, ours), lib.Unmarshal(b, theirs)
	if (err == nil) != (want == nil) {
		t.Fatalf("%s of %x: %v, the library says %v", ours.ProtoName(), b, err, want)
	}
	ours, theirs = p.empty()
	err = proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(b, ours)
	want = lib.UnmarshalOptions{AllowPartial: true}.Unmarshal(b, theirs)
	if (err == nil) != (want == nil) {
		t.Fatalf("partial %s of %x: %v, the library says %v", ours.ProtoName(), b, err, want)
	}
	if err != nil {
		return
	}
	got := ours.AppendFields(nil)
	shorten(theirs.ProtoReflect())
	again, err := lib.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, again) {
		t.Fatalf("%s of %x becomes\n%x, in the library\n%x", ours.ProtoName(), b, got, again)
	}
	if (ours.Missing() == "") != (lib.CheckInitialized(theirs) == nil) {
		t.Fatalf("%s of %x: missing %q, the library says %v", ours.ProtoName(), b, ours.Missing(), lib.CheckInitialized(theirs))
	}
}

// shorten has fields that a message doesn't know have tags that are no longer than they
// have to be, as the library does with messages of generated types, and so do we.
func shorten(m protoreflect.Message) {
	var out []byte
	for b := m.GetUnknown(); len(b) > 0; {
		num, typ, tag := protowire.ConsumeTag(b)
		n := tag + protowire.ConsumeFieldValue(num, typ, b[tag:])
		out = append(protowire.AppendTag(out, num, typ), b[tag:n]...)
		b = b[n:]
	}
	if len(out) > 0 {
		m.SetUnknown(out)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				shorten(v.List().Get(i).Message())
			}
		default:
			shorten(v.Message())
		}
		return true
	})
}

// Every field of every message, with a value of every type there is.
func TestEveryField(t *testing.T) {
	for _, p := range pairs(t) {
		_, theirs := p.empty()
		compare(t, p, nil)
		eachField(theirs.ProtoReflect().Descriptor(), nil, func(b []byte) { compare(t, p, b) })
	}
}

// values are encoded values, after what becomes the tag's type.
var values = []struct {
	typ byte
	b   string
}{
	{0, "\x00"}, {0, "\x01"}, {0, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"}, {0, "\xff\xff\xff\xff\x1f"}, {0, "\xff"},
	{1, "12345678"}, {1, "123"}, {2, "\x00"}, {2, "\x03\x01\xff\x02"}, {2, "\x08abcdefgh"}, {2, "\x05a"}, {2, "\x02\x80\x80"},
	{3, "\x08\x01"}, {4, ""}, {5, "abcd"}, {5, "ab"}, {6, "a"}, {7, "a"},
}

// eachField calls f with a message for each field of m, and of the messages in
// it, and each value; wrap puts it into the outer messages.
func eachField(m protoreflect.MessageDescriptor, outer []protoreflect.FieldNumber, f func(b []byte)) {
	for i := range m.Fields().Len() {
		field := m.Fields().Get(i)
		for _, v := range values {
			one := append(tag(field.Number(), v.typ), v.b...)
			f(wrap(outer, one))
			f(wrap(outer, append(one, one...)))
		}
		if field.Message() != nil && len(outer) < 4 {
			eachField(field.Message(), append(outer[:len(outer):len(outer)], field.Number()), f)
		}
	}
}

func tag(n protoreflect.FieldNumber, typ byte) []byte { return varint(uint64(n)<<3 | uint64(typ)) }

func varint(v uint64) (b []byte) {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

func wrap(outer []protoreflect.FieldNumber, b []byte) []byte {
	for i := len(outer) - 1; i >= 0; i-- {
		b = append(append(tag(outer[i], 2), varint(uint64(len(b)))...), b...)
	}
	return b
}

// A message that doesn't fit into one byte of length, or into two.
func TestLongMessages(t *testing.T) {
	for _, n := range []int{126, 127, 128, 129, 16383, 16384, 16390} {
		for _, p := range pairs(t) {
			_, theirs := p.empty()
			fields := theirs.ProtoReflect().Descriptor().Fields()
			for i := range fields.Len() {
				if fields.Get(i).Message() != nil {
					unknown := append(tag(99999, 2), append(varint(uint64(n)), make([]byte, n)...)...)
					compare(t, p, wrap([]protoreflect.FieldNumber{fields.Get(i).Number()}, unknown))
				}
			}
		}
	}
}

// Messages in messages, as deep as it goes, are no way to a crash.
func TestNesting(t *testing.T) {
	p := pair{}
	for _, x := range pairs(t) {
		if m, _ := x.empty(); m.ProtoName() == "cgroup_entry" {
			p = x
		}
	}
	b := []byte{}
	for range 12000 { // cgroup_dir_entry.children
		b = wrap([]protoreflect.FieldNumber{2}, b)
	}
	m, _ := p.empty()
	if err := proto.Unmarshal(b, m); err == nil {
		t.Error("decoded")
	}
}

func FuzzMessages(f *testing.F) {
	all := pairs(f)
	for i, p := range all {
		_, theirs := p.empty()
		f.Add(uint16(i), []byte("\x08\x01\x12\x02\x08\x01"))
		eachFew(theirs.ProtoReflect().Descriptor(), func(b []byte) { f.Add(uint16(i), b) })
	}
	f.Fuzz(func(t *testing.T, which uint16, b []byte) { compare(t, all[int(which)%len(all)], b) })
}

// eachFew calls f with one long message of all fields.
func eachFew(m protoreflect.MessageDescriptor, f func(b []byte)) {
	var all []byte
	for i := range m.Fields().Len() {
		all = append(append(all, tag(m.Fields().Get(i).Number(), 0)...), 5)
	}
	f(all)
}
