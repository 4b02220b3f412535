package house

import (
	"go/ast"
	"strings"
	"testing"
)

// A pointer that is handed on as a number is not followed when the stack of its
// goroutine moves, which any call of Go may make it do: only calls of the system
// and functions with the directive go:uintptrescapes may get one.
func TestPointersAsNumbers(t *testing.T) {
	eachSource(t, product, func(s *source) {
		if !strings.HasSuffix(s.path, "_unsafe.go") {
			return
		}
		safe := map[string]bool{}
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Doc != nil {
				for _, c := range f.Doc.List {
					safe[f.Name.Name] = safe[f.Name.Name] || c.Text == "//go:uintptrescapes"
				}
			}
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			for _, arg := range call.Args {
				if isCall(arg, "", "uintptr") && len(arg.(*ast.CallExpr).Args) == 1 && isCall(arg.(*ast.CallExpr).Args[0], "unsafe", "Pointer") && !mayHavePointers(call, safe) {
					t.Errorf("%s:%d: a pointer is handed on as a number", s.path, s.line(call))
				}
			}
			return true
		})
	})
}

// mayHavePointers tells whether what is called may get pointers as numbers.
func mayHavePointers(call *ast.CallExpr, safe map[string]bool) bool {
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		return strings.Contains(f.Sel.Name, "Syscall")
	case *ast.Ident:
		return safe[f.Name] || f.Name == "uint64" || f.Name == "uintptr" // a number for a structure
	}
	return false
}

// isCall tells whether x is a call of pkg.name, or of name alone.
func isCall(x ast.Expr, pkg, name string) bool {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return false
	}
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return pkg == "" && f.Name == name
	case *ast.SelectorExpr:
		of, ok := f.X.(*ast.Ident)
		return ok && of.Name == pkg && f.Sel.Name == name
	}
	return false
}
