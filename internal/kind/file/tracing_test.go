package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/testkit"
)

// tracing makes an instance of the kernel's tracing, which has files and a buffer of its own.
func tracing(t *testing.T) (dir string) {
	t.Helper()
	root := t.TempDir() // the usual place need not be mounted
	if err := unix.Mount("tracefs", root, "tracefs", 0, ""); err != nil {
		testkit.Lacks(t, "tracing (CONFIG_TRACING)", err, unix.ENODEV)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	dir = filepath.Join(root, "instances", fmt.Sprintf("glis-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Rmdir(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Who reads trace_pipe comes back if nothing is left of what it has read; other files that keep
// something for who has them open don't.
func TestTracing(t *testing.T) {
	dir := tracing(t)
	n := open(t, filepath.Join(dir, "trace_pipe"), unix.O_RDONLY|unix.O_NONBLOCK)
	dump := func() error {
		g := self(t)
		g.add(n)
		return g.dump()
	}
	r, err := kmem.Share(traceNames...).Reader()
	testkit.KernelMemory(t, err)
	defer r.Close()
	if err := dump(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "trace_marker"), []byte("a mark"), 0); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := unix.Read(n, b); err != nil {
		t.Fatal(err)
	}
	err = dump()
	mustFail(t, err, "tracefs", "no room for", "bytes")
	if !errors.Is(err, kind.ErrUnsupported) {
		t.Error("it is no ErrUnsupported")
	}
	for b = make([]byte, 4096); err != unix.EAGAIN; {
		if _, err = unix.Read(n, b); err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
	}
	if err := dump(); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string]int{"per_cpu/cpu0/trace_pipe_raw": unix.O_RDONLY, "free_buffer": unix.O_WRONLY, "set_event": unix.O_WRONLY} {
		g := self(t)
		g.add(open(t, filepath.Join(dir, name), flags|unix.O_NONBLOCK))
		mustFail(t, g.dump(), "tracefs")
	}
	g := self(t)
	g.add(open(t, filepath.Join(dir, "trace_marker"), unix.O_WRONLY))
	g.add(open(t, filepath.Join(dir, "set_event"), unix.O_RDONLY))
	if err := g.dump(); err != nil {
		t.Error(err)
	}
}
