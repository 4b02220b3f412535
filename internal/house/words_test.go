package house

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// machinePath is a path of some machine: of a developer's, or one that only
// exists while somebody works.
var machinePath = regexp.MustCompile(`(^|[\s"'` + "`" + `(=:])/(work|tmp|home|root|usr/src)(/|\b)`)

// The product knows no path but those of the kernel and of criu.
func TestNoMachinePaths(t *testing.T) {
	eachSource(t, product, func(s *source) {
		for i, line := range strings.Split(s.text, "\n") {
			if machinePath.MatchString(line) {
				t.Errorf("%s:%d: the path of a machine: %s", s.path, i+1, strings.TrimSpace(line))
			}
		}
	})
}

// Papers must not speak of the machine they were written on either.
func TestPapers(t *testing.T) {
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "bin"):
			return fs.SkipDir
		case d.IsDir() || !slices.Contains([]string{".md", ".yml", ".yaml", ".sh", ".mod", ""}, filepath.Ext(name)) || d.Name() == "LICENSE":
			return nil
		}
		text, err := os.ReadFile(name)
		for i, line := range strings.Split(string(text), "\n") {
			if machinePath.MatchString(line) {
				t.Errorf("%s:%d: the path of a machine: %s", name, i+1, strings.TrimSpace(line))
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
