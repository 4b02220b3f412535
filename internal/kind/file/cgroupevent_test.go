package file

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/cgroupfs"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/testkit"
)

// An eventfd that a cgroup of version 1 writes to is refused; one that others wait for isn't.
func TestCgroupEvent(t *testing.T) {
	testkit.RequireRoot(t)
	if !cgroupsWrite() {
		t.Skip("no hierarchy of cgroups of version 1 for memory (memory in /proc/cgroups)")
	}
	k := &Eventfd{}
	memory := kmem.Share(k.KernelNames()...)
	_, err := memory.Reader()
	testkit.KernelMemory(t, err)
	defer memory.Close() //nolint:errcheck // it was only read from
	k.UseMemory(memory)
	g := self(t)
	n, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	own(t, n, err)
	waits, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	own(t, waits, err)
	if err := unix.EpollCtl(waits, unix.EPOLL_CTL_ADD, n, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		t.Fatal(err)
	}
	f := g.add(n)
	if _, err := k.Dump(t.Context(), g.env, f); err != nil {
		t.Fatal(err)
	}
	hierarchy, err := cgroupfs.Open("memory")
	if err != nil {
		t.Fatal(err)
	}
	defer hierarchy.Close() //nolint:errcheck // it was only read from
	dir := filepath.Join(fmt.Sprintf("/proc/self/fd/%d", hierarchy.FD()), fmt.Sprintf("glis-event-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	of, err := os.Open(dir + "/memory.oom_control")
	if err != nil {
		t.Fatal(err)
	}
	defer of.Close()
	if err := os.WriteFile(dir+"/cgroup.event_control", fmt.Appendf(nil, "%d %d", n, of.Fd()), 0); err != nil {
		t.Fatal(err)
	}
	_, err = k.Dump(t.Context(), g.env, f)
	mustFail(t, err, "a cgroup of version 1 writes to it", "not supported")
}
