package house

import (
	"os"
	"strings"
	"testing"
)

// A newcomer finds what is looked for most in two steps: from README to the table
// of ARCHITECTURE.md, and from there to the file.
func TestWhereTable(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "(ARCHITECTURE.md#where-is-)") {
		t.Error("README.md does not lead to the table")
	}
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ question, file string }{
		{"unix socket, in-flight descriptor", "unix/stuff.go"},
		{"TCP unsent queue", "tcp/queue.go"},
		{"epoll", "file/epoll.go"},
		{"pending signal", "task/pending.go"},
		{"which options are kept", "socket/options.go"},
	} {
		_, row, ok := strings.Cut(string(text), "\n| "+x.question)
		row, _, _ = strings.Cut(row, "\n")
		if !ok || !strings.Contains(row, x.file+"`") {
			t.Errorf("ARCHITECTURE.md has no row for %q that leads to %s", x.question, x.file)
		}
	}
}
