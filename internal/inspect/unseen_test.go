package inspect

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	ext "glis.dev/glis/image/criu/ext-file"
	"glis.dev/glis/image/criu/fdinfo"
	packetsk "glis.dev/glis/image/criu/packet-sock"
	inetsk "glis.dev/glis/image/criu/sk-inet"
	netlinksk "glis.dev/glis/image/criu/sk-netlink"
	unixsk "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/criu/tun"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kind/socket/inet"
	"glis.dev/glis/internal/kind/socket/lone"
	"glis.dev/glis/internal/kind/socket/netlink"
	"glis.dev/glis/internal/kind/socket/packet"
	unixkind "glis.dev/glis/internal/kind/socket/unix"
)

// withSocket is a checkpoint with one more file.
func withSocket(t *testing.T, fill func(e *fdinfo.FileEntry, x *extra.SocketEntry)) *File {
	t.Helper()
	s := tree(t)
	files := fileEntries()
	id := uint32(len(files) + 1)
	e, x := &fdinfo.FileEntry{Id: &id}, &extra.SocketEntry{Id: &id}
	fill(e, x)
	delete(s, image.Files.FileName())
	delete(s, extra.Sockets.FileName())
	check(t, image.WriteAll(s, image.Files, append(files, e)))
	check(t, image.WriteAll(s, extra.Sockets, []*extra.SocketEntry{x}))
	r, err := Read(t.Context(), s)
	check(t, err)
	for _, f := range r.Files {
		if f.ID == id {
			return f
		}
	}
	t.Fatal("the file isn't told")
	return nil
}

// Every option of every family is told if it is not at its default.
func TestEveryOptionIsTold(t *testing.T) {
	mark := uint32(0)
	for name, x := range map[string]struct {
		tables []socket.Table
		fill   func(e *fdinfo.FileEntry, in socket.Entries, x *extra.SocketEntry)
	}{
		"unix": {[]socket.Table{unixkind.Table()}, func(e *fdinfo.FileEntry, in socket.Entries, _ *extra.SocketEntry) {
			e.Type, e.Usk = fdinfo.FdTypes_UNIXSK.Enum(), &unixsk.UnixSkEntry{
				Id: e.Id, Ino: u32(0x7777), Type: u32(1), State: u32(7), Flags: u32(2), Uflags: u32(0), Backlog: u32(0), Peer: u32(0), Fown: owner(), Opts: in.Sock, Name: []byte{},
			}
		}},
		"inet": {inet.Tables(unix.AF_INET), inetEntry(unix.AF_INET)}, "inet6": {inet.Tables(unix.AF_INET6), inetEntry(unix.AF_INET6)},
		"netlink": {[]socket.Table{netlink.Table()}, func(e *fdinfo.FileEntry, in socket.Entries, _ *extra.SocketEntry) {
			e.Type, e.Nlsk = fdinfo.FdTypes_NETLINKSK.Enum(), &netlinksk.NetlinkSkEntry{
				Id: e.Id, Ino: u32(0x7777), Protocol: u32(0), State: u32(7), Flags: u32(2), Portid: u32(33), DstPortid: u32(0), DstGroup: u32(0), Fown: owner(), Opts: in.Sock,
			}
		}},
		"packet": {[]socket.Table{packet.Table()}, func(e *fdinfo.FileEntry, in socket.Entries, _ *extra.SocketEntry) {
			e.Type, e.Psk = fdinfo.FdTypes_PACKETSK.Enum(), &packetsk.PacketSockEntry{
				Id: e.Id, Type: u32(3), Protocol: u32(0), Flags: u32(2), Ifindex: u32(0), Fown: owner(), Opts: in.Sock, Version: u32(0), Reserve: u32(0),
				AuxData: proto.Bool(true), OrigDev: proto.Bool(false), VnetHdr: proto.Bool(false), Loss: proto.Bool(false), Timestamp: &mark, CopyThresh: u32(0),
			}
		}},
		"vsock, AF_XDP": {lone.Tables(), func(e *fdinfo.FileEntry, in socket.Entries, x *extra.SocketEntry) {
			b, err := proto.Marshal(in.Sock)
			check(t, err)
			e.Type, e.Ext = fdinfo.FdTypes_EXT.Enum(), &ext.ExtFileEntry{Id: e.Id, Fown: owner()}
			x.Plain = &extra.PlainSocket{Family: u32(40), Type: u32(1), Protocol: u32(0), Flags: u32(2), Options: b}
		}},
	} {
		for _, table := range x.tables {
			values, fresh := make([]socket.Value, len(table)), make([]socket.Value, len(table))
			for i, o := range table {
				values[i], fresh[i] = socket.Value{Lo: 3, Hi: 5, OK: true}, socket.Value{OK: true}
				if o.Name == "SO_LINGER" {
					values[i].Lo = 1 | 5<<32
				}
			}
			f := withSocket(t, func(e *fdinfo.FileEntry, more *extra.SocketEntry) {
				var in socket.Entries
				in, more.Options = table.Encode(values, fresh)
				x.fill(e, in, more)
			})
			for _, o := range table {
				n := 0
				for _, told := range f.Options {
					if told.Name == o.Name {
						n++
					}
				}
				if n != 1 {
					t.Errorf("%s: %s is told %d times", name, o.Name, n)
				}
			}
		}
	}
}

