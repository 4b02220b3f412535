package main

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// protoPackage is what all messages are built on.
const protoPackage = protogen.GoImportPath("glis.dev/glis/image/proto")

func writeEnum(g *protogen.GeneratedFile, e *protogen.Enum) {
	t := e.GoIdent
	g.P()
	g.P("// ", t, " is ", e.Desc.FullName(), ".")
	g.P("type ", t, " int32")
	g.P()
	g.P("// Values of ", t, ".")
	g.P("const (")
	for _, v := range e.Values {
		g.P(v.GoIdent, " ", t, " = ", v.Desc.Number())
	}
	g.P(")")
	g.P()
	g.P("// Enum returns a pointer to x.")
	g.P("func (x ", t, ") Enum() *", t, " { return &x }")
	g.P()
	g.P("// String returns the value's name, or its number if it has none.")
	g.P("func (x ", t, ") String() string {")
	g.P("switch x {")
	seen := map[protoreflect.EnumNumber]bool{}
	for _, v := range e.Values {
		if !seen[v.Desc.Number()] {
			g.P("case ", v.GoIdent, ":")
			g.P("return ", fmt.Sprintf("%q", v.Desc.Name()))
		}
		seen[v.Desc.Number()] = true
	}
	g.P("}")
	g.P("return ", g.QualifiedGoIdent(protogen.GoImportPath("strconv").Ident("Itoa")), "(int(x))")
	g.P("}")
}

func writeMessage(g *protogen.GeneratedFile, m *protogen.Message) {
	t := m.GoIdent
	g.P()
	g.P("// ", t, " is ", m.Desc.FullName(), ".")
	g.P("type ", t, " struct {")
	for _, f := range m.Fields {
		g.P(f.GoName, " ", fieldType(g, f), strings.TrimSuffix(f.Comments.Trailing.String(), "\n"))
	}
	g.P()
	g.P(protoPackage.Ident("Rest"))
	g.P("}")
	g.P()
	g.P("// ProtoName implements proto.Message.")
	g.P("func (*", t, ") ProtoName() string { return ", fmt.Sprintf("%q", m.Desc.FullName()), " }")
	g.P()
	g.P("// Reset implements proto.Message.")
	g.P("func (m *", t, ") Reset() { *m = ", t, "{} }")
	writeAppend(g, m)
	writeRead(g, m)
	writeMissing(g, m)
}

func writeGetters(g *protogen.GeneratedFile, m *protogen.Message) {
	for _, f := range m.Fields {
		writeGetter(g, m, f)
	}
}

func writeAppend(g *protogen.GeneratedFile, m *protogen.Message) {
	g.P()
	g.P("// AppendFields implements proto.Message.")
	g.P("func (m *", m.GoIdent, ") AppendFields(b []byte) []byte {")
	g.P("if m == nil {")
	g.P("return b")
	g.P("}")
	for _, f := range byNumber(m) {
		n, at := f.Desc.Number(), "m."+f.GoName
		call := func(name string, x string) {
			g.P("b = ", g.QualifiedGoIdent(protoPackage.Ident(name)), "(b, ", n, ", ", x, ")")
		}
		switch {
		case f.Message == nil:
			call(shapeOf(f).append, at)
		case f.Desc.IsList():
			g.P("for _, x := range ", at, " {")
			call("AppendMessage", "x")
			g.P("}")
		default:
			g.P("if ", at, " != nil {")
			call("AppendMessage", at)
			g.P("}")
		}
	}
	g.P("return append(b, m.Unknown()...)")
	g.P("}")
}

// shared are the messages that thousands of an image's entries have alike: those who
// read them share one, and don't change it.
var shared = map[string]bool{"sk_opts_entry": true, "ip_opts_entry": true, "tcp_opts_entry": true, "fown_entry": true}

func writeRead(g *protogen.GeneratedFile, m *protogen.Message) {
	g.P()
	g.P("// ReadField implements proto.Message.")
	g.P("func (m *", m.GoIdent, ") ReadField(d *", protoPackage.Ident("Decoder"), ") bool {")
	g.P("switch d.Tag {")
	for _, f := range byNumber(m) {
		at := "m." + f.GoName
		g.P("case ", tags(f), ": // ", f.Desc.Number(), ": ", f.Desc.Name())
		switch {
		case f.Message == nil:
			readScalar(g, f, at)
		case f.Desc.IsList():
			g.P("x := ", protoPackage.Ident("New"), "[", f.Message.GoIdent, "](d)")
			g.P(at, " = append(", at, ", x)")
			g.P("d.Message(x)")
		case shared[string(f.Message.Desc.FullName())]:
			g.P(protoPackage.Ident("Alike"), "(d, &", at, ")")
		default:
			g.P("if ", at, " == nil {")
			g.P(at, " = ", protoPackage.Ident("New"), "[", f.Message.GoIdent, "](d)")
			g.P("}")
			g.P("d.Message(", at, ")")
		}
	}
	g.P("default:")
	g.P("return false")
	g.P("}")
	g.P("return true")
	g.P("}")
}

func readScalar(g *protogen.GeneratedFile, f *protogen.Field, at string) {
	read := shapeOf(f).read
	if method, ok := strings.CutPrefix(read, "d."); ok {
		g.P("d.", method, "(&", at, ")")
		return
	}
	g.P(protoPackage.Ident(read), "(d, &", at, ")")
}

func writeMissing(g *protogen.GeneratedFile, m *protogen.Message) {
	g.P()
	g.P("// Missing implements proto.Message.")
	g.P("func (m *", m.GoIdent, ") Missing() string {")
	for _, f := range byNumber(m) {
		if f.Desc.Cardinality() == protoreflect.Required {
			g.P("if m == nil || m.", f.GoName, " == nil {")
			g.P("return ", fmt.Sprintf("%q", f.Desc.FullName()))
			g.P("}")
		}
	}
	for _, f := range byNumber(m) {
		if f.Message == nil || !requires(f.Message.Desc, map[protoreflect.FullName]bool{}) {
			continue
		}
		if f.Desc.IsList() {
			g.P("for _, x := range m.Get", f.GoName, "() {")
			g.P("if s := x.Missing(); s != ", `""`, " {")
		} else {
			g.P("if x := m.Get", f.GoName, "(); x != nil {")
			g.P("if s := x.Missing(); s != ", `""`, " {")
		}
		g.P("return s")
		g.P("}")
		g.P("}")
	}
	g.P("return ", `""`)
	g.P("}")
}

// requires tells whether a message has a field that must be there, or a
// message that has.
func requires(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[m.FullName()] {
		return false
	}
	seen[m.FullName()] = true
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.Cardinality() == protoreflect.Required || f.Message() != nil && requires(f.Message(), seen) {
			return true
		}
	}
	return false
}

func writeGetter(g *protogen.GeneratedFile, m *protogen.Message, f *protogen.Field) {
	t := fieldType(g, f)
	pointer := strings.HasPrefix(t, "*") && f.Message == nil
	g.P()
	g.P("// Get", f.GoName, " returns ", f.Desc.Name(), ", or its default.")
	g.P("func (m *", m.GoIdent, ") Get", f.GoName, "() ", strings.TrimPrefix(t, map[bool]string{true: "*"}[pointer]), " {")
	if pointer {
		g.P("if m != nil && m.", f.GoName, " != nil {")
		g.P("return *m.", f.GoName)
		g.P("}")
	} else {
		g.P("if m != nil {")
		g.P("return m.", f.GoName)
		g.P("}")
	}
	g.P("return ", defaultOf(g, f))
	g.P("}")
}
