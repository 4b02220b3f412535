package sockdiag

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// inetMessage builds an answer about an inet socket.
func inetMessage(family, state uint8, src, dst netip.AddrPort, rqueue, wqueue, ino uint32, attrs ...[]byte) []byte {
	be, ne := binary.BigEndian, binary.NativeEndian
	b := []byte{family, state, 0, 0}
	b = be.AppendUint16(b, src.Port())
	b = be.AppendUint16(b, dst.Port())
	for _, a := range []netip.AddrPort{src, dst} {
		var raw [16]byte
		copy(raw[:], a.Addr().AsSlice())
		b = append(b, raw[:]...)
	}
	for _, n := range []uint32{3, 7, 1, 0, rqueue, wqueue, 1000, ino} {
		b = ne.AppendUint32(b, n)
	}
	for _, a := range attrs {
		b = append(b, a...)
	}
	return b
}

func md5Key(family, prefix byte, addr ...byte) []byte {
	b := make([]byte, md5KeySize)
	b[0], b[1] = family, prefix
	copy(b[4:], addr)
	return b
}

func TestParseInet(t *testing.T) {
	local, peer := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:81")
	six, none := netip.MustParseAddrPort("[::1]:80"), netip.MustParseAddrPort("[::]:0")
	bare := Inet{Family: unix.AF_INET, State: 10, Ino: 42, Cookie: 1<<32 | 7, Device: 3, Src: local, Dst: peer, RQueue: 5, WQueue: 6, UID: 1000}
	with := func(f func(*Inet)) Inet {
		s := bare
		f(&s)
		return s
	}
	message := func(attrs ...[]byte) []byte { return inetMessage(unix.AF_INET, 10, local, peer, 5, 6, 42, attrs...) }
	tests := []struct {
		name string
		in   []byte
		want Inet
		cut  bool
		bad  bool
	}{
		{name: "bare", in: message(), want: bare},
		{name: "six", in: inetMessage(unix.AF_INET6, 7, six, none, 5, 6, 42), want: with(func(s *Inet) { s.Family, s.State, s.Src, s.Dst = unix.AF_INET6, 7, six, none })},
		{name: "shut down", in: message(attr(inetDiagShutdown, 2)), want: with(func(s *Inet) { s.Shutdown = 2 })},
		{name: "memory", in: message(attrWords(inetDiagSKMemInfo, 1, 2, 3, 4, 5, 6, 7, 8, 9)),
			want: with(func(s *Inet) { s.HasMem, s.Mem = true, MemInfo{1, 2, 3, 4, 5, 6, 7, 8, 9} })},
		{name: "keys", in: message(attr(inetDiagMD5Sig, append(md5Key(unix.AF_INET, 24, 10, 0, 0, 0), md5Key(unix.AF_INET6, 128, six.Addr().AsSlice()...)...)...)),
			want: with(func(s *Inet) {
				s.Keys = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("::1/128")}
			})},
		{name: "unknown attribute", in: message(attr(99, 1)), want: bare},
		{name: "cut head", in: message()[:inetMessageSize-1], cut: true},
		{name: "cut key", in: message(attr(inetDiagMD5Sig, 1, 2, 3)), cut: true},
		{name: "key of too many bits", in: message(attr(inetDiagMD5Sig, md5Key(unix.AF_INET, 33)...)), bad: true},
		{name: "no shutdown", in: message(attr(inetDiagShutdown)), cut: true},
		{name: "short memory", in: message(attrWords(inetDiagSKMemInfo, 1)), cut: true},
		{name: "another family", in: append([]byte{unix.AF_UNIX}, message()[1:]...), bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Inet{Keys: []netip.Prefix{netip.MustParsePrefix("1.2.3.4/5")}, UID: 9}
			err := ParseInet(tt.in, &got)
			if errors.Is(err, ErrCut) != tt.cut || (err != nil) != (tt.cut || tt.bad) {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				return
			}
			if d := cmp.Diff(tt.want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestInetLive(t *testing.T) {
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(n) })
	if err := errors.Join(unix.Bind(n, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(n, 5)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(n)
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(sa.(*unix.SockaddrInet4).Port)
	found := 0
	err = open(t, 0).EachInet(InetQuery{Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP, States: 1 << 10, Port: port}, func(s *Inet) error {
		if s.Src.Port() != port || s.State != 10 {
			t.Errorf("not asked for: %+v", *s)
		}
		if s.Ino != inode(t, n) {
			return nil
		}
		found++
		want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
		if s.Src != want || s.RQueue != 0 || s.WQueue != 5 || !s.HasMem || s.Mem.Sndbuf == 0 || len(s.Keys) != 0 || s.UID != uint32(unix.Getuid()) {
			t.Errorf("got %+v", *s)
		}
		return nil
	})
	if err != nil || found != 1 {
		t.Errorf("%v, found %d times", err, found)
	}
}
