package inet

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// Keys of TCP_MD5SIG come back: those who have none stay outside.
func TestKeys(t *testing.T) {
	for _, listens := range []bool{false, true} {
		d := tcp4.bound(t, "127.0.0.1")
		for _, k := range []*secret{
			{peers: netip.MustParsePrefix("127.0.0.1/32"), bytes: []byte("secret")},
			{peers: netip.MustParsePrefix("10.0.0.0/8"), bytes: bytes.Repeat([]byte{7}, maxKey)},
		} {
			if err := k.set(d.Int(), unix.AF_INET); err != nil {
				testkit.Lacks(t, "CONFIG_TCP_MD5SIG", err, unix.ENOPROTOOPT)
			}
		}
		if listens {
			must(t, unix.Listen(d.Int(), 5))
		}
		in, err := dumped(t, &options.Dump{}, d.Int())
		must(t, err)
		at, err := unix.Getsockname(d.Int())
		must(t, err)
		must(t, d.Close())
		fds := restored(t, in)
		// What the second generation sees is what the first saw.
		again, err := dumped(t, &options.Dump{}, fds[1])
		must(t, err)
		want, got := in[of(extra.Sockets)][0].Message.(*extra.SocketEntry).Keys, again[of(extra.Sockets)][0].Message.(*extra.SocketEntry).Keys
		if len(got) != 2 || len(want) != 2 {
			t.Fatalf("%d and %d keys", len(want), len(got))
		}
		for i := range got {
			if !bytes.Equal(got[i].Key, want[i].Key) || !bytes.Equal(got[i].Address, want[i].Address) || got[i].GetBits() != want[i].GetBits() {
				t.Errorf("key %d is another one", i)
			}
		}
		if !listens {
			continue
		}
		c := tcp4.make(t)
		must(t, (&secret{peers: netip.MustParsePrefix("127.0.0.1/32"), bytes: []byte("secret")}).set(c.Int(), unix.AF_INET))
		must(t, unix.Connect(c.Int(), at))
		stranger := tcp4.make(t)
		must(t, unix.SetNonblock(stranger.Int(), true))
		if err := unix.Connect(stranger.Int(), at); err != unix.EINPROGRESS {
			t.Errorf("who has no key connects: %v", err)
		}
	}
}

func TestKeysHostile(t *testing.T) {
	for name, k := range map[string]*extra.SocketKey{
		"no address": {Bits: proto.Uint32(0), Key: []byte{1}},
		"bits":       {Address: make([]byte, 4), Bits: proto.Uint32(33), Key: []byte{1}},
		"family":     {Address: make([]byte, 16), Bits: proto.Uint32(128), Key: []byte{1}},
		"no key":     {Address: make([]byte, 4), Bits: proto.Uint32(32)},
		"long key":   {Address: make([]byte, 4), Bits: proto.Uint32(32), Key: make([]byte, maxKey+1)},
	} {
		n := &node{sort: tcp4}
		if err := n.planKeys(&extra.SocketEntry{Keys: []*extra.SocketKey{k}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFastOpenKey(t *testing.T) {
	for _, s := range []sort{tcp4, tcp6, {family: unix.AF_INET, protocol: unix.IPPROTO_MPTCP}} {
		if !possible(t, s) {
			continue
		}
		d := s.bound(t, s.loopback())
		must(t, unix.Listen(d.Int(), 5))
		key := giveCookies(t, d.Int())
		in, err := dumped(t, &options.Dump{}, d.Int())
		must(t, err)
		must(t, d.Close())
		if got, err := tcp.CookieKey(restored(t, in)[1]); err != nil || !bytes.Equal(got, key) {
			t.Errorf("%v: %q, %v", s, got, err)
		}
	}
}

// giveCookies gives a socket a key of its own.
func giveCookies(t *testing.T, n int) []byte {
	t.Helper()
	key := []byte("0123456789abcdef")
	if err := linux.Setsockopt(n, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, key); err != nil {
		testkit.Lacks(t, "TCP_FASTOPEN_KEY", err, unix.ENOPROTOOPT)
	}
	return key
}

// A connection has its key for when it is disconnected, also where others are told of by
// memory alone.
func TestFastOpenKeyOfConnection(t *testing.T) {
	var fds []int
	for range 24 {
		p := paired(t, tcp4, "127.0.0.1")
		fds = append(fds, p.ends[0].Int(), p.ends[1].Int())
	}
	key := giveCookies(t, fds[21])
	o := &options.Dump{}
	o.TCPEstablished = true
	ways := []*Kind{New()}
	if r, err := sockmem.OpenTCP(); err == nil {
		t.Cleanup(func() { r.Close() })
		k := New()
		k.PrepareFor(severalDescriptors, r)
		ways = append(ways, k)
	}
	for _, k := range ways {
		in, err := dumpedBy(t, k, o, fds...)
		must(t, err)
		var got []byte
		for _, e := range in[of(extra.Sockets)] {
			if x := e.Message.(*extra.SocketEntry); len(x.GetCookies()) > 0 {
				got = append(got, x.GetCookies()...)
			}
		}
		if !bytes.Equal(got, key) {
			t.Errorf("found %q", got)
		}
	}
	p := paired(t, tcp4, "127.0.0.1")
	giveCookies(t, p.ends[1].Int())
	p.notAlone = true
	p.move(t, 1)
	if got, err := tcp.CookieKey(p.ends[1].Int()); err != nil || !bytes.Equal(got, key) {
		t.Errorf("afterwards %q, %v", got, err)
	}
}
