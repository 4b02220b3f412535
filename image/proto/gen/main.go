// Command gen writes the Go types of images: image/criu from the schemas that
// go-criu carries, and image/extra from the .proto files there. After a change
// of one of these run, in the module's root,
//
//	go run ./image/proto/gen
//
// which needs protoc for image/extra.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	_ "glis.dev/glis/image/proto/schemas"
)

// Where things are, from the module's root on.
const (
	module   = "glis.dev/glis/"
	criuDir  = "image/criu/"
	extraDir = "image/extra/"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	extra, err := extraFiles()
	if err != nil {
		return err
	}
	out, err := generate(append(criuFiles(), extra...))
	if err != nil {
		return err
	}
	for name, text := range out {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// schema is a .proto file and where its types go.
type schema struct {
	file *descriptorpb.FileDescriptorProto
	dir  string // from the module's root on, with a slash at its end
	pkg  string // the package's name
}

// criuFiles are the schemas of criu's images.
func criuFiles() []schema {
	var all []schema
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		name := strings.TrimSuffix(f.Path(), ".proto")
		if !strings.Contains(name, "/") && name != "opts" { // those describe schemas
			all = append(all, schema{protodesc.ToFileDescriptorProto(f), criuDir + name + "/", strings.ReplaceAll(name, "-", "_")})
		}
		return true
	})
	return all
}

// extraFiles are the schemas of Glis's own images.
func extraFiles() ([]schema, error) {
	names, err := filepath.Glob(extraDir + "*.proto")
	if err != nil || len(names) == 0 {
		return nil, err
	}
	args := []string{"-I", extraDir, "--include_source_info", "--descriptor_set_out=/dev/stdout"}
	for _, n := range names {
		args = append(args, filepath.Base(n))
	}
	cmd := exec.Command("protoc", args...)
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("protoc: %w", err)
	}
	if err := os.WriteFile("image/proto/testdata/extra.binpb", b, 0o644); err != nil {
		return nil, err
	}
	return extraSchemas(b)
}

// extraSchemas are the schemas in what protoc makes of the .proto files.
func extraSchemas(b []byte) ([]schema, error) {
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(b, set); err != nil {
		return nil, err
	}
	var all []schema
	for _, f := range set.File {
		all = append(all, schema{f, extraDir, "extra"})
	}
	return all, nil
}

// generate returns the Go files of all schemas, by name.
func generate(all []schema) (map[string]string, error) {
	req := &pluginpb.CodeGeneratorRequest{}
	dirs := map[string]schema{}
	var param []string
	for _, s := range ordered(all) {
		// What only describes descriptors is of no use here.
		s.file.Dependency = without(s.file.Dependency, "opts.proto")
		dropOptions(s.file.MessageType)
		name := s.file.GetName()
		dirs[name] = s
		req.ProtoFile = append(req.ProtoFile, s.file)
		req.FileToGenerate = append(req.FileToGenerate, name)
		param = append(param, fmt.Sprintf("M%s=%s%s;%s", name, module, strings.TrimSuffix(s.dir, "/"), s.pkg))
	}
	req.Parameter = proto.String(strings.Join(param, ","))
	plugin, err := protogen.Options{}.New(req)
	if err != nil {
		return nil, err
	}
	for _, f := range plugin.Files {
		s := dirs[f.Desc.Path()]
		writeFiles(plugin, s.dir+strings.TrimSuffix(f.Desc.Path(), ".proto"), f)
	}
	out := map[string]string{}
	res := plugin.Response()
	if res.Error != nil {
		return nil, fmt.Errorf("%s", res.GetError())
	}
	for _, f := range res.File {
		out[f.GetName()] = f.GetContent()
	}
	return out, nil
}

// ordered returns schemas behind those that they use.
func ordered(all []schema) []schema {
	byName := map[string]schema{}
	for _, s := range all {
		byName[s.file.GetName()] = s
	}
	var out []schema
	done := map[string]bool{}
	var visit func(s schema)
	visit = func(s schema) {
		if done[s.file.GetName()] {
			return
		}
		done[s.file.GetName()] = true
		for _, dep := range s.file.Dependency {
			if d, ok := byName[dep]; ok {
				visit(d)
			}
		}
		out = append(out, s)
	}
	for _, s := range all {
		visit(s)
	}
	return out
}

func without(all []string, name string) []string {
	var out []string
	for _, s := range all {
		if s != name {
			out = append(out, s)
		}
	}
	return out
}

// dropOptions takes criu's own options off fields: they say how crit prints
// them.
func dropOptions(all []*descriptorpb.DescriptorProto) {
	for _, m := range all {
		for _, f := range m.Field {
			if f.Options != nil {
				f.Options = &descriptorpb.FieldOptions{Packed: f.Options.Packed}
			}
		}
		dropOptions(m.NestedType)
	}
}
