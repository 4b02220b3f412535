package tun

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/tun"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
)

// nowhere takes what a dump writes.
type nowhere struct{}

func (nowhere) Put(*image.Row, proto.Message, []byte, ...uint32) error { return nil }

// promises is the guard of a dump; it notes what was promised.
type promises struct {
	kind.Guard
	all []linux.SockOpt
}

func (p *promises) Leave(_ *scan.File, opt linux.SockOpt, back ...linux.SockOpt) error {
	p.all = append(append(p.all, opt), back...)
	return nil
}

func dump(t *testing.T, n int) (*fdinfo.FileEntry, *promises, error) {
	t.Helper()
	return dumpAt(t, n, "/dev/net/tun")
}

func dumpAt(t *testing.T, n int, path string) (*fdinfo.FileEntry, *promises, error) {
	t.Helper()
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	self := fd.New(pidfd)
	defer self.Close()
	f := &scan.File{Task: &scan.Task{PID: proc.PID(os.Getpid()), Pidfd: self}, FD: int32(n), Link: path, ID: 1}
	if err := f.Stat.At(n, ""); err != nil {
		t.Fatal(err)
	}
	k := New()
	if !k.Match(f) {
		t.Fatal("no match")
	}
	k.UseMemory(kmem.Share(k.KernelNames()...))
	defer k.mem.Close()
	p := &promises{}
	e, err := k.Dump(context.Background(), &kind.DumpEnv{Tree: &scan.Tree{}, Images: nowhere{}, Guard: p}, f)
	return e, p, err
}

func open(t *testing.T) int {
	t.Helper()
	testkit.RequireRoot(t)
	n, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		t.Skip("no /dev/net/tun (CONFIG_TUN)")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(n) })
	return n
}

func attach(t *testing.T, flags uint16) int {
	t.Helper()
	n := open(t)
	r, err := unix.NewIfreq("glis%d")
	if err != nil {
		t.Fatal(err)
	}
	r.SetUint16(flags)
	if err := unix.IoctlIfreq(n, unix.TUNSETIFF, r); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRefused(t *testing.T) {
	tap := attach(t, unix.IFF_TAP|unix.IFF_NO_PI)
	pass := unix.SockFilter{Code: 6, K: 0xffff}
	if err := linux.TunAttachFilter(tap, []unix.SockFilter{pass}); err != nil {
		t.Fatal(err)
	}
	number := open(t)
	if err := unix.IoctlSetPointerInt(number, unix.TUNSETIFINDEX, 4711); err != nil {
		t.Fatal(err)
	}
	for want, n := range map[string]int{"TUNATTACHFILTER": tap, "TUNSETIFINDEX": number} {
		_, p, err := dump(t, n)
		if !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			if want == "TUNSETIFINDEX" && err == nil && !has(t, "tun_file") {
				continue // where it is a module nobody tells
			}
			t.Errorf("%s: got %v", want, err)
		}
		_ = p
	}
}

func has(t *testing.T, name string) bool {
	t.Helper()
	m, err := kmem.Open("?" + name)
	if err != nil {
		return false
	}
	defer m.Close()
	return m.Has(name)
}

// An interface that would go with its program is made to stay, in the last moment.
func TestStays(t *testing.T) {
	n := attach(t, unix.IFF_TUN)
	e, p, err := dump(t, n)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(e.GetTunf().GetNetdev(), "glis") || len(p.all) != 2 || p.all[0] != persist(1) || p.all[1] != persist(0) {
		t.Errorf("%v, promised %v", e, p.all)
	}
	if err := p.all[0].Set(n); err != nil {
		t.Fatal(err)
	}
	if _, p, err := dump(t, n); err != nil || len(p.all) != 0 {
		t.Errorf("of one that stays anyway: promised %v, %v", p.all, err)
	}
	if err := p.all[1].Set(n); err != nil {
		t.Fatal(err)
	}
}

