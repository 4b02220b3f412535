package inet

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
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
	d := tcp4.bound(t, "127.0.0.1")
	must(t, unix.Listen(d.Int(), 5))
	key := []byte("0123456789abcdef")
	if err := linux.Setsockopt(d.Int(), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, key); err != nil {
		testkit.Lacks(t, "TCP_FASTOPEN_KEY", err, unix.ENOPROTOOPT)
	}
	in, err := dumped(t, &options.Dump{}, d.Int())
	must(t, err)
	must(t, d.Close())
	got := make([]byte, 32)
	n, err := linux.Getsockopt(restored(t, in)[1], unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, got)
	if err != nil || !bytes.Equal(got[:n], key) {
		t.Errorf("%q, %v", got[:n], err)
	}
}
