package guardian

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/cgroupfs"
)

// Cgroups that a killed restore has made are removed, with those in them.
func TestRemoveCgroups(t *testing.T) {
	const name = "name=glistest-guardian"
	h, err := cgroupfs.Open(name)
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs root")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var s story
	for _, path := range []string{"/a", "/a/b", "/not-made"} {
		if path != "/not-made" {
			if err := h.Make(path); err != nil {
				t.Fatal(err)
			}
		}
		s.cgroups = append(s.cgroups, made{name, path})
	}
	if err := s.removeCgroups(); err != nil {
		t.Error(err)
	}
	if _, err := h.Dir("/a"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("it is still there (%v)", err)
	}
}

// A cgroup that a killed dump has frozen runs again.
func TestThawCgroup(t *testing.T) {
	mount := t.TempDir()
	if err := unix.Mount("none", mount, "cgroup2", 0, ""); errors.Is(err, unix.EPERM) {
		t.Skip("needs root")
	} else if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(mount, unix.MNT_DETACH) //nolint:errcheck // nothing is buffered
	path := filepath.Join(mount, filepath.Base(filepath.Dir(mount)))
	if err := unix.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	defer unix.Rmdir(path) //nolint:errcheck // as above
	for _, was := range []bool{true, false} {
		f, err := cgroupfs.OpenFreezer(path)
		if err == nil {
			err = errors.Join(f.Set(!was), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		s := story{frozen: frozen{path, was}}
		if err := s.thawCgroup(); err != nil {
			t.Error(err)
		}
		if f, err = cgroupfs.OpenFreezer(path); err != nil || f.Was != was {
			t.Errorf("frozen: %v, want %v (%v)", f.Was, was, err)
		}
		f.Close()
	}
}