func inetEntry(family uint32) func(e *fdinfo.FileEntry, in socket.Entries, _ *extra.SocketEntry) {
	return func(e *fdinfo.FileEntry, in socket.Entries, _ *extra.SocketEntry) {
		words := []uint32{0, 0, 0, 0}[:1+3*(family/unix.AF_INET6)]
		e.Type, e.Isk = fdinfo.FdTypes_INETSK.Enum(), &inetsk.InetSkEntry{
			Id: e.Id, Ino: u32(0x7777), Family: &family, Type: u32(2), Proto: u32(17), State: u32(7), SrcPort: u32(1), DstPort: u32(0), Flags: u32(2),
			Backlog: u32(0), SrcAddr: words, DstAddr: words, Fown: owner(), Opts: in.Sock, V6Only: in.Inet.V6Only, IpOpts: in.Inet.IpOpts, TcpOpts: in.Inet.TcpOpts,
		}
	}
}

// What getsockopt(2) does not tell is told, too, but no keys.
func TestUnseenIsTold(t *testing.T) {
	text := func(s string) *string { return &s }
	f := withSocket(t, func(e *fdinfo.FileEntry, x *extra.SocketEntry) {
		inetEntry(unix.AF_INET6)(e, socket.Entries{Sock: skOpts(), Inet: socket.EmptyInet()}, x)
		e.Isk.IpOpts.Raw = &inetsk.IpOptsRawEntry{IcmpvFilter: []uint32{1, 0, 0, 0, 0, 0, 0, 2}}
		x.BusyPollBudget, x.Inq, x.MaxSegment, x.FanoutMembers, x.FullCoverage = u32(7), proto.Bool(true), u32(900), u32(9), u32(1)
		x.Reflects, x.Labels = proto.Bool(true), []*extra.FlowLabel{{Label: u32(1), Peer: make([]byte, 16), Share: u32(1), Linger: u32(6)}}
		x.PacketSize, x.FlowInfo = u32(1400), u32(0x12345)
		x.Came = &extra.Came{Hops: u32(64), FlowInfo: u32(0x12345), Interface: proto.Bool(true)}
		x.MulticastInterface, x.PacketInfo = text("lo"), &extra.PacketInfo{Address: make([]byte, 16), Interface: text("lo")}
		x.Long = []*extra.SocketOption{{Level: u32(41), Name: u32(59), Value: make([]byte, 8)}}
		x.Ring = []*extra.RingPart{{Offset: proto.Uint64(0), Content: []byte{1}}}
		x.Place = &extra.RingPlace{Receive: u32(1), Send: u32(2), Blocks: proto.Uint64(3), Waits: proto.Bool(true)}
		x.Policies, x.Cookies = [][]byte{{1}}, make([]byte, 16)
		x.Keys = []*extra.SocketKey{{Address: make([]byte, 4), Bits: u32(32), Key: []byte("secret")}}
		x.Groups = []*extra.Membership{{Group: make([]byte, 4), Interface: text("lo")}}
		x.Filter, x.Fanout = &extra.SocketProgram{Id: u32(7)}, &extra.SocketProgram{Id: u32(8)}
		x.ReusePort = &extra.ReusePort{Group: u32(1), Index: u32(0), Program: &extra.SocketProgram{Classic: []uint64{1}}}
	})
	for _, name := range []string{
		"ICMPV6_FILTER", "SO_BUSY_POLL_BUDGET", "SO_INQ", "TCP_MAXSEG", "IPV6_MTU", "sin6_flowinfo", "IPV6_FL_F_REFLECT", "IPV6_FLOWLABEL_MGR", "came with a segment", "PACKET_FANOUT members", "coverages of 0 (UDP-Lite)", "multicast interface", "IPV6_PKTINFO", "IPV6_DSTOPTS", "ring", "next frame of the ring", "next frame to send", "blocks begun", "waits for a block",
		"IP_XFRM_POLICY", "TCP_MD5SIG", "TCP_FASTOPEN_KEY", "groups", "SO_ATTACH_BPF", "SO_ATTACH_REUSEPORT", "PACKET_FANOUT_DATA",
	} {
		if !slices.ContainsFunc(f.Options, func(o Option) bool { return o.Name == name }) {
			t.Errorf("%s isn't told: %v", name, f.Options)
		}
	}
	f = withSocket(t, func(e *fdinfo.FileEntry, x *extra.SocketEntry) {
		e.Type, e.Tunf = fdinfo.FdTypes_TUNF.Enum(), &tun.TunfileEntry{Id: e.Id, Netdev: text("tun0")}
		x.Tun = &extra.TunFile{Path: text("/dev/net/tun"), Flags: u32(2), Owner: []byte{}, Interface: u32(1)}
	})
	if f.Name != "/dev/net/tun" || len(f.Options) != 1 {
		t.Errorf("a queue of an interface: %+v", f)
	}
}

