package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/inspect"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/inet"
	"glis.dev/glis/internal/kind/socket/lone"
	"glis.dev/glis/internal/kind/socket/netlink"
	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/kind/socket/packet"
	unixkind "glis.dev/glis/internal/kind/socket/unix"
	"glis.dev/glis/internal/testkit"
)

// sorts are sockets of all families, with the tables of their options. What they need of
// the test is there until it ends.
func sorts(t *testing.T) map[string]optiontest.Sort {
	t.Helper()
	out := map[string]optiontest.Sort{}
	named := func(what string, table socket.Table, family, typ, protocol int, like func() (int, error)) {
		out[fmt.Sprintf("%s %s %d%s", socket.FamilyName(family), socket.TypeName(typ), protocol, what)] = optiontest.Sort{Table: table, Like: like}
	}
	add := func(table socket.Table, family, typ, protocol int) {
		named("", table, family, typ, protocol, func() (int, error) { return unix.Socket(family, typ|unix.SOCK_CLOEXEC, protocol) })
	}
	for family, echo := range map[int]int{unix.AF_INET: unix.IPPROTO_ICMP, unix.AF_INET6: unix.IPPROTO_ICMPV6} {
		for _, x := range []struct{ typ, protocol int }{
			{unix.SOCK_STREAM, unix.IPPROTO_TCP}, {unix.SOCK_STREAM, unix.IPPROTO_MPTCP}, {unix.SOCK_DGRAM, unix.IPPROTO_UDP}, {unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE},
			{unix.SOCK_RAW, echo}, {unix.SOCK_RAW, unix.IPPROTO_RAW}, {unix.SOCK_RAW, 253}, {unix.SOCK_DGRAM, echo},
		} {
			add(inet.Table(family, x.typ, x.protocol, false), family, x.typ, x.protocol)
		}
		for _, protocol := range []int{unix.IPPROTO_TCP, unix.IPPROTO_MPTCP} {
			named(" listening", inet.Table(family, unix.SOCK_STREAM, protocol, false), family, unix.SOCK_STREAM, protocol, func() (int, error) { return listening(family, protocol) })
		}
		named(" connected", inet.Table(family, unix.SOCK_STREAM, unix.IPPROTO_TCP, true), family, unix.SOCK_STREAM, unix.IPPROTO_TCP, func() (int, error) { return connected(t, family, unix.SOCK_STREAM) })
		named(" connected", inet.Table(family, unix.SOCK_DGRAM, unix.IPPROTO_UDP, false), family, unix.SOCK_DGRAM, unix.IPPROTO_UDP, func() (int, error) { return connected(t, family, unix.SOCK_DGRAM) })
	}
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET} {
		add(unixkind.Table(), unix.AF_UNIX, typ, 0)
	}
	add(netlink.Table(), unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE)
	add(packet.Table(), unix.AF_PACKET, unix.SOCK_RAW, 0)
	add(packet.Table(), unix.AF_PACKET, unix.SOCK_DGRAM, 0)
	tables := lone.Tables()
	add(tables[0], unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	add(tables[1], unix.AF_XDP, unix.SOCK_RAW, 0)
	return out
}

// loopback is an address of the loopback interface, at any port.
func loopback(family int) unix.Sockaddr {
	if family == unix.AF_INET6 {
		return &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}
	}
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
}

func listening(family, protocol int) (int, error) {
	n, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err == nil {
		err = unix.Bind(n, loopback(family))
	}
	if err == nil {
		err = unix.Listen(n, 3)
	}
	return n, err
}

// connected returns a socket that is connected to one of the test's.
func connected(t *testing.T, family, typ int) (int, error) {
	l, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	mustDo(t, err)
	t.Cleanup(func() { unix.Close(l) })
	mustDo(t, unix.Bind(l, loopback(family)))
	if typ == unix.SOCK_STREAM {
		mustDo(t, unix.Listen(l, 1))
	}
	to, err := unix.Getsockname(l)
	mustDo(t, err)
	n, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(n, to)
	}
	if err != nil || typ != unix.SOCK_STREAM {
		return n, err
	}
	a, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
	mustDo(t, err)
	t.Cleanup(func() { unix.Close(a) })
	return n, nil
}

// varying are options of a connection that the kernel changes by itself, or of which it
// lets only some values be set.
var varying = []string{"SO_SNDBUF", "SO_RCVBUF", "TCP_WINDOW_CLAMP"}

// glis inspect tells of a real checkpoint which options of its sockets are not at their
// default: all that are, of each family. All of them come back.
func TestOptionsAreTold(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	ownNetwork(t) // vsock, AF_XDP need the kernel's memory
	mustDo(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0))
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	mustDo(t, err)
	defer null.Close()
	attr := &os.ProcAttr{Files: []*os.File{null, null, null}, Sys: &syscall.SysProcAttr{Setsid: true}}
	var names []string
	changed, all, was := map[string][]string{}, sorts(t), map[string]map[string][]byte{}
	for name, s := range all {
		if n, err := s.Like(); err != nil {
			t.Logf("%s: %v", name, err) // CONFIG_VSOCKETS, CONFIG_XDP_SOCKETS, CONFIG_MPTCP, no UDP-Lite
			continue
		} else {
			unix.Close(n)
		}
		n, set := optiontest.Changed(t, s)
		attr.Files, names, changed[name] = append(attr.Files, os.NewFile(uintptr(n), name)), append(names, name), set
		was[name] = optiontest.Told(s.Table, n)
	}
	p := testkit.StartWith(t, testkit.NewDir(t), attr, testkit.RequireProgram(t, "sleep", "coreutils"), "1000")
	for _, f := range attr.Files[3:] {
		f.Close()
	}
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img, established...)
	checkTold(t, e, img, names, changed)
	pid := e.Restore(t, img, established...)
	pidfd, err := unix.PidfdOpen(pid, 0)
	mustDo(t, err)
	defer unix.Close(pidfd)
	for i, name := range names {
		n, err := unix.PidfdGetfd(pidfd, i+3, 0)
		mustDo(t, err)
		is := optiontest.Told(all[name].Table, n)
		unix.Close(n)
		for o, v := range was[name] {
			if !bytes.Equal(is[o], v) && !(strings.HasSuffix(name, "connected") && slices.Contains(varying, o)) {
				t.Errorf("%s: %s is %x, and was %x", name, o, is[o], v)
			}
		}
	}
}

// checkTold fails for each option that was changed and isn't told.
func checkTold(t *testing.T, e testkit.Engine, img string, names []string, changed map[string][]string) {
	t.Helper()
	out := e.Run(t, "inspect", "--json", img)
	var r inspect.Report
	if err := json.Unmarshal([]byte(out.Stdout), &r); err != nil {
		t.Fatal(err, out.Stderr)
	}
	for i, name := range names {
		at := slices.IndexFunc(r.Files, func(f *inspect.File) bool {
			return slices.ContainsFunc(f.Holders, func(h inspect.Holder) bool { return int(h.FD) == i+3 })
		})
		if at < 0 || len(changed[name]) < 25 {
			t.Fatalf("%s: file %d, %d options changed", name, at, len(changed[name]))
		}
		for _, o := range changed[name] {
			if !slices.ContainsFunc(r.Files[at].Options, func(told inspect.Option) bool { return told.Name == o }) {
				t.Errorf("%s: %s isn't told", name, o)
			}
		}
		t.Logf("%s: %d options", name, len(changed[name]))
	}
}
