package test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
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

// sorts are sockets of all families, with the tables of their options.
func sorts() map[string]optiontest.Sort {
	out := map[string]optiontest.Sort{}
	add := func(table socket.Table, family, typ, protocol int) {
		like := func() (int, error) { return unix.Socket(family, typ, protocol) }
		out[fmt.Sprintf("%s %s %d", socket.FamilyName(family), socket.TypeName(typ), protocol)] = optiontest.Sort{Table: table, Like: like}
	}
	for family, echo := range map[int]int{unix.AF_INET: unix.IPPROTO_ICMP, unix.AF_INET6: unix.IPPROTO_ICMPV6} {
		tables := inet.Tables(family)
		add(tables[0], family, unix.SOCK_STREAM, unix.IPPROTO_TCP)
		add(tables[1], family, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
		add(tables[2], family, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE)
		add(tables[3], family, unix.SOCK_RAW, echo)
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

// glis inspect tells of a real checkpoint which options of its sockets are not at their
// default: all that are, of each family.
func TestOptionsAreTold(t *testing.T) {
	testkit.RequireRoot(t)
	e := glisOnly(t)
	kernelMemory(t) // vsock, AF_XDP
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	mustDo(t, err)
	defer null.Close()
	attr := &os.ProcAttr{Files: []*os.File{null, null, null}, Sys: &syscall.SysProcAttr{Setsid: true}}
	var names []string
	changed := map[string][]string{}
	for name, s := range sorts() {
		if n, err := s.Like(); err != nil {
			t.Logf("%s: %v", name, err) // CONFIG_VSOCKETS, CONFIG_XDP_SOCKETS, no UDP-Lite
			continue
		} else {
			unix.Close(n)
		}
		n, set := optiontest.Changed(t, s)
		f := os.NewFile(uintptr(n), name)
		defer f.Close()
		attr.Files, names, changed[name] = append(attr.Files, f), append(names, name), set
	}
	p := testkit.StartWith(t, testkit.NewDir(t), attr, testkit.RequireProgram(t, "sleep", "coreutils"), "1000")
	img := testkit.NewDir(t)
	e.Save(t, p.PID, img)
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
