package demo

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis"
	"glis.dev/glis/internal/testkit"
)

func TestMain(m *testing.M) {
	glis.Init()
	Serve()
	os.Exit(testkit.Main(m))
}

// killsEnv is at how many random moments of each kind the engine is killed.
const killsEnv = "GLIS_KILLS"

func kills() int {
	if n, err := strconv.Atoi(os.Getenv(killsEnv)); err == nil {
		return n
	}
	return 6
}

// victim is a server with busy connections whose dumps and restores are killed.
type victim struct {
	t      *testing.T
	engine string
	pid    int
	cli    *clients
	fds    int    // descriptors of the server
	dir    string // of the images that save has written last

	killed  time.Time     // when the engine was killed last
	longest time.Duration // from there until all connections had gone on
}

func newVictim(t *testing.T) *victim { return newVictimAt(t, anywhere) }

// newVictimAt starts one that listens at an address.
func newVictimAt(t *testing.T, at string) *victim {
	t.Helper()
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	v := &victim{t: t, engine: testkit.BuildGlis(t, "../../cmd/glis")}
	var addr string
	var err error
	if v.pid, addr, err = spawn(at, pairs, little); err != nil {
		t.Fatal(err)
	}
	if v.cli, err = connect(addr, 100); err != nil {
		t.Fatal(err)
	}
	v.cli.start()
	v.cli.awaitMore(make([]uint64, 100), 3)
	v.fds = descriptors(v.pid)
	t.Cleanup(v.end)
	return v
}

// end lets all talk on and checks that nothing was lost.
func (v *victim) end() {
	v.t.Logf("after the last breath of an engine every connection went on within %v", v.longest)
	for _, err := range v.cli.end() {
		v.t.Error(err)
	}
	if r, err := v.cli.ask(); err != nil || r.wrong > 0 || r.changed > 0 {
		v.t.Errorf("the server says %+v, %v", r, err)
	}
	v.cli.close()
	if err := unix.Kill(v.pid, unix.SIGKILL); err != nil {
		v.t.Error(err)
	}
	testkit.Reap(v.t, []int{v.pid})
}

// descriptors counts those of a process that are no files: Go itself opens some
// for a moment, those of its cgroup.
func descriptors(pid int) (n int) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if to, err := os.Readlink(dir + e.Name()); err == nil && !strings.HasPrefix(to, "/") {
			n++
		}
	}
	return n
}

// run runs the engine and, unless after is negative, kills it after a while.
// It returns when engine and guardian have ended.
func (v *victim) run(after time.Duration, sig unix.Signal, args ...string) error {
	cmd := exec.Command(v.engine, args...)
	cmd.Args = append(cmd.Args, "--tcp-established")
	var out strings.Builder
	cmd.Stderr = &out // the guardian has it, too: Wait waits for both
	if err := cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	if after >= 0 {
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Signal(sig) })
		defer timer.Stop()
	}
	v.killed = time.Now().Add(max(after, 0))
	err := cmd.Wait()
	if strings.Contains(out.String(), "Error (guardian)") {
		v.t.Errorf("%s: %v: %s", args[0], err, out.String())
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out.String())
	}
	return err
}

