package test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// makefile is of a project of twelve C files, four of which are compiled at a time:
// when they are told to.
const makefile = `
PARTS = $(foreach i,0 1 2 3 4 5 6 7 8 9 10 11,part$(i).o)
made: whole
	./whole > result; touch made
whole: main.c $(PARTS)
	gcc -o $@ $^
part%.o: part%.c
	touch begun.$*; while [ ! -e go.$$(( $* / 4 )) ]; do sleep .01; done; gcc -c -o $@ $<
`

// make goes on with what it has begun, and hands out no more jobs than before.
func TestMake(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	testkit.RequireProgram(t, "gcc", "gcc")
	e := testkit.FindEngine(t)
	dir := testkit.NewDir(t)
	project(t, dir)
	p := testkit.Start(t, dir, testkit.RequireProgram(t, "make", "make"), "-j4")
	for n := range 3 {
		for i := range 4 {
			testkit.AwaitFile(t, filepath.Join(dir, fmt.Sprintf("begun.%d", n*4+i)), p.PID)
		}
		if exists(dir, fmt.Sprintf("begun.%d", n*4+4)) {
			t.Errorf("five jobs in generation %d", n)
		}
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img)
		e.Restore(t, img)
		p.Go(t, n, false)
	}
	testkit.AwaitFile(t, filepath.Join(dir, "made"), p.PID)
	p.WaitExit(t, 0)
	if b, err := os.ReadFile(filepath.Join(dir, "result")); string(b) != "66\n" {
		t.Errorf("what was made says %q (%v)", b, err)
	}
}

// project writes a program that adds up the numbers of its parts.
func project(t *testing.T, dir string) {
	t.Helper()
	declared, sum := "#include <stdio.h>\n", "0"
	for i := range 12 {
		name := fmt.Sprintf("part%d", i)
		mustDo(t, os.WriteFile(filepath.Join(dir, name+".c"), fmt.Appendf(nil, "int %s(void) { return %d; }\n", name, i), 0o644))
		declared += fmt.Sprintf("int %s(void);\n", name)
		sum += fmt.Sprintf(" + %s()", name)
	}
	mustDo(t, os.WriteFile(filepath.Join(dir, "main.c"), fmt.Appendf(nil, "%sint main(void) { printf(\"%%d\\n\", %s); }\n", declared, sum), 0o644))
	mustDo(t, os.WriteFile(filepath.Join(dir, "Makefile"), []byte(makefile), 0o644))
}
