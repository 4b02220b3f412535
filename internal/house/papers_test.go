package house

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"glis.dev/glis/options"
)

var update = flag.Bool("update", false, "write the tables of docs anew")

const (
	commandLine = "../../docs/cli-criu.md"
	tableBegin  = "<!-- options: written by go test ./internal/house -run TestOptionTable -update -->\n"
	tableEnd    = "<!-- end of options -->\n"
)

// The paper says of every option that does not do what criu's does why, in the
// words of the table that the program itself reads.
func TestOptionTable(t *testing.T) {
	text, err := os.ReadFile(commandLine)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), tableBegin)
	_, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s: the marks around the table are missing", commandLine)
	}
	want := head + tableBegin + optionTable() + tableEnd + tail
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what package options says: go test ./internal/house -run TestOptionTable -update", commandLine)
	}
	if err := os.WriteFile(commandLine, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// It names every option that criu has not.
func TestOwnOptions(t *testing.T) {
	text, err := os.ReadFile(commandLine)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range options.All() {
		if o.Own && !strings.Contains(string(text), "`--"+o.Name) {
			t.Errorf("%s does not say what --%s, which criu lacks, does", commandLine, o.Name)
		}
	}
}

func optionTable() string {
	var b strings.Builder
	b.WriteString("\n| option | of | |\n|---|---|---|\n")
	for _, o := range options.All() {
		for _, says := range groups(o) {
			fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", o.Name, strings.Join(says.verbs, ", "), says.what)
		}
	}
	return b.String() + "\n"
}

// saying is what is said of an option, for the verbs it is said for.
type saying struct {
	what  string
	verbs []string
}

func groups(o *options.Option) []saying {
	var out []saying
	for _, u := range o.Uses {
		what := says(&u)
		if what == "" {
			continue
		}
		if n := len(out); n > 0 && out[n-1].what == what {
			out[n-1].verbs = append(out[n-1].verbs, string(u.Verb))
			continue
		}
		out = append(out, saying{what, []string{string(u.Verb)}})
	}
	return out
}

func says(u *options.Use) string {
	switch {
	case u.Support == options.Refused:
		return "refused: " + u.Reason
	case u.Support == options.Accepted:
		return "taken, without effect: " + u.Reason
	case len(u.Only) > 0:
		return fmt.Sprintf("only `%s`: %s", strings.Join(u.Only, "`, `"), u.Reason)
	}
	return ""
}

// named is something between backticks that looks like a file of the tree.
var named = regexp.MustCompile("`([a-z][A-Za-z0-9_./-]*(?:/[A-Za-z0-9_.-]+|\\.(?:go|proto|md)))`")

// Papers lead nowhere if a file was renamed.
func TestFilesInPapers(t *testing.T) {
	files := everyFile(t)
	for _, paper := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/images.md", "docs/limits.md", "docs/cli-criu.md"} {
		text, err := os.ReadFile("../../" + paper)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			name := strings.TrimSuffix(m[1], "/…")
			if !exists(files, name) && !strings.HasPrefix(name, "bin/") && !strings.HasPrefix(name, "shared/") && !strings.HasPrefix(name, "github.com/") {
				t.Errorf("%s: there is no %s", paper, name)
			}
		}
	}
}

// exists tells whether a file or folder is there under this name, or under a
// longer one that ends in it.
func exists(files []string, name string) bool {
	for _, f := range files {
		if strings.HasSuffix("/"+f, "/"+name) || strings.Contains("/"+f+"/", "/"+name+"/") {
			return true
		}
	}
	return false
}

func everyFile(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Name() == ".git" && d.IsDir() { // in a linked work tree it is a file
			return fs.SkipDir
		}
		rel, err := filepath.Rel("../..", name)
		all = append(all, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
