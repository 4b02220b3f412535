package inet

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	sk_inet "glis.dev/glis/image/criu/sk-inet"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

func TestTable(t *testing.T) {
	type key struct{ level, opt int }
	for _, s := range []sort{tcp4, tcp6, mptcp4, mptcp6, udp4, udp6} {
		seen, names, last := map[key]string{}, map[string]bool{}, socket.Early
		for _, o := range table(s) {
			k := key{o.Level, o.Opt}
			if seen[k] != "" || names[o.Name] {
				t.Errorf("%v: %s: in the table twice (%s)", s, o.Name, seen[k])
			}
			seen[k], names[o.Name] = o.Name, true
			if o.Size != 4 && o.Size != 8 && o.Size != 16 {
				t.Errorf("%v: %s: %d bytes", s, o.Name, o.Size)
			}
			if o.When == socket.Early && last == socket.Last || o.When > socket.Opened {
				t.Errorf("%v: %s: out of order", s, o.Name)
			}
			last = o.When
		}
		if !names["SO_REUSEPORT"] || !names["IP_TTL"] || names["IPV6_TCLASS"] != (s.family == unix.AF_INET6) || names["TCP_NODELAY"] != s.tcpLike() {
			t.Errorf("%v: rows are missing or too many", s)
		}
	}
}

// entry is a listener at 127.0.0.1:80 as images have it.
func entry(id uint32) *fdinfo.FileEntry {
	number := proto.Uint32
	zero := new(uint32)
	return &fdinfo.FileEntry{
		Type: fdinfo.FdTypes_INETSK.Enum(), Id: &id,
		Isk: &sk_inet.InetSkEntry{
			Id: &id, Ino: number(7), Family: number(unix.AF_INET), Type: number(unix.SOCK_STREAM), Proto: number(unix.IPPROTO_TCP),
			State: number(listening), SrcPort: number(80), DstPort: zero, Flags: number(2), Backlog: number(5),
			SrcAddr: []uint32{0x0100007f}, DstAddr: []uint32{0},
			Fown: &fown.FownEntry{Uid: zero, Euid: zero, Signum: zero, PidType: zero, Pid: zero},
			Opts: &sk_opts.SkOptsEntry{
				SoSndbuf: number(16384), SoRcvbuf: number(131072),
				SoSndTmoSec: new(uint64), SoSndTmoUsec: new(uint64), SoRcvTmoSec: new(uint64), SoRcvTmoUsec: new(uint64),
			},
		},
	}
}

func planOf(entries ...*fdinfo.FileEntry) (string, error) {
	in := images{}
	for _, e := range entries {
		in[of(image.Files)] = append(in[of(image.Files)], plan.Entry{Message: e})
	}
	nodes, err := planned(in)
	if err != nil {
		return "", err
	}
	var lines []string
	for _, n := range nodes {
		lines = append(lines, n.String())
	}
	return strings.Join(lines, "\n"), nil
}

func TestPlan(t *testing.T) {
	bound := entry(2)
	bound.Isk.State = proto.Uint32(closed)
	old := entry(3)
	old.Isk.SrcAddr, old.Isk.DstAddr = []uint32{0x0100007f, 0, 0, 0}, []uint32{0, 0, 0, 0}
	old.Isk.SrcPort = proto.Uint32(81)
	udp := entry(4)
	udp.Isk.Family, udp.Isk.Type, udp.Isk.Proto, udp.Isk.State = proto.Uint32(unix.AF_INET6), proto.Uint32(unix.SOCK_DGRAM), proto.Uint32(unix.IPPROTO_UDP), proto.Uint32(established)
	udp.Isk.SrcAddr, udp.Isk.DstAddr, udp.Isk.DstPort = []uint32{0, 0, 0, 1 << 24}, []uint32{0, 0, 0, 2 << 24}, proto.Uint32(53)
	ended := entry(5) // as criu writes a connection that has ended
	ended.Isk.SrcPort, ended.Isk.State, ended.Isk.DstAddr, ended.Isk.DstPort = proto.Uint32(82), proto.Uint32(closed), []uint32{0x0100007f}, proto.Uint32(5)
	got, err := planOf(entry(1), bound, old, udp, ended)
	if err != nil {
		t.Fatal(err)
	}
	want := "TCP at 127.0.0.1:80\nTCP at 127.0.0.1:80, listening, backlog 5\nTCP at 127.0.0.1:81, listening, backlog 5\nUDP at [::1]:80 connected to [::2]:53\nTCP at 127.0.0.1:82, closed"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPlanBad(t *testing.T) {
	number := proto.Uint32
	tests := []struct {
		name, want string
		change     func(e *sk_inet.InetSkEntry)
	}{
		{"other number inside", "called 0x9", func(e *sk_inet.InetSkEntry) { e.Id = number(9) }},
		{"family", "AF_UNIX can't be", func(e *sk_inet.InetSkEntry) { e.Family = number(1) }},
		{"mptcp", "protocol 262", func(e *sk_inet.InetSkEntry) { e.Proto = number(262) }},
		{"stream of UDP", "SOCK_STREAM of protocol 17", func(e *sk_inet.InetSkEntry) { e.Proto = number(17) }},
		{"connection", "was --tcp-close given to dump", func(e *sk_inet.InetSkEntry) { e.State, e.DstPort = number(1), number(5) }},
		{"connected listener", "in state LISTEN", func(e *sk_inet.InetSkEntry) { e.DstPort = number(5) }},
		{"listener for datagrams", "state LISTEN", func(e *sk_inet.InetSkEntry) { e.Type, e.Proto = number(2), number(17) }},
		{"listener without a port", "no port", func(e *sk_inet.InetSkEntry) { e.SrcPort = number(0) }},
		{"port", "port 65536", func(e *sk_inet.InetSkEntry) { e.SrcPort = number(65536) }},
		{"no address", "0 words", func(e *sk_inet.InetSkEntry) { e.SrcAddr = nil }},
		{"long address", "5 words", func(e *sk_inet.InetSkEntry) { e.DstAddr = make([]uint32, 5) }},
		{"short address", "1 words", func(e *sk_inet.InetSkEntry) { e.Family = number(10) }},
		{"backlog", "backlog", func(e *sk_inet.InetSkEntry) { e.Backlog = number(1 << 31) }},
		{"shutdown", "shutdown", func(e *sk_inet.InetSkEntry) { e.Shutdown = sk_opts.SkShutdown(4).Enum() }},
		{"owner", "owner", func(e *sk_inet.InetSkEntry) { e.Fown.PidType = number(77) }},
		{"filter", "filter", func(e *sk_inet.InetSkEntry) { e.Opts.SoFilter = make([]uint64, 5000) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := entry(1)
			tt.change(e.Isk)
			if _, err := planOf(e); !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
	if _, err := planOf(&fdinfo.FileEntry{Id: number(1)}); err == nil {
		t.Error("no entry is no error")
	}
}
