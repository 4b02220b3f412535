package file

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/options"
)

// TestSearch finds a watched file below a directory that the user names.
func TestSearch(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a", "b", "file")
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600), os.Symlink("file", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatal(err)
	}
	key := inodeKey{st.Dev, st.Ino}
	find := func(ctx context.Context, key inodeKey, places ...string) (string, error) {
		o := options.NewDump()
		o.IrmapScanPaths = places
		return (&watchedPaths{}).search(ctx, &kind.DumpEnv{Options: o}, key)
	}
	for _, c := range []struct {
		key    inodeKey
		places []string
		want   string
	}{
		{key, nil, ""},
		{key, []string{dir + "/missing", dir}, name},
		{inodeKey{st.Dev + 1, st.Ino}, []string{dir}, ""},
		{key, []string{name}, name},
	} {
		if got, err := find(t.Context(), c.key, c.places...); got != c.want || err != nil {
			t.Errorf("%v in %q: %q, %v; want %q", c.key, c.places, got, err, c.want)
		}
	}
	// With --force-irmap it is also looked for where criu does.
	passwd, o := "/etc/passwd", options.NewDump()
	if err := unix.Lstat(passwd, &st); err != nil {
		t.Fatal(err)
	}
	o.ForceIrmap = true
	if got, err := (&watchedPaths{}).search(t.Context(), &kind.DumpEnv{Options: o}, inodeKey{st.Dev, st.Ino}); got != passwd || err != nil {
		t.Errorf("with --force-irmap: %q, %v; want %q", got, err, passwd)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := find(ctx, key, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("a search that was called off: %v", err)
	}
}
