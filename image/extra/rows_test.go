package extra

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/crit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pidns"
	lib "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"glis.dev/glis/image"
	"glis.dev/glis/image/proto"
)

// crit takes each of these files for one of criu's that it knows, says in its
// first entry what it is, and passes over what is in it.
func TestCritReadsThem(t *testing.T) {
	for _, row := range Table() {
		dir, err := image.OpenDir(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if err := image.WriteOne(dir, row, filled(t, row)); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir.String(), row.Pattern))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		got, err := crit.New(f, nil, "", false, false).Decode(&pidns.PidnsEntry{})
		if err != nil {
			t.Errorf("%s: %v", row, err)
			continue
		}
		if got.Magic != "PIDNS" || len(got.Entries) != 2 {
			t.Fatalf("%s: a %s of %d entries", row, got.Magic, len(got.Entries))
		}
		if name := got.Entries[0].Message.(*pidns.PidnsEntry).GetExtKey(); name != row.Name {
			t.Errorf("%s says that it is %q", row, name)
		}
		if e := got.Entries[1].Message.(*pidns.PidnsEntry); e.ExtKey != nil || len(e.ProtoReflect().GetUnknown()) == 0 {
			t.Errorf("%s: crit sees %v", row, e)
		}
	}
}

// filled is a message of the row with something in every field that must be there.
func filled(t *testing.T, row *image.Row) proto.Message {
	t.Helper()
	b, err := os.ReadFile("../proto/testdata/extra.binpb")
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
	m := row.New()
	d, err := files.FindDescriptorByName(protoreflect.FullName(m.ProtoName()))
	if err != nil {
		t.Fatal(err)
	}
	fields := d.(protoreflect.MessageDescriptor).Fields()
	if fields.ByNumber(1) != nil {
		t.Errorf("%s has a field 1, which crit takes for its name", m.ProtoName())
	}
	if err := proto.Unmarshal(required(fields), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// required encodes each required field with a value of no meaning.
func required(fields protoreflect.FieldDescriptors) (b []byte) {
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Cardinality() != protoreflect.Required {
			continue
		}
		wire := byte(0)
		if k := f.Kind(); k == protoreflect.BytesKind || k == protoreflect.StringKind {
			wire = 2
		}
		b = append(b, byte(f.Number())<<3|wire, 1)
		if wire == 2 {
			b = append(b, 'x')
		}
	}
	return b
}
