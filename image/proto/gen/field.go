package main

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// byNumber returns the fields in the order in which they are written.
func byNumber(m *protogen.Message) []*protogen.Field {
	return slices.SortedFunc(slices.Values(m.Fields), func(a, b *protogen.Field) int {
		return int(a.Desc.Number() - b.Desc.Number())
	})
}

// shape is how a field that is no message is kept and encoded.
type shape struct {
	goType       string // "" for a list of names
	wire         protowire.Type
	append, read string // of package proto; "d.X" is a method of the decoder
}

var shapes = map[protoreflect.Kind]shape{
	protoreflect.BoolKind:    {"bool", protowire.VarintType, "AppendBool", "d.Bool"},
	protoreflect.Int32Kind:   {"int32", protowire.VarintType, "AppendVarint", "d.Int32"},
	protoreflect.Uint32Kind:  {"uint32", protowire.VarintType, "AppendVarint", "d.Uint32"},
	protoreflect.Int64Kind:   {"int64", protowire.VarintType, "AppendVarint", "d.Int64"},
	protoreflect.Uint64Kind:  {"uint64", protowire.VarintType, "AppendVarint", "d.Uint64"},
	protoreflect.Sint32Kind:  {"int32", protowire.VarintType, "AppendZigZag", "d.Sint32"},
	protoreflect.Sint64Kind:  {"int64", protowire.VarintType, "AppendZigZag", "d.Sint64"},
	protoreflect.EnumKind:    {"", protowire.VarintType, "AppendVarint", "Number"},
	protoreflect.Fixed32Kind: {"uint32", protowire.Fixed32Type, "AppendFixed32", "d.Uint32"},
	protoreflect.Fixed64Kind: {"uint64", protowire.Fixed64Type, "AppendFixed64", "d.Uint64"},
	protoreflect.StringKind:  {"string", protowire.BytesType, "AppendString", "d.String"},
	protoreflect.BytesKind:   {"[]byte", protowire.BytesType, "AppendBytes", "d.Bytes"},
}

// shapeOf returns the shape of a field, and ends the program for what no schema
// of criu's has had so far.
func shapeOf(f *protogen.Field) shape {
	s, ok := shapes[f.Desc.Kind()]
	if !ok || f.Oneof != nil || f.Desc.IsMap() {
		panic(fmt.Sprintf("%s: no code for fields of this sort", f.Desc.FullName()))
	}
	if !f.Desc.IsList() {
		return s
	}
	switch f.Desc.Kind() {
	case protoreflect.StringKind:
		s.append, s.read = "AppendStrings", "d.Strings"
	case protoreflect.BytesKind:
		s.append, s.read = "AppendBytesList", "d.BytesList"
	case protoreflect.BoolKind:
		s.append, s.read = "AppendBools", "d.Bools"
	case protoreflect.Fixed64Kind:
		s.append, s.read = "AppendFixed64s", "d.Fixed64s"
	default:
		if s.wire != protowire.VarintType || s.append != "AppendVarint" {
			panic(fmt.Sprintf("%s: no code for lists of this sort", f.Desc.FullName()))
		}
		s.append, s.read = "AppendVarints", "Numbers"
		if f.Desc.IsPacked() {
			s.append = "AppendPacked"
			return s
		}
	}
	if f.Desc.IsPacked() {
		panic(fmt.Sprintf("%s: no code for lists of this sort in one field", f.Desc.FullName()))
	}
	return s
}

// tags are the tags that a field may have. A list of numbers may always be one
// field or many.
func tags(f *protogen.Field) string {
	wire := protowire.BytesType
	if f.Message == nil {
		wire = shapeOf(f).wire
	}
	s := fmt.Sprint(protowire.EncodeTag(f.Desc.Number(), wire))
	if f.Desc.IsList() && wire != protowire.BytesType {
		s += fmt.Sprintf(", %d", protowire.EncodeTag(f.Desc.Number(), protowire.BytesType))
	}
	return s
}

func fieldType(g *protogen.GeneratedFile, f *protogen.Field) string {
	t := ""
	switch {
	case f.Message != nil:
		t = "*" + g.QualifiedGoIdent(f.Message.GoIdent)
	case f.Enum != nil:
		t = g.QualifiedGoIdent(f.Enum.GoIdent)
	default:
		t = shapeOf(f).goType
	}
	switch {
	case f.Desc.IsList():
		return "[]" + t
	case f.Message == nil && !strings.HasPrefix(t, "[]"):
		return "*" + t
	}
	return t
}

// defaultOf is what a field is taken for that is not there.
func defaultOf(g *protogen.GeneratedFile, f *protogen.Field) string {
	switch {
	case f.Message != nil || f.Desc.IsList():
		return "nil"
	case f.Enum != nil:
		return g.QualifiedGoIdent(enumDefault(f))
	}
	d := f.Desc.Default()
	switch f.Desc.Kind() {
	case protoreflect.StringKind:
		return fmt.Sprintf("%q", d.String())
	case protoreflect.BytesKind:
		if len(d.Bytes()) > 0 {
			panic(fmt.Sprintf("%s: no code for bytes by default", f.Desc.FullName()))
		}
		return "nil"
	}
	return d.String()
}

func enumDefault(f *protogen.Field) protogen.GoIdent {
	if d := f.Desc.DefaultEnumValue(); d != nil {
		for _, v := range f.Enum.Values {
			if v.Desc.Number() == d.Number() {
				return v.GoIdent
			}
		}
	}
	return f.Enum.Values[0].GoIdent
}
