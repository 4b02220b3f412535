package inet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// keyNames are the members of structures that tell of keys (TCP_MD5SIG), which
// a kernel may lack (CONFIG_TCP_MD5SIG).
func keyNames() []string {
	return []string{
		"?tcp_sock.md5sig_info", "?tcp_md5sig_info", "?tcp_md5sig_info.head", "?tcp_md5sig_key", "?tcp_md5sig_key.node",
		"?tcp_md5sig_key.keylen", "?tcp_md5sig_key.family", "?tcp_md5sig_key.prefixlen", "?tcp_md5sig_key.flags",
		"?tcp_md5sig_key.addr", "?tcp_md5sig_key.l3index", "?tcp_md5sig_key.key",
	}
}

// Of struct tcp_md5sig in include/uapi/linux/tcp.h.
const (
	maxKey      = 80 // TCP_MD5SIG_MAXKEYLEN
	keyPrefix   = 1  // TCP_MD5SIG_FLAG_PREFIX
	keyIndex    = 2  // TCP_MD5SIG_FLAG_IFINDEX
	mostKeys    = 1 << 16
	noKeysKnown = "it has keys for its peers (TCP_MD5SIG, TCP_AO_ADD_KEY), or extension headers go with every packet, which"
)

// checkKeys finds the keys that the socket has, and refuses what is attached to
// it besides.
func (l *look) checkKeys() error {
	m, err := l.kind.memory()
	if err != nil {
		return l.refuse("%s can't be known (%v)", noKeysKnown, err)
	}
	if !m.Has("tcp_sock.md5sig_info") || !m.Has("tcp_md5sig_key") {
		return l.refuse("%s isn't supported yet", noKeysKnown)
	}
	n, err := l.readKeys(m)
	if err != nil {
		return l.fail(err)
	}
	hidden, err := l.hidden(n)
	if err != nil {
		return l.fail(err)
	}
	if hidden && l.value("SO_ZEROCOPY") != 0 {
		return l.refuse("the end of a transmission is awaited or waits to be reported (MSG_ZEROCOPY, MSG_ERRQUEUE), which isn't supported yet; let the process read it first")
	}
	if hidden {
		return l.refuse("it has keys for its peers (TCP_AO_ADD_KEY), is in a multicast group, or was given no headers by IPV6_2292PKTOPTIONS, which isn't supported yet; let the process take that back")
	}
	return nil
}

// readKeys reads the keys and returns how much memory they take, in bytes.
func (l *look) readKeys(m *kmem.Reader) (size uint32, err error) {
	at, err := m.Sock(l.fd.Int())
	if err == nil {
		l.keys, size, err = keysAt(m, at)
	}
	return size, err
}

// keysAt is readKeys for a socket that the kernel has at an address.
func keysAt(m *kmem.Reader, at kmem.Addr) (keys []*extra.SocketKey, size uint32, err error) {
	if at, err = m.Pointer(at + m.Off("tcp_sock.md5sig_info")); err != nil || at == 0 {
		return nil, 0, err
	}
	at, err = m.Pointer(at + m.Off("tcp_md5sig_info.head"))
	for err == nil && at != 0 && len(keys) < mostKeys {
		var s *kmem.Struct
		if s, err = m.Struct("tcp_md5sig_key", at-m.Off("tcp_md5sig_key.node")); err != nil {
			return nil, 0, err
		}
		k, err := keyOf(s)
		if err != nil {
			return nil, 0, err
		}
		// The kernel shows the last first.
		keys = append([]*extra.SocketKey{k}, keys...)
		size += uint32(len(s.Bytes))
		at = s.Pointer("tcp_md5sig_key.node") // next comes first
	}
	return keys, size, err
}