// Groups of netlink and packet sockets are options, too: none is no group, and 0 is one.
// What criu has no kind for is told by its family.
func TestGroupsAreTold(t *testing.T) {
	told := func(fill func(e *fdinfo.FileEntry, x *extra.SocketEntry)) (kind string, options []Option) {
		f := withSocket(t, fill)
		return f.Kind, f.Options
	}
	netlinkOf := func(groups ...uint32) func(*fdinfo.FileEntry, *extra.SocketEntry) {
		return func(e *fdinfo.FileEntry, _ *extra.SocketEntry) {
			e.Type, e.Nlsk = fdinfo.FdTypes_NETLINKSK.Enum(), &netlinksk.NetlinkSkEntry{
				Id: e.Id, Ino: u32(0x7777), Protocol: u32(0), State: u32(7), Flags: u32(2), Portid: u32(33), DstPortid: u32(0), DstGroup: u32(0), Fown: owner(), Opts: skOpts(), Groups: groups,
			}
		}
	}
	packetOf := func(group *uint32) func(*fdinfo.FileEntry, *extra.SocketEntry) {
		return func(e *fdinfo.FileEntry, _ *extra.SocketEntry) {
			e.Type, e.Psk = fdinfo.FdTypes_PACKETSK.Enum(), &packetsk.PacketSockEntry{
				Id: e.Id, Type: u32(3), Protocol: u32(0), Flags: u32(2), Ifindex: u32(0), Fown: owner(), Opts: skOpts(), Version: u32(0), Reserve: u32(0), AuxData: proto.Bool(false), OrigDev: proto.Bool(false), VnetHdr: proto.Bool(false), Loss: proto.Bool(false), Timestamp: u32(0), CopyThresh: u32(0), Fanout: group,
			}
		}
	}
	for _, x := range []struct {
		name, kind string
		fill       func(*fdinfo.FileEntry, *extra.SocketEntry)
		want       []Option
	}{
		{"no group", "netlink socket", netlinkOf(), nil},
		{"groups", "netlink socket", netlinkOf(1<<4, 1<<0), []Option{{"NETLINK_ADD_MEMBERSHIP", "5 33"}}},
		{"many groups", "netlink socket", netlinkOf(0x1ffff), []Option{{"NETLINK_ADD_MEMBERSHIP", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 and 1 more"}}},
		{"no fanout", "packet socket", packetOf(nil), nil},
		{"fanout", "packet socket", packetOf(u32(0)), []Option{{"PACKET_FANOUT", "0"}}},
		{"vsock", "vsock socket", func(e *fdinfo.FileEntry, x *extra.SocketEntry) {
			b, err := proto.Marshal(skOpts())
			check(t, err)
			e.Type, e.Ext = fdinfo.FdTypes_EXT.Enum(), &ext.ExtFileEntry{Id: e.Id, Fown: owner()}
			x.Plain = &extra.PlainSocket{Family: u32(40), Type: u32(1), Protocol: u32(0), Flags: u32(2), Options: b}
		}, nil},
	} {
		if kind, options := told(x.fill); kind != x.kind || !slices.Equal(options, x.want) {
			t.Errorf("%s: %s %v, want %s %v", x.name, kind, options, x.kind, x.want)
		}
	}
}
