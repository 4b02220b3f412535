package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a dump that has not ended leaves is told from a directory without images.
func TestNotWhole(t *testing.T) {
	for name, want := range map[string]string{"": "holds no checkpoint", "notes.txt": "holds no checkpoint", "pages-1.img": "did not come to its end"} {
		path := t.TempDir()
		if name != "" {
			if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		dir, err := OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		_, err = Verify(t.Context(), dir)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
