package cli

import (
	"bytes"
	"strings"
	"testing"
)

// In a pipe there is no progress, and nobody is asked for any.
func TestNoProgressInPipe(t *testing.T) {
	var out bytes.Buffer
	a := &App{Stderr: &out}
	p := a.progress("dump", true)
	if p.observers() != nil {
		t.Error("an observer where nobody reads")
	}
	p.end()
	if out.Len() > 0 {
		t.Errorf("printed %q", out.String())
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := &progress{verb: "dump"}
	p.run(&out)
	p.observers().Stage("pages")
	p.show()
	p.end()
	if got := out.String(); !strings.Contains(got, "dump: pages, ") || !strings.HasSuffix(got, eraseLine) {
		t.Errorf("printed %q", got)
	}
}
