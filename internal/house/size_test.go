package house

import (
	"go/ast"
	"strings"
	"testing"
)

// Limits, in lines. Most files and functions are far below.
const (
	mostFile     = 600
	mostFunction = 60
)

// large are files and functions ("file.go:name") that may be larger, with the
// reason.
var large = map[string]string{}

// tables is how many lines of a test are tables of cases: they are read row by row.
func tables(s *source, f *ast.FuncDecl) (lines int) {
	if product(s) {
		return 0
	}
	ast.Inspect(f, func(n ast.Node) bool {
		c, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		lines += s.set.Position(c.End()).Line - s.set.Position(c.Pos()).Line
		return false
	})
	return lines
}

func TestSize(t *testing.T) {
	used := map[string]bool{}
	allowed := func(key string) bool {
		_, ok := large[key]
		used[key] = true
		return ok
	}
	eachSource(t, func(*source) bool { return true }, func(s *source) {
		if n := strings.Count(s.text, "\n"); n > mostFile && !allowed(s.path) {
			t.Errorf("%s has %d lines, more than %d: split it by what it is about", s.path, n, mostFile)
		}
		if s.generated {
			return // as long as the schema has fields
		}
		for _, d := range s.syntax.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := s.set.Position(f.End()).Line - s.line(f) + 1 - tables(s, f)
			if n > mostFunction && !allowed(s.path+":"+f.Name.Name) {
				t.Errorf("%s:%d: %s has %d lines, more than %d", s.path, s.line(f), f.Name.Name, n, mostFunction)
			}
		}
	})
	for key := range large {
		if !used[key] {
			t.Errorf("%s need not be in the list any more", key)
		}
	}
}
