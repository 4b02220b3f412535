package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// reencode reads file name of s and writes the same into a store of its own. It
// returns nil for what is not an image with entries.
func reencode(t *testing.T, s Store, name string) []byte {
	t.Helper()
	r, ids, ok := RowFor(name)
	if !ok {
		if strings.HasSuffix(name, ".img") {
			t.Errorf("%s: no row for it", name)
		}
		return nil
	}
	if r.Raw() {
		return nil
	}
	rd, err := open(s, r, name)
	check(t, err)
	defer rd.Close() //nolint:errcheck // only read from
	all, err := readEntries(rd)
	check(t, err)
	out := memory{}
	w, err := create(out, r, name)
	check(t, err)
	for _, e := range all {
		check(t, w.PutPayload(e.m, e.payload))
	}
	check(t, w.Close())
	if r == Pagemap || r == PagemapShmem {
		resolveAll(t, s, r, ids[0])
	}
	return out[name].b
}

func resolveAll(t *testing.T, s Store, r *Row, id uint64) {
	t.Helper()
	p, err := OpenPagemap(s, r, id)
	check(t, err)
	res, err := p.Resolve()
	check(t, err)
	check(t, errors.Join(res.Close(), p.Close()))
}

// reencodeAll checks that decoding and encoding again changes no byte of any
// file, and returns the number of files.
func reencodeAll(t *testing.T, d *Dir) (count int) {
	t.Helper()
	names, err := d.List()
	check(t, err)
	for _, name := range names {
		got := reencode(t, d, name)
		if got == nil {
			continue
		}
		count++
		f, err := d.Open(name)
		check(t, err)
		want, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		check(t, errors.Join(err, f.Close()))
		if !bytes.Equal(got, want) {
			t.Errorf("%s changes:\n%x\n%x", name, got, want)
		}
	}
	if _, err := ReadInventory(d); err != nil {
		t.Error(err)
	}
	return count
}

// testdata/sleep is a sleep(1) dumped by criu 4.2, without its pages, whose file
// is there as a hole.
func TestImagesOfCriu(t *testing.T) {
	path := t.TempDir()
	check(t, os.CopyFS(path, os.DirFS("testdata/sleep")))
	check(t, os.WriteFile(path+"/pages-1.img", nil, 0o600))
	check(t, os.Truncate(path+"/pages-1.img", 30*PageSize))
	if n := reencodeAll(t, openDir(t, path)); n != 12 {
		t.Errorf("%d images, want 12", n)
	}
}

// requireCriu skips the test unless it can dump with the criu in PATH.
func requireCriu(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("criu"); err != nil {
		t.Skip("no criu in PATH")
	}
	testkit.RequireRoot(t)
}

// TestFreshImagesOfCriu does the same with images of the criu in PATH: a shell
// with a pipeline and a deleted file. Where the kernel tells dirty pages, there
// is a checkpoint before that it builds on.
func TestFreshImagesOfCriu(t *testing.T) {
	requireCriu(t)
	path := t.TempDir()
	check(t, os.Mkdir(path+"/1", 0o700))
	check(t, os.Mkdir(path+"/2", 0o700))
	task := []string{"-t", fmt.Sprint(startShell(t, path+"/ghost"))}
	if exec.Command("criu", "check", "--feature", "mem_dirty_track").Run() == nil {
		criu(t, "pre-dump", append(task, "--track-mem", "-D", path+"/1")...)
		task = append(task, "--track-mem", "--prev-images-dir", "../1")
	}
	criu(t, "dump", append(task, "-D", path+"/2")...)
	if n := reencodeAll(t, openDir(t, path+"/2")); n < 20 {
		t.Errorf("only %d images", n)
	}
	if d := openDir(t, path+"/1"); len(task) > 2 {
		reencodePreDump(t, d)
	}
}

// reencodePreDump: there is no tree in a pre-dump, only memory.
func reencodePreDump(t *testing.T, d *Dir) {
	if n := reencodeAll(t, d); n < 3 {
		t.Errorf("only %d images in the pre-dump", n)
	}
}

// startShell starts the process to be dumped and waits until it is as it should
// be. It is killed when the test ends, if the dump did not.
func startShell(t *testing.T, file string) (pid int) {
	t.Helper()
	const script = `exec 4<>"$0"; rm "$0"; echo deleted >&4
		{ echo queued; exec 3>&-; exec sleep 1000; } | { exec 3>&-; exec sleep 1000; } &
		exec 3>&-; wait`
	ready, theirs, err := os.Pipe()
	check(t, err)
	cmd := exec.Command("sh", "-c", script, file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{theirs}
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // gone if the dump worked
		_ = cmd.Wait()
	})
	check(t, theirs.Close())
	// They all close their end once they are as they should be.
	_, err = io.Copy(io.Discard, ready)
	check(t, errors.Join(err, ready.Close()))
	return cmd.Process.Pid
}

func criu(t *testing.T, verb string, args ...string) {
	t.Helper()
	args = append([]string{verb, "--shell-job", "--link-remap"}, args...)
	if out, err := exec.Command("criu", args...).CombinedOutput(); err != nil {
		t.Fatalf("criu %s: %v\n%s", verb, err, out)
	}
}
