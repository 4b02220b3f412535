package lone

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	ext_file "glis.dev/glis/image/criu/ext-file"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/optiontest"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/testkit"
)

// Every option that the kernel has is in the tables.
func TestEveryOptionIsKnown(t *testing.T) {
	testkit.RequireRoot(t)
	except := map[optiontest.ID]string{{Level: unix.AF_VSOCK, Opt: unix.SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW}: "SO_VM_SOCKETS_CONNECT_TIMEOUT"}
	for _, f := range families() {
		like := func() (int, error) { return unix.Socket(f.number, f.types[0]|unix.SOCK_CLOEXEC, 0) }
		n, err := like()
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue // CONFIG_VSOCKETS, CONFIG_XDP_SOCKETS
		}
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(n)
		levels := []int{unix.SOL_SOCKET, unix.AF_VSOCK}
		if f.number == unix.AF_XDP {
			levels[1] = unix.SOL_XDP
		}
		optiontest.Named(t, f.table, except, like)
		optiontest.Complete(t, f.table, except, like, levels...)
	}
}

// Every option survives, each alone and all together.
func TestEveryOptionSurvives(t *testing.T) {
	testkit.RequireRoot(t)
	m, err := kmem.Open("sock")
	testkit.KernelMemory(t, err)
	m.Close() //nolint:errcheck // nothing was written
	for _, f := range families() {
		for _, typ := range f.types {
			like := func() (int, error) { return unix.Socket(f.number, typ|unix.SOCK_CLOEXEC, 0) }
			n, err := like()
			if errors.Is(err, unix.EAFNOSUPPORT) {
				continue // CONFIG_VSOCKETS, CONFIG_XDP_SOCKETS
			}
			if err != nil {
				t.Fatal(err)
			}
			unix.Close(n)
			changed := optiontest.Survive(t, optiontest.Sort{Table: f.table, Like: like, Again: optiontest.Again(t, func() kind.File { return New() })})
			if changed < 30 {
				t.Errorf("only %d options were changed", changed)
			}
			t.Log(changed, "options")
		}
	}
}

// Datagrams of vsock, which some machines have, know none of its options: they are refused
// for what they are.
func TestDatagrams(t *testing.T) {
	n, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	testkit.Lacks(t, "datagrams of vsock", err, unix.ENODEV, unix.EAFNOSUPPORT)
	defer unix.Close(n)
	if err := optiontest.Dump(t, New(), n); err == nil || !strings.Contains(err.Error(), "sockets of this type aren't carried over") {
		t.Errorf("error %v", err)
	}
}

func entries(change func(e *ext_file.ExtFileEntry, x *extra.PlainSocket)) (*fdinfo.FileEntry, *extra.SocketEntry) {
	number := proto.Uint32
	fown, opts := optiontest.Required()
	b, err := proto.Marshal(opts)
	if err != nil {
		panic(err)
	}
	e := &ext_file.ExtFileEntry{Id: number(1), Fown: fown}
	x := &extra.PlainSocket{
		Family: number(unix.AF_VSOCK), Type: number(unix.SOCK_STREAM), Protocol: number(0), Flags: number(2), Options: b,
		Address: address(&unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: 7}), Backlog: number(1),
	}
	change(e, x)
	return &fdinfo.FileEntry{Type: fdinfo.FdTypes_EXT.Enum(), Id: number(1), Ext: e}, &extra.SocketEntry{Id: number(1), Plain: x}
}

func TestNonsense(t *testing.T) {
	number := proto.Uint32
	for want, change := range map[string]func(e *ext_file.ExtFileEntry, x *extra.PlainSocket){
		"called":     func(e *ext_file.ExtFileEntry, _ *extra.PlainSocket) { e.Id = number(2) },
		"AF_INET":    func(_ *ext_file.ExtFileEntry, x *extra.PlainSocket) { x.Family = number(unix.AF_INET) },
		"SOCK_DGRAM": func(_ *ext_file.ExtFileEntry, x *extra.PlainSocket) { x.Type = number(unix.SOCK_DGRAM) },
		"protocol 5": func(_ *ext_file.ExtFileEntry, x *extra.PlainSocket) { x.Protocol = number(5) },
		"backlog":    func(_ *ext_file.ExtFileEntry, x *extra.PlainSocket) { x.Address = nil },
		"of vsock":   func(_ *ext_file.ExtFileEntry, x *extra.PlainSocket) { x.Address = x.Address[:3] },
		"of AF_XDP": func(_ *ext_file.ExtFileEntry, x *extra.PlainSocket) {
			x.Family, x.Type = number(unix.AF_XDP), number(unix.SOCK_RAW)
		},
		"its options:": func(_ *ext_file.ExtFileEntry, x *extra.PlainSocket) { x.Options = []byte{255} },
	} {
		e, more := entries(change)
		k := New()
		k.extras = map[uint32]*extra.SocketEntry{1: more}
		if _, err := k.node(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	e, more := entries(func(*ext_file.ExtFileEntry, *extra.PlainSocket) {})
	k := New()
	if _, err := k.node(e); err == nil || !strings.Contains(err.Error(), "plugin") {
		t.Errorf("an external file of criu's: got %v", err)
	}
	k.extras = map[uint32]*extra.SocketEntry{1: more}
	if _, err := k.node(e); err != nil {
		t.Error(err)
	}
}
