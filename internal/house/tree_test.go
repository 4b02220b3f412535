package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// source is one file of Go that the tests look at.
type source struct {
	path      string // from the root of the module, with slashes
	text      string
	syntax    *ast.File
	set       *token.FileSet
	test      bool // *_test.go, or of a package that only tests or developers use
	generated bool
}

// dir is the package's folder.
func (s *source) dir() string { return path.Dir(s.path) }

// line tells where a node begins.
func (s *source) line(n ast.Node) int { return s.set.Position(n.Pos()).Line }

const module = "glis.dev/glis"

// testOnly are packages that are part of the tests, or write code.
func testOnly(dir string) bool {
	return dir == "test" || strings.HasPrefix(dir, "test/") || dir == "internal/testkit" || dir == "internal/house" || dir == "image/proto/gen" || dir == "image/proto/schemas" || dir == "internal/bpf/bpftest"
}

// tree reads every file of Go of the module once.
var tree = sync.OnceValues(func() ([]*source, error) {
	var all []*source
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." && name != "../.." || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		s, err := read(name)
		all = append(all, s)
		return err
	})
	return all, err
})

func read(name string) (*source, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel("../..", name)
	if err != nil {
		return nil, err
	}
	s := &source{path: filepath.ToSlash(rel), text: string(text), set: token.NewFileSet()}
	if s.syntax, err = parser.ParseFile(s.set, rel, text, parser.ParseComments); err != nil {
		return nil, err
	}
	s.generated = ast.IsGenerated(s.syntax)
	s.test = strings.HasSuffix(rel, "_test.go") || testOnly(s.dir())
	return s, nil
}

// eachSource calls f for every file that f is interested in.
func eachSource(t *testing.T, want func(*source) bool, f func(*source)) {
	t.Helper()
	all, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, s := range all {
		if want(s) {
			n++
			f(s)
		}
	}
	if n == 0 {
		t.Fatal("no file was looked at")
	}
}

// product is what is part of the program itself.
func product(s *source) bool { return !s.test }

// imports lists what a file imports.
func imports(s *source) []string {
	var out []string
	for _, i := range s.syntax.Imports {
		out = append(out, strings.Trim(i.Path.Value, `"`))
	}
	return out
}