func keyOf(s *kmem.Struct) (*extra.SocketKey, error) {
	n := 4
	if s.U8("tcp_md5sig_key.family") == unix.AF_INET6 {
		n = 16
	}
	k := &extra.SocketKey{
		Address: s.Raw("tcp_md5sig_key.addr", n), Bits: proto.Uint32(uint32(s.U8("tcp_md5sig_key.prefixlen"))),
		Key: s.Raw("tcp_md5sig_key.key", min(maxKey, int(s.U8("tcp_md5sig_key.keylen")))),
	}
	if s.U8("tcp_md5sig_key.flags")&keyIndex != 0 {
		i, err := net.InterfaceByIndex(int(s.U32("tcp_md5sig_key.l3index")))
		if err != nil {
			return nil, fmt.Errorf("a key for peers at interface %d: %w", s.U32("tcp_md5sig_key.l3index"), err)
		}
		k.Interface = &i.Name
	}
	return k, nil
}

// secret is a key to be set.
type secret struct {
	peers  netip.Prefix
	bytes  []byte
	device string
}

// planKeys checks the keys of a socket.
func (n *node) planKeys(x *extra.SocketEntry) error {
	if len(x.GetKeys()) > 0 && n.protocol != unix.IPPROTO_TCP || len(x.GetCookies()) > 0 && !n.tcpLike() {
		return errors.New("keys of a socket that isn't TCP can't be")
	}
	keys, err := n.secrets(x.GetKeys())
	for _, s := range keys {
		if s.peers.IsSingleIP() { // of a peer in the tree
			ip := n.kind.moveIP(s.peers.Addr())
			s.peers = netip.PrefixFrom(ip, ip.BitLen())
		}
	}
	if cookies := x.GetCookies(); len(keys)+len(cookies) > 0 {
		n.give(func(m *more) { m.keys, m.cookies = keys, cookies })
	}
	return err
}

// secrets checks keys.
func (s sort) secrets(keys []*extra.SocketKey) (all []*secret, err error) {
	for _, e := range keys {
		ip, ok := netip.AddrFromSlice(e.GetAddress())
		k := &secret{peers: netip.PrefixFrom(ip, int(min(e.GetBits(), maxKey*8))), bytes: e.GetKey(), device: e.GetInterface()}
		if !ok || !k.peers.IsValid() || ip.Is6() && s.family == unix.AF_INET || len(k.bytes) == 0 || len(k.bytes) > maxKey {
			return nil, fmt.Errorf("a key of %d bytes for %d bits of an address of %d bytes can't be", len(k.bytes), e.GetBits(), len(e.GetAddress()))
		}
		all = append(all, k)
	}
	return all, nil
}

// setKeys gives a socket its keys. Connections get theirs when they are whole:
// what is sent to them until then as if from a peer isn't signed.
func (n *node) setKeys(own int) error {
	few := n.few()
	for _, k := range few.keys {
		if err := k.set(own, n.family); err != nil {
			return fmt.Errorf("set TCP_MD5SIG_EXT for %v (does this kernel have CONFIG_TCP_MD5SIG?): %w", k.peers, err)
		}
	}
	if len(few.cookies) == 0 {
		return nil
	}
	if err := linux.Setsockopt(own, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, few.cookies); err != nil {
		return fmt.Errorf("set TCP_FASTOPEN_KEY: %w", err)
	}
	return nil
}

// set sets a key: see struct tcp_md5sig.
func (k *secret) set(own, family int) error {
	ne := binary.NativeEndian
	ip, bits := k.peers.Addr(), k.peers.Bits()
	if family == unix.AF_INET6 && ip.Is4() {
		ip = netip.AddrFrom16(ip.As16()) // the bits are counted as before
	}
	flags, index := byte(keyPrefix), uint32(0)
	if k.device != "" {
		i, err := net.InterfaceByName(k.device)
		if err != nil {
			return err
		}
		flags, index = flags|keyIndex, uint32(i.Index)
	}
	b := append(storage(ip), flags, byte(bits))
	b = ne.AppendUint16(b, uint16(len(k.bytes)))
	b = ne.AppendUint32(b, index)
	b = append(b, k.bytes...)
	b = append(b, make([]byte, maxKey-len(k.bytes))...)
	return linux.Setsockopt(own, unix.IPPROTO_TCP, unix.TCP_MD5SIG_EXT, b)
}
