package house

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// unsafe is for calls that x/sys/unix has no typed form for.
func TestUnsafe(t *testing.T) {
	eachSource(t, func(s *source) bool { return !s.generated }, func(s *source) {
		name := strings.TrimSuffix(strings.TrimSuffix(path.Base(s.path), ".go"), "_test")
		if slices.Contains(imports(s), "unsafe") && !strings.HasSuffix(name, "_unsafe") {
			t.Errorf("%s imports unsafe: put that into a file named *_unsafe.go", s.path)
		}
	})
}

// ptrace ties a tracee to a thread; one package knows how to live with that.
func TestPtrace(t *testing.T) {
	eachSource(t, product, func(s *source) {
		if s.dir() == "internal/tracee" {
			return
		}
		eachSelector(s, func(at ast.Node, pkg, name string) {
			// PtraceRegs is a mere struct.
			if (pkg == "unix" || pkg == "syscall") && (name == "SYS_PTRACE" || strings.HasPrefix(name, "Ptrace") && name != "PtraceRegs") {
				t.Errorf("%s:%d: %s.%s: only internal/tracee speaks ptrace", s.path, s.line(at), pkg, name)
			}
		})
	})
}

// starters run other programs, each with what for.
var starters = map[string]string{
	"internal/demo/client.go":       "the server that is saved and restored for show",
	"internal/stub/birth_unsafe.go": "the process that outlives the engine, and the one that a restore starts, of Glis's own making",
	"internal/stub/dead.go":         "a process that ends at once, for pidfds of dead ones; of Glis's own making, too",
	"internal/cli/script.go":        "--action-script: what the user wants to run at each stage",
	"internal/cli/privileges.go":    "--exec-cmd: what the user wants to run after a restore",
	"cmd/glis/engine.go":            "a restore that is in its own way by its numbers starts itself again",
}

// Neither dump nor restore runs other programs: they may be missing, or not
// what they seem.
func TestNoExec(t *testing.T) {
	used := map[string]bool{}
	found := func(s *source, line int, what string) {
		if _, ok := starters[s.path]; !ok {
			t.Errorf("%s:%d: %s: nothing is executed in a dump or restore", s.path, line, what)
		}
		used[s.path] = true
	}
	eachSource(t, product, func(s *source) {
		for _, i := range s.syntax.Imports {
			if i.Path.Value == `"os/exec"` {
				found(s, s.line(i), "os/exec")
			}
		}
		eachSelector(s, func(at ast.Node, pkg, name string) {
			switch pkg + "." + name {
			case "syscall.ForkExec", "syscall.StartProcess", "syscall.Exec", "unix.Exec", "os.StartProcess",
				"unix.SYS_EXECVE", "syscall.SYS_EXECVE", "unix.SYS_EXECVEAT", "unix.SYS_FORK", "unix.SYS_VFORK":
				found(s, s.line(at), pkg+"."+name)
			}
		})
	})
	for p := range starters {
		if !used[p] {
			t.Errorf("%s need not be in the list any more", p)
		}
	}
}

// Files of /proc and /sys can be watched for readiness, so the Go runtime would wait for ever
// where a read of one says EAGAIN: fd.ReadFile. What the user names is read as usual.
func TestReadFile(t *testing.T) {
	eachSource(t, product, func(s *source) {
		eachSelector(s, func(at ast.Node, pkg, name string) {
			if pkg+"."+name == "os.ReadFile" && s.dir() != "options" {
				t.Errorf("%s:%d: os.ReadFile: fd.ReadFile waits for nothing", s.path, s.line(at))
			}
		})
	})
}

// early is the package that does something before main.
const early = "internal/arch/start"

// Nothing registers itself: the list of kinds is written by hand, so that one
// look tells what there is. Only memory is found before main.
func TestNoInit(t *testing.T) {
	eachSource(t, func(s *source) bool { return product(s) && !s.generated }, func(s *source) {
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" && s.dir() != early {
				t.Errorf("%s:%d: init()", s.path, s.line(f))
			}
		}
	})
}

// cpuPackages may have code for one CPU architecture.
var cpuPackages = []string{"internal/arch", "internal/arch/start", "internal/linux", "internal/stub", "internal/tracee"}

// What differs between CPUs is asked of package arch.
func TestBuildTags(t *testing.T) {
	eachSource(t, product, func(s *source) {
		if slices.Contains(cpuPackages, s.dir()) {
			return
		}
		for _, cpu := range []string{"_amd64.go", "_arm64.go"} {
			if strings.HasSuffix(s.path, cpu) {
				t.Errorf("%s: code for one CPU is in %v only", s.path, cpuPackages)
			}
		}
		for _, g := range s.syntax.Comments {
			if g.Pos() < s.syntax.Package && strings.HasPrefix(g.List[0].Text, "//go:build") {
				t.Errorf("%s: build tags are in %v only", s.path, cpuPackages)
			}
		}
	})
}

// eachSelector calls f for every pkg.Name of a file.
func eachSelector(s *source, f func(at ast.Node, pkg, name string)) {
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if pkg, ok := sel.X.(*ast.Ident); ok {
				name := pkg.Name
				if name == "sys" { // how package unix of sockets calls it
					name = "unix"
				}
				f(n, name, sel.Sel.Name)
			}
		}
		return true
	})
}
