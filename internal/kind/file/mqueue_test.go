package file

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// TestMqueueGone: a queue that is not there any more is named, and names that no
// queue has are refused.
func TestMqueueGone(t *testing.T) {
	reg := func(name string) *regularNode {
		return &regularNode{name: name}
	}
	n := &mqueueNode{regularNode: reg(fmt.Sprintf("%s/glis-none-%d", mqueueRoot, os.Getpid()))}
	if _, err := n.Create(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("a queue that is gone: %v", err)
	}
	for _, name := range []string{mqueueRoot, mqueueRoot + "/", mqueueRoot + "/a/b", "/etc/passwd"} {
		if err := planQueue(plan.New(nil, nil), &fdinfo.FileEntry{}, reg(name), queueOpen); err == nil {
			t.Errorf("%s is taken for a queue", name)
		}
	}
	p := plan.New(nil, nil)
	if err := planQueue(p, &fdinfo.FileEntry{}, reg(mqueueRoot+"/a"), queueOpen|queueCloexec); err != nil || p.Node(0).(*mqueueNode).cloexec != unix.O_CLOEXEC {
		t.Errorf("a queue: %v", err)
	}
}

// A queue that has a lease is refused before anybody opens it, which would break that.
func TestMqueueLeased(t *testing.T) {
	name := fmt.Sprintf("glis-leased-%d", os.Getpid())
	n, err := linux.MqOpen(name, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC)
	own(t, n, err)
	defer unlinkQueue(t, name)
	if _, err := unix.FcntlInt(uintptr(n), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	g := self(t)
	_, err = Mqueue{&Regular{}}.Dump(t.Context(), g.env, g.add(n))
	mustFail(t, err, "a message queue that has a lease")
	if lease, err := unix.FcntlInt(uintptr(n), unix.F_GETLEASE, 0); lease != unix.F_WRLCK || err != nil {
		t.Errorf("lease %d, %v", lease, err)
	}
}
