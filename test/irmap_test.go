package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// handleless is a mount namespace in which a directory of criu's list (see
// --force-irmap) is on a file system that gives no handles: overlayfs without
// nfs_export. It returns what runs a program there.
func handleless(t *testing.T, dir string) []string {
	t.Helper()
	for _, d := range []string{"lower", "upper", "work", "bin"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf("mount -t overlay -o nfs_export=off,lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work overlay /var/spool && echo mounted && exec sleep infinity", dir)
	holder := exec.Command(testkit.RequireProgram(t, "unshare", "util-linux"), "--mount", "sh", "-c", script)
	holder.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	out, err := holder.StdoutPipe()
	if err == nil {
		err = holder.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { holder.Process.Kill(); holder.Wait() }()
	if n, _ := out.Read(make([]byte, 1)); n == 0 {
		t.Skip("overlayfs can't be mounted here")
	}
	space, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", holder.Process.Pid)) // which keeps it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { space.Close() })
	return []string{testkit.RequireProgram(t, "nsenter", "util-linux"), fmt.Sprintf("--mount=/proc/%d/fd/%d", os.Getpid(), space.Fd()), "--"}
}

// within is the engine, run there.
func within(t *testing.T, glis testkit.Engine, dir string, there []string) testkit.Engine {
	t.Helper()
	inside := filepath.Join(dir, "bin", "glis")
	if err := os.WriteFile(inside, fmt.Appendf(nil, "#!/bin/sh\nexec %s %s \"$@\"\n", strings.Join(there, " "), glis.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	return testkit.NewEngine(t, inside)
}

// TestForceIrmap: what is watched on a file system that gives no handles is
// found with --force-irmap, in places that criu has a list of, and refused
// without it.
func TestForceIrmap(t *testing.T) {
	glis := glisOnly(t)
	dir := testkit.NewDir(t)
	there := handleless(t, dir)
	engine := within(t, glis, dir, there)
	p := testkit.Start(t, dir, append(there, testkit.BuildC(t, "targets/irmap.c"), "/var/spool/glis-watched", dir)...)
	p.AwaitAt(t, 0)
	img := testkit.NewDir(t)
	refused(t, engine, []string{"dump", "-t", fmt.Sprint(p.PID), "-D", img}, "--irmap-scan-path")
	engine.Save(t, p.PID, img, "--force-irmap")
	engine.Restore(t, img)
	p.Go(t, 0, false)
	p.AwaitAt(t, 1)
	p.Go(t, 1, true)
	p.WaitExit(t, 0)
}
