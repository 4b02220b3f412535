package inet

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"

	"glis.dev/glis/internal/testkit"
)

// addrForm is IPV6_ADDRFORM of include/uapi/linux/in6.h.
const addrForm = 1

// becomeIPv4 makes a socket of IPv6 that is connected over IPv4 one of IPv4.
func becomeIPv4(t *testing.T, d *fd.FD) {
	t.Helper()
	must(t, unix.SetsockoptInt(d.Int(), unix.IPPROTO_IPV6, addrForm, unix.AF_INET))
	wantFamily(t, d.Int())
}

func wantFamily(t *testing.T, n int) {
	t.Helper()
	if family, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil || family != unix.AF_INET {
		t.Fatalf("it is of family %d, %v", family, err)
	}
}

// A socket of IPv6 that was made one of IPv4 is one.
func TestAddressForm(t *testing.T) {
	t.Run("UDP", func(t *testing.T) {
		d := udp6.bound(t, "::ffff:127.0.0.1")
		must(t, unix.Connect(d.Int(), &unix.SockaddrInet6{Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}, Port: 9}))
		becomeIPv4(t, d)
		wantFamily(t, same(t, udp4, d)[0])
	})
	t.Run("TCP", func(t *testing.T) {
		p := paired(t, tcp6, "::ffff:127.0.0.1")
		p.notAlone = true
		for _, d := range p.ends {
			becomeIPv4(t, d)
		}
		p.sort.family = unix.AF_INET
		for range 3 {
			p.send(t, 0, 70_000)
			p.send(t, 1, 70_000)
			p.move(t, 0, 1)
			wantFamily(t, p.ends[0].Int())
			p.drain(t, 0)
			p.drain(t, 1)
		}
	})
}

// lastTime asks for the time of the last packet that a socket got, in seconds. A struct
// timeval has room in what that call takes.
func lastTime(n int) (uint32, error) {
	const siocGStamp = 0x8906 // SIOCGSTAMP_OLD of include/uapi/asm-generic/sockios.h
	at, err := unix.IoctlGetTermios(n, siocGStamp)
	if err != nil {
		return 0, err
	}
	return at.Iflag, nil
}

// The time of the last packet isn't known after a restore until the next one comes, as
// docs/limits.md says.
func TestLastTime(t *testing.T) {
	d := udp4.bound(t, "127.0.0.1")
	c := client(t, udp4, d.Int())
	get := func(n int) {
		t.Helper()
		must(t, unix.Sendto(c.Int(), []byte("x"), 0, nil))
		p := []unix.PollFd{{Fd: int32(n), Events: unix.POLLIN}}
		_, err := testkit.PollFds(p, -1)
		must(t, err)
		_, _, err = unix.Recvfrom(n, make([]byte, 1), 0)
		must(t, err)
	}
	get(d.Int())
	if at, err := lastTime(d.Int()); err != nil || at == 0 {
		t.Fatalf("before: %d, %v", at, err)
	}
	n := same(t, udp4, d)[0]
	if at, err := lastTime(n); !errors.Is(err, unix.ENOENT) {
		t.Errorf("restored: %d, %v", at, err)
	}
	get(n)
	if at, err := lastTime(n); err != nil || at == 0 {
		t.Errorf("after a packet: %d, %v", at, err)
	}
}