// unharmed checks that the server is as it was, and that all connections go on.
func (v *victim) unharmed() {
	v.t.Helper()
	testkit.Unharmed(v.t, v.pid)
	if n := descriptors(v.pid); n != v.fds {
		v.t.Errorf("the server has %d descriptors, it had %d", n, v.fds)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", v.pid))
	if err != nil || strings.Contains(string(maps), " rwxp ") {
		v.t.Errorf("memory of Glis's is left in the server: %v\n%s", err, maps)
	}
	if left := tables(v.t); len(left) > 0 {
		v.t.Errorf("rules left: %v", left)
	}
	now := v.cli.snapshot()
	v.cli.awaitMore(now, 3)
	v.longest = max(v.longest, time.Since(v.killed))
	for i, n := range v.cli.snapshot() {
		if n < now[i]+3 {
			v.t.Errorf("connection %d is stuck at message %d: %v", i, n, v.cli.failed[i])
		}
	}
}

// tables names the nftables tables of this network namespace that are ours.
func tables(t *testing.T) []string {
	t.Helper()
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	msgs, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE, Flags: netlink.Request | netlink.Dump},
		Data:   []byte{unix.NFPROTO_UNSPEC, 0, 0, 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range msgs {
		d, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			t.Fatal(err)
		}
		for d.Next() {
			if name := d.String(); d.Type() == unix.NFTA_TABLE_NAME && (strings.HasPrefix(name, "glis-") || strings.HasPrefix(name, "CRIU-")) {
				out = append(out, name)
			}
		}
	}
	return out
}

var killSignals = []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGABRT}

// lasts is about how long a dump or a restore of the server takes.
func (v *victim) lasts() time.Duration {
	v.t.Helper()
	dir := testkit.NewDir(v.t)
	from := time.Now()
	if err := v.run(-1, 0, "dump", "-t", strconv.Itoa(v.pid), "-D", dir, "--leave-running"); err != nil {
		v.t.Fatal(err)
	}
	return time.Since(from)
}

// A dump whose engine is killed at any moment either has not happened, or is
// complete and can be restored; in both cases no connection notices.
func TestKilledDump(t *testing.T) {
	for _, sig := range killSignals {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v/running=%v", sig, running), func(t *testing.T) {
				v := newVictim(t)
				longest := v.lasts()
				for range kills() {
					v.killDump(rand.N(longest), sig, running)
				}
			})
		}
	}
}

func (v *victim) killDump(after time.Duration, sig unix.Signal, running bool) {
	dir := testkit.NewDir(v.t)
	defer os.RemoveAll(dir)
	args := []string{"dump", "-t", strconv.Itoa(v.pid), "-D", dir}
	if running {
		args = append(args, "--leave-running")
	}
	err := v.run(after, sig, args...)
	_, missing := os.Stat(filepath.Join(dir, "inventory.img"))
	if left, _ := filepath.Glob(filepath.Join(dir, "*.img")); missing != nil && len(left) > 0 {
		v.t.Errorf("images of a dump that was not completed: %v (%v)", left, err)
	}
	if missing == nil && !running {
		testkit.Reap(v.t, []int{v.pid})
		if err := v.run(-1, 0, "restore", "-d", "-D", dir); err != nil {
			v.t.Fatal(err)
		}
	}
	v.unharmed()
}

// A restore whose engine is killed at any moment leaves nothing, and can be
// tried again, or has brought all back.
func TestKilledRestore(t *testing.T) {
	for _, sig := range killSignals {
		t.Run(fmt.Sprint(sig), func(t *testing.T) {
			v := newVictim(t)
			longest := v.lasts()
			for range kills() {
				v.killRestore(longest, sig)
			}
		})
	}
}

func (v *victim) killRestore(longest time.Duration, sig unix.Signal) {
	dir := testkit.NewDir(v.t)
	defer os.RemoveAll(dir)
	if err := v.run(-1, 0, "dump", "-t", strconv.Itoa(v.pid), "-D", dir); err != nil {
		v.t.Fatal(err)
	}
	testkit.Reap(v.t, []int{v.pid})
	for tries := 0; ; tries++ {
		after := rand.N(longest)
		if tries == 5 {
			after = -1
		}
		err := v.run(after, sig, "restore", "-d", "-D", dir)
		tree := testkit.Tree(v.pid)
		if len(tree) > 0 && !zombie(v.pid) {
			break
		}
		if err == nil || tries == 5 {
			v.t.Fatalf("nothing was restored: %v", err)
		}
		testkit.Reap(v.t, tree)
	}
	v.unharmed()
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}
