package image

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"slices"
	"testing"

	protolib "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"glis.dev/glis/image/proto"
	_ "glis.dev/glis/image/proto/schemas"
)

// memory is a Store of byte slices.
type memory map[string]*memFile

type memFile struct{ b []byte }

func (m memory) Create(name string) (WriteFile, error) {
	if _, ok := m[name]; ok {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	f := &memFile{}
	m[name] = f
	return f, nil
}

func (m memory) Open(name string) (ReadFile, error) {
	f, ok := m[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

func (m memory) List() ([]string, error)  { return slices.Sorted(maps.Keys(m)), nil }
func (m memory) Remove(name string) error { delete(m, name); return nil }
func (m memory) Sync() error              { return nil }
func (m memory) String() string           { return "memory" }

func (f *memFile) Write(p []byte) (int, error) {
	f.b = append(f.b, p...)
	return len(p), nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.b = append(f.b, make([]byte, max(0, int(off)+len(p)-len(f.b)))...)
	return copy(f.b[off:], p), nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.b).ReadAt(p, off)
}

func (f *memFile) Size() int64    { return int64(len(f.b)) }
func (f *memFile) Sync() error    { return nil }
func (f *memFile) Close() error   { return nil }
func (f *memFile) File() *os.File { return nil }

// check stops the test on an error.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// filler sets every field of a message, each to another small value.
type filler struct{ n uint64 }

func fill[T proto.Message](m T) T {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(m.ProtoName()))
	if err != nil {
		panic(err)
	}
	f := filler{}
	all := dynamicpb.NewMessage(d.(protoreflect.MessageDescriptor))
	f.message(all, 0)
	b, err := protolib.Marshal(all)
	if err != nil {
		panic(err)
	}
	if err := proto.Unmarshal(b, m); err != nil {
		panic(err)
	}
	return m
}

func (f *filler) message(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case depth > 4 && fd.Cardinality() != protoreflect.Required:
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range 2 {
				f.element(list, fd, depth)
			}
		case fd.Message() != nil:
			f.message(m.Mutable(fd).Message(), depth+1)
		default:
			m.Set(fd, f.scalar(fd))
		}
	}
}

func (f *filler) element(list protoreflect.List, fd protoreflect.FieldDescriptor, depth int) {
	if fd.Message() != nil {
		f.message(list.AppendMutable().Message(), depth+1)
		return
	}
	list.Append(f.scalar(fd))
}

func (f *filler) scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	f.n = f.n%9 + 1 // small: some fields are lengths
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(int(f.n) % values.Len()).Number())
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("text")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{0, 1, 255})
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(-int32(f.n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(-int64(f.n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(f.n))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(f.n)
	}
	panic("a kind of field that no image has: " + fd.Kind().String())
}
