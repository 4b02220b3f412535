package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	sk_netlink "glis.dev/glis/image/criu/sk-netlink"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
)

// Messages that nobody could send once more are refused by name.
func TestUnread(t *testing.T) {
	testkit.RequireRoot(t)
	const number = 0x71234567
	to := func(groups uint32) *unix.SockaddrNetlink {
		return &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: number, Groups: groups}
	}
	unread(t, unix.NETLINK_USERSOCK, "which isn't in the tree", func(n int) error {
		return errors.Join(unix.Bind(n, to(0)), unix.Sendto(n, []byte("hello"), 0, to(0)))
	})
	unread(t, unix.NETLINK_USERSOCK, "to group 1", func(n int) error {
		return errors.Join(unix.Bind(n, to(1)), unix.Sendto(n, []byte("hello"), 0, to(1)))
	})
	unread(t, unix.NETLINK_ROUTE, "of the kernel's", func(n int) error {
		h := binary.NativeEndian.AppendUint32(nil, unix.SizeofNlMsghdr+unix.SizeofIfInfomsg)
		h = binary.NativeEndian.AppendUint16(h, unix.RTM_GETLINK)
		h = binary.NativeEndian.AppendUint16(h, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		return unix.Sendto(n, append(h, make([]byte, 8+unix.SizeofIfInfomsg)...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
}

// What netfilter does for a socket would end with it.
func TestNetfilter(t *testing.T) {
	testkit.RequireRoot(t)
	const queues, logs, tables, config = 3, 4, unix.NFNL_SUBSYS_NFTABLES, 1
	attr := func(typ uint16, data ...byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(data)))
		b = append(binary.NativeEndian.AppendUint16(b, typ), data...)
		return append(b, make([]byte, -len(b)&3)...)
	}
	message := func(typ, flags uint16, family byte, number uint16, attrs ...[]byte) []byte {
		body := append(binary.BigEndian.AppendUint16([]byte{family, 0}, number), slices.Concat(attrs...)...)
		h := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
		h = binary.NativeEndian.AppendUint16(h, typ)
		h = binary.NativeEndian.AppendUint16(h, unix.NLM_F_REQUEST|flags)
		return append(append(h, make([]byte, 8)...), body...)
	}
	ask := func(lacks string, b []byte) func(n int) error {
		return func(n int) error {
			buf := make([]byte, 4096)
			if err := unix.Sendto(n, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
				return err
			}
			got, err := unix.Read(n, buf)
			if err != nil || got < unix.SizeofNlMsghdr+4 {
				return fmt.Errorf("answer of %d bytes: %w", got, err)
			}
			no := -int32(binary.NativeEndian.Uint32(buf[unix.SizeofNlMsghdr:]))
			if no == 0 {
				return nil
			}
			testkit.Lacks(t, lacks, unix.Errno(no), unix.EINVAL, unix.EOPNOTSUPP)
			return unix.Errno(no)
		}
	}
	bind := []byte{1, 0, 0, 0} // NFQNL_CFG_CMD_BIND, NFULNL_CFG_CMD_BIND
	unread(t, unix.NETLINK_NETFILTER, "NFQUEUE, number 64999", ask("queues of netfilter", message(queues<<8|2, unix.NLM_F_ACK, unix.AF_INET, 64999, attr(1, bind...))))
	unread(t, unix.NETLINK_NETFILTER, "NFLOG, number 64998", ask("logs of netfilter", message(logs<<8|config, unix.NLM_F_ACK, unix.AF_INET, 64998, attr(1, 1))))
	owned := message(tables<<8|unix.NFT_MSG_NEWTABLE, unix.NLM_F_ACK|unix.NLM_F_CREATE, unix.NFPROTO_IPV4, 0, attr(unix.NFTA_TABLE_NAME, []byte("glis-owned\x00")...), attr(unix.NFTA_TABLE_FLAGS, 0, 0, 0, 2))
	begin, end := message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, tables), message(unix.NFNL_MSG_BATCH_END, 0, 0, tables)
	unread(t, unix.NETLINK_NETFILTER, `table "glis-owned"`, ask("tables with an owner", slices.Concat(begin, owned, end)))
}

func unread(t *testing.T, protocol int, want string, receive func(n int) error) {
	t.Helper()
	n, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(n)
	if err := receive(n); err != nil {
		t.Fatal(err)
	}
	p, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	self := fd.New(p)
	defer self.Close()
	f := &scan.File{Task: &scan.Task{PID: proc.PID(os.Getpid()), Pidfd: self}, FD: int32(n), Link: "socket:[1]"}
	if err := f.Stat.At(n, ""); err != nil {
		t.Fatal(err)
	}
	k := New()
	if !k.Match(f) {
		t.Fatal("it is no netlink socket")
	}
	k.UseMemory(kmem.Share(k.KernelNames()...))
	defer k.mem.Close()
	if _, err := k.mem.Reader(); err != nil && protocol != unix.NETLINK_NETFILTER {
		want = "in its queue"
	}
	_, err = k.Dump(context.Background(), &kind.DumpEnv{Tree: &scan.Tree{}}, f)
	if !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("got %v", err)
	}
}

func TestNonsense(t *testing.T) {
	number := proto.Uint32
	entry := func(change func(*sk_netlink.NetlinkSkEntry)) *fdinfo.FileEntry {
		in := &sk_netlink.NetlinkSkEntry{Id: number(1), Ino: number(1), Protocol: number(0), State: number(0), Flags: number(2), Portid: number(7), Opts: &sk_opts.SkOptsEntry{}}
		change(in)
		return &fdinfo.FileEntry{Id: number(1), Nlsk: in}
	}
	for want, change := range map[string]func(*sk_netlink.NetlinkSkEntry){
		"called":        func(in *sk_netlink.NetlinkSkEntry) { in.Id = number(2) },
		"protocol 32":   func(in *sk_netlink.NetlinkSkEntry) { in.Protocol = number(32) },
		"words":         func(in *sk_netlink.NetlinkSkEntry) { in.Groups = make([]uint32, mostGroups) },
		"group 33":      func(in *sk_netlink.NetlinkSkEntry) { in.DstGroup = number(33) },
		"but no number": func(in *sk_netlink.NetlinkSkEntry) { in.Portid, in.DstPortid = nil, number(4) },
		"messages wait": func(in *sk_netlink.NetlinkSkEntry) { in.Portid = nil },
		"SOCK_STREAM":   func(in *sk_netlink.NetlinkSkEntry) { in.Id = number(3) },
	} {
		e := entry(change)
		k := New()
		if want == "messages wait" {
			k.queued = map[plan.ID][]*message{1: {{from: 7}}}
		}
		k.extras = map[uint32]*extra.SocketEntry{3: {Id: number(3), Type: number(unix.SOCK_STREAM)}}
		if want == "SOCK_STREAM" {
			e.Id = number(3)
		}
		if _, err := k.node(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	n, err := New().node(entry(func(in *sk_netlink.NetlinkSkEntry) { in.Groups = []uint32{1 << 31, 1} }))
	if err != nil || fmt.Sprint(n.groups()) != "[32 33]" {
		t.Errorf("groups %v, %v", n.groups(), err)
	}
	if _, err := New().node(&fdinfo.FileEntry{Id: number(1)}); err == nil {
		t.Error("a file without its entry is taken")
	}
}
