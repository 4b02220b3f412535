package dump

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/guardian"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

func TestMain(m *testing.M) {
	guardian.Main(guardian.Hooks{Discard: Discard})
	if dir := os.Getenv(dies); dir != "" {
		fmt.Fprintln(os.Stderr, die(dir))
		os.Exit(1)
	}
	os.Exit(testkit.Main(m))
}

// fullDisk is a store that has no room from its n-th act on.
type fullDisk struct {
	*image.Dir
	left *atomic.Int64
}

func (s fullDisk) act() error {
	if s.left.Add(-1) < 0 {
		return unix.ENOSPC
	}
	return nil
}

func (s fullDisk) Create(name string) (image.WriteFile, error) {
	if err := s.act(); err != nil {
		return nil, err
	}
	f, err := s.Dir.Create(name)
	if err != nil {
		return nil, err
	}
	return fullFile{f, s}, nil
}

func (s fullDisk) Sync() error { return errors.Join(s.act(), s.Dir.Sync()) }

type fullFile struct {
	image.WriteFile
	s fullDisk
}

func (f fullFile) Write(p []byte) (int, error) {
	if err := f.s.act(); err != nil {
		n, _ := f.WriteFile.Write(p[:len(p)/2])
		return n, err
	}
	return f.WriteFile.Write(p)
}

func (f fullFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.s.act(); err != nil {
		return 0, err
	}
	return f.WriteFile.WriteAt(p, off)
}

// Close is where some file systems say that there was no room.
func (f fullFile) Close() error { return errors.Join(f.WriteFile.Close(), f.s.act()) }

// Whatever it is that a full disk refuses, the last sync included: there is no
// checkpoint, nothing else is left, and the target runs on.
func TestFullDiskAtEveryWrite(t *testing.T) {
	if unix.Getuid() != 0 {
		t.Skip("a dump needs root")
	}
	for _, leave := range []bool{true, false} {
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		dir := dirOf(t)
		n := int64(0)
		for ; ; n++ {
			left := &atomic.Int64{}
			left.Store(n)
			o := options.NewDump()
			o.Tree, o.LeaveRunning = cmd.Process.Pid, leave
			_, err := Run(context.Background(), o, fullDisk{dir, left}, slog.New(slog.DiscardHandler), nil)
			if err == nil {
				break
			}
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("act %d: %v", n, err)
			}
			if left := names(t, dir); len(left) > 0 {
				t.Fatalf("act %d: left behind: %v", n, left)
			}
			if err := cmd.Process.Signal(syscall.Signal(0)); err != nil || !asleep(t, cmd.Process.Pid) {
				t.Fatalf("act %d: the target is gone, or not as it was: %v", n, err)
			}
		}
		if all := strings.Join(names(t, dir), " "); n < 20 || !strings.Contains(all, "inventory.img") {
			t.Errorf("leave running %v: whole after %d acts: %s", leave, n, all)
		}
	}
}

// asleep tells whether a process sleeps, or is on its way there, and nobody traces it.
func asleep(t *testing.T, pid int) bool {
	d, err := proc.Open(proc.PID(pid))
	must(t, err)
	defer d.Close()
	st, err := d.Status()
	must(t, err)
	return strings.ContainsRune("SRD", rune(st.State)) && st.TracerPid == 0
}
