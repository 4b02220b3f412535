package test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// footprint is what must not grow from one restore to the next.
type footprint struct {
	descriptors, mappings, tables, resident int // resident in KiB, of the tree
}

// footprintOf looks at a tree, and at the tables of nftables that there are.
func footprintOf(t *testing.T, pid int) (f footprint) {
	t.Helper()
	for _, p := range testkit.Tree(pid) {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p))
		if err != nil {
			t.Fatal(err)
		}
		maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p))
		if err != nil {
			t.Fatal(err)
		}
		f.descriptors += len(fds)
		f.mappings += strings.Count(string(maps), "\n")
		for _, line := range testkit.Status(t, strconv.Itoa(p), "VmRSS") {
			kib, _ := strconv.Atoi(strings.Fields(line)[1])
			f.resident += kib
		}
	}
	f.tables = tables(t)
	return f
}

// tables counts the tables of nftables in this network namespace.
func tables(t *testing.T) int {
	t.Helper()
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE), Flags: netlink.Request | netlink.Dump},
		Data:   binary.NativeEndian.AppendUint32(nil, unix.NFPROTO_UNSPEC), // struct nfgenmsg
	})
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// drift is how often what is looked at is written down.
const drift = 100

// A program with threads, files, pipes, unix and TCP sockets that checks every
// byte it is sent is saved and restored again and again: nothing grows.
func TestDrift(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv(soakEnv))
	if n <= 0 {
		t.Skip("takes minutes: set " + soakEnv + "=10000")
	}
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/traffic.c"), ".")
	awaitCount(t, p, 3)
	cycle(t, e, p) // what is made once is there
	first, began := footprintOf(t, p.PID), time.Now()
	for i := 1; i <= n; i++ {
		cycle(t, e, p)
		if i%max(1, n/drift) != 0 {
			continue
		}
		now := footprintOf(t, p.PID)
		t.Logf("%d: %+v, %v a cycle", i, now, time.Since(began)/time.Duration(max(1, n/drift)))
		if now.descriptors != first.descriptors || now.mappings != first.mappings || now.tables != first.tables || now.resident > first.resident+1024 {
			t.Fatalf("after %d cycles it is %+v, and was %+v", i, now, first)
		}
		began = time.Now()
	}
	counted(t, p.Dir)
}

// cycle saves and restores a tree, and waits until it has gone on.
func cycle(t *testing.T, e testkit.Engine, p *testkit.Proc) {
	t.Helper()
	img := testkit.NewDir(t)
	// It runs beside others for hours: a tree that gets no CPU does not stop.
	e.Save(t, p.PID, img, "--tcp-established", "--timeout", "600")
	e.Restore(t, img, "--tcp-established")
	if err := os.RemoveAll(img); err != nil {
		t.Fatal(err)
	}
	count := filepath.Join(p.Dir, "count")
	before, err := os.Stat(count)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Await(t, p.Dir, p.PID, "the program to go on", func() bool {
		now, err := os.Stat(count)
		return err == nil && now.Size() > before.Size()
	})
}
