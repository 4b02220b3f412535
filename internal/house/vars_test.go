package house

import (
	"go/ast"
	"go/token"
	"testing"
)

// changing are package variables that do change ("dir:name"), with the reason.
var changing = map[string]string{}

// Two dumps at once in one program must not meet in a variable: what changes
// travels in the environment that every stage gets.
func TestNoChangingVariables(t *testing.T) {
	vars := map[string]map[string]bool{}
	mine := func(s *source) bool { return product(s) && !s.generated }
	eachSource(t, mine, func(s *source) {
		if vars[s.dir()] == nil {
			vars[s.dir()] = map[string]bool{}
		}
		eachVar(s, func(name string) { vars[s.dir()][name] = true })
	})
	eachSource(t, mine, func(s *source) {
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			for _, to := range targets(n) {
				id := rootOf(to)
				if id == nil || !packageLevel(s, id, vars[s.dir()]) {
					continue
				}
				if _, ok := changing[s.dir()+":"+id.Name]; !ok {
					t.Errorf("%s:%d: the package variable %s changes", s.path, s.line(n), id.Name)
				}
			}
			return true
		})
	})
}

// eachVar calls f for every variable of a package that a file declares.
func eachVar(s *source, f func(name string)) {
	for _, d := range s.syntax.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			for _, name := range spec.(*ast.ValueSpec).Names {
				if name.Name != "_" { // var _ I = T{} is a claim, no variable
					f(name.Name)
				}
			}
		}
	}
}

// targets are what a statement assigns to.
func targets(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	}
	return nil
}

// rootOf returns the variable that x, x.y or x[i] is a part of.
func rootOf(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// packageLevel tells whether a name means a variable of the package. The
// parser resolves what is declared in the same file, and nothing else.
func packageLevel(s *source, id *ast.Ident, vars map[string]bool) bool {
	if !vars[id.Name] {
		return false
	}
	if id.Obj == nil {
		return true
	}
	return id.Obj == s.syntax.Scope.Lookup(id.Name)
}
