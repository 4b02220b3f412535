package packet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	packet_sock "glis.dev/glis/image/criu/packet-sock"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"

	"glis.dev/glis/internal/testkit"
)

func TestRefused(t *testing.T) {
	const mine = 0xb788 // 0x88b7, for experiments, as in packets
	frame := append(make([]byte, 12), 0x88, 0xb7, 'h', 'e', 'l', 'l', 'o')
	lo := &unix.SockaddrLinklayer{Protocol: mine, Ifindex: 1, Halen: 6}
	for want, prepare := range map[string]func(n int) error{
		"in its queue": func(n int) error {
			err := errors.Join(unix.Bind(n, lo), unix.Sendto(n, frame, 0, lo))
			if err == nil {
				_, err = testkit.PollFds([]unix.PollFd{{Fd: int32(n), Events: unix.POLLIN}}, -1)
			}
			return err
		},
		"use one of eBPF": func(n int) error {
			const byProgram = fanoutCBPF << 16
			return errors.Join(unix.Bind(n, lo), unix.SetsockoptInt(n, unix.SOL_PACKET, unix.PACKET_FANOUT, byProgram|0x777))
		},
	} {
		n, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := prepare(n); err != nil {
			t.Fatal(want, err)
		}
		if _, err := dumped(t, n); !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: got %v", want, err)
		}
		unix.Close(n)
	}
}

func dumped(t *testing.T, n int) (*fdinfo.FileEntry, error) {
	t.Helper()
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
		t.Fatal("it is no packet socket")
	}
	return k.Dump(context.Background(), &kind.DumpEnv{Tree: &scan.Tree{}}, f)
}

func TestNonsense(t *testing.T) {
	number := proto.Uint32
	for want, change := range map[string]func(*packet_sock.PacketSockEntry){
		"called":      func(in *packet_sock.PacketSockEntry) { in.Id = number(2) },
		"SOCK_STREAM": func(in *packet_sock.PacketSockEntry) { in.Type = number(unix.SOCK_STREAM) },
		"protocol":    func(in *packet_sock.PacketSockEntry) { in.Protocol = number(1 << 16) },
		"interface":   func(in *packet_sock.PacketSockEntry) { in.Ifindex = number(1 << 31) },
		"larger than": func(in *packet_sock.PacketSockEntry) {
			in.TxRing = &packet_sock.PacketRing{BlockSize: number(1 << 31), BlockNr: number(1 << 31)}
		},
		"version":        func(in *packet_sock.PacketSockEntry) { in.Version = number(3) },
		"more than 4096": func(in *packet_sock.PacketSockEntry) { in.Mclist = make([]*packet_sock.PacketMclist, 5000) },
		"33 bytes": func(in *packet_sock.PacketSockEntry) {
			in.Mclist = []*packet_sock.PacketMclist{{Index: number(1), Type: number(0), Addr: make([]byte, 33)}}
		},
	} {
		in := &packet_sock.PacketSockEntry{Id: number(1), Type: number(unix.SOCK_RAW), Opts: &sk_opts.SkOptsEntry{}}
		change(in)
		k := New()
		k.extras = map[uint32]*extra.SocketEntry{}
		if _, err := k.node(&fdinfo.FileEntry{Id: number(1), Psk: in}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	if _, err := New().node(&fdinfo.FileEntry{Id: number(1)}); err == nil {
		t.Error("a file without its entry is taken")
	}
}

// Contents that no ring of the socket has room for are refused, however they overflow.
func TestRingNonsense(t *testing.T) {
	number, long := proto.Uint32, proto.Uint64
	in := &packet_sock.PacketSockEntry{
		Id: number(1), Type: number(unix.SOCK_RAW), Opts: &sk_opts.SkOptsEntry{}, RxRing: &packet_sock.PacketRing{BlockSize: number(4096), BlockNr: number(2)},
	}
	for at, want := range map[uint64]bool{0: true, 8188: true, 8189: false, 8193: false, 1<<64 - 2: false} {
		n := &node{entry: in}
		err := n.checkRing(&extra.SocketEntry{Ring: []*extra.RingPart{{Offset: long(at), Content: make([]byte, 4)}}})
		if (err == nil) != want {
			t.Errorf("4 bytes at %d of 8192: %v", at, err)
		}
	}
}

// What is kept of a ring is all but zeros, and what lies side by side is one part.
func TestParts(t *testing.T) {
	m := make([]byte, 6*partLen+10)
	m[partLen], m[2*partLen], m[len(m)-1] = 1, 2, 3
	got := parts(m)
	if len(got) != 2 || got[0].GetOffset() != partLen || len(got[0].Content) != 2*partLen || got[1].GetOffset() != 6*partLen || len(got[1].Content) != 10 {
		t.Errorf("got %v", got)
	}
}