func TestNonsense(t *testing.T) {
	number, text := proto.Uint32, func(s string) *string { return &s }
	fown, _ := optiontest.Required()
	own, err := proto.Marshal(fown)
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(e *tun.TunfileEntry, x *extra.TunFile){
		"":             func(*tun.TunfileEntry, *extra.TunFile) {},
		"is missing":   func(e *tun.TunfileEntry, _ *extra.TunFile) { e.Id = number(2) },
		"a path":       func(_ *tun.TunfileEntry, x *extra.TunFile) { x.Path = text("tun") },
		"with flags":   func(_ *tun.TunfileEntry, x *extra.TunFile) { x.Interface = number(1 << 20) },
		"an interface": func(e *tun.TunfileEntry, _ *extra.TunFile) { e.Netdev = text(strings.Repeat("x", 16)) },
		"neither":      func(e *tun.TunfileEntry, _ *extra.TunFile) { e.Netdev = nil },
		"neither tun":  func(_ *tun.TunfileEntry, x *extra.TunFile) { x.Interface = number(3) },
		"a queue":      func(_ *tun.TunfileEntry, x *extra.TunFile) { x.Index = number(256) },
		"its owner":    func(_ *tun.TunfileEntry, x *extra.TunFile) { x.Owner = []byte{255} },
	} {
		e := &tun.TunfileEntry{Id: number(1), Netdev: text("tun0")}
		x := &extra.TunFile{Path: text("/dev/net/tun"), Flags: number(2), Owner: own, Interface: number(unix.IFF_TUN)}
		change(e, x)
		k := New()
		k.extras = map[uint32]*extra.SocketEntry{1: {Tun: x}}
		_, err := k.node(&fdinfo.FileEntry{Id: number(1), Tunf: e})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	if _, err := New().node(&fdinfo.FileEntry{Id: number(1), Tunf: &tun.TunfileEntry{Id: number(1)}}); !errors.Is(err, kind.ErrUnsupported) {
		t.Errorf("an entry of criu's: got %v", err)
	}
}

// One whose interface was moved to another network namespace is refused: Glis
// would look at another one of its name here.
func TestMovedAway(t *testing.T) {
	n := attach(t, unix.IFF_TUN)
	moveAway(t, n)
	if _, _, err := dump(t, n); !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), "was moved to another network namespace") {
		t.Errorf("got %v", err)
	}
}

// moveAway moves the interface of a queue to a network namespace that ends with
// the test.
func moveAway(t *testing.T, queue int) {
	t.Helper()
	r, err := unix.NewIfreq("")
	if err == nil {
		err = unix.IoctlIfreq(queue, unix.TUNGETIFF, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	i, err := net.InterfaceByName(r.Name())
	if err != nil {
		t.Fatal(err)
	}
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := binary.NativeEndian.AppendUint32(make([]byte, 4), uint32(i.Index)) // struct ifinfomsg
	data = append(data, make([]byte, unix.SizeofIfInfomsg-len(data))...)
	data = binary.NativeEndian.AppendUint16(data, 8)
	data = binary.NativeEndian.AppendUint16(data, unix.IFLA_NET_NS_FD)
	data = binary.NativeEndian.AppendUint32(data, uint32(otherNet(t)))
	if _, err := c.Execute(netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWLINK, Flags: netlink.Request | netlink.Acknowledge}, Data: data}); err != nil {
		t.Fatal(err)
	}
}

// otherNet returns a network namespace that nobody else uses.
func otherNet(t *testing.T) int {
	t.Helper()
	got := make(chan int)
	testkit.OnThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		n, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
		}
		got <- n
	})
	n := <-got
	t.Cleanup(func() { unix.Close(n) })
	return n
}

// One whose path leads elsewhere by now could not be opened again.
func TestPath(t *testing.T) {
	n := open(t)
	for _, path := range []string{"/dev/null", filepath.Join(t.TempDir(), "tun"), t.TempDir()} {
		if _, _, err := dumpAt(t, n, path); !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
		planned := &node{entry: &tun.TunfileEntry{}, more: &extra.TunFile{Path: &path}}
		if err := planned.Check(nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s in an image: got %v", path, err)
		}
	}
}

// An image can't have more queues of an interface than there can be.
func TestMostQueues(t *testing.T) {
	fown, _ := optiontest.Required()
	own, err := proto.Marshal(fown)
	if err != nil {
		t.Fatal(err)
	}
	k, p := New(), plan.New(nil, nil)
	k.extras = map[uint32]*extra.SocketEntry{}
	for id := uint32(1); id <= mostQueues+1; id++ {
		x := &extra.TunFile{Path: proto.String("/dev/net/tun"), Flags: proto.Uint32(2), Owner: own, Interface: proto.Uint32(unix.IFF_TUN)}
		k.extras[id] = &extra.SocketEntry{Tun: x}
		err := k.Plan(p, &fdinfo.FileEntry{Id: &id, Tunf: &tun.TunfileEntry{Id: &id, Netdev: proto.String("tun0")}})
		if (err == nil) != (id <= mostQueues) {
			t.Fatalf("queue %d: %v", id, err)
		}
	}
}
