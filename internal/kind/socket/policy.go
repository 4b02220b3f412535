package socket

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
)

// A socket may have IPsec policies of its own (IP_XFRM_POLICY), one for each
// direction: those who negotiate keys let their own packets through that way. A
// list of all policies is to be had from the kernel; which are a socket's only
// its memory tells.

// Of include/uapi/linux/xfrm.h.
const (
	xfrmGetPolicy = 0x15 // XFRM_MSG_GETPOLICY
	xfrmNewPolicy = 0x13 // XFRM_MSG_NEWPOLICY
	xfrmTemplates = 5    // XFRMA_TMPL
	sizePolicy    = 168  // of struct xfrm_userpolicy_info
	sizeTemplate  = 64   // of struct xfrm_user_tmpl
	mostTemplates = 6    // XFRM_MAX_DEPTH
	atFamily      = 40   // of the selector, in struct xfrm_userpolicy_info
	atIndex       = 156
	atDirection   = 160
	directions    = 2 // XFRM_POLICY_IN, XFRM_POLICY_OUT
)

// Options of include/uapi/linux/{in,in6}.h.
const (
	ipPolicy  = 17 // IP_XFRM_POLICY
	ip6Policy = 35 // IPV6_XFRM_POLICY
)

// readPolicies returns the policies of a socket, as they are to be set.
func readPolicies(s *kmem.Struct, m *kmem.Reader) ([][]byte, error) {
	if !m.Has("sock.sk_policy") || !m.Has("xfrm_policy.index") {
		return nil, nil
	}
	pointers := s.Raw("sock.sk_policy", 8*directions)
	var out [][]byte
	for way := range directions {
		at := kmem.Addr(binary.LittleEndian.Uint64(pointers[8*way:]))
		if at == 0 {
			continue
		}
		var b [4]byte
		if err := m.ReadAt(b[:], at+m.Off("xfrm_policy.index")); err != nil {
			return nil, err
		}
		p, err := policy(binary.LittleEndian.Uint32(b[:]))
		if err != nil {
			return nil, fmt.Errorf("read its IPsec policy (IP_XFRM_POLICY): %w", err)
		}
		p[atDirection] = byte(way)
		out = append(out, p)
	}
	return out, nil
}

// policy returns a policy of the network namespace that has this number.
func policy(index uint32) ([]byte, error) {
	c, err := linux.DialNetlink(unix.NETLINK_XFRM, 0)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var found []byte
	err = c.Ask(xfrmGetPolicy, netlink.Dump, make([]byte, sizePolicy), func(typ uint16, b []byte) (err error) {
		if typ == xfrmNewPolicy && len(b) >= sizePolicy && binary.NativeEndian.Uint32(b[atIndex:]) == index {
			found, err = withTemplates(b)
		}
		return err
	})
	if err == nil && found == nil {
		err = fmt.Errorf("policy %d isn't in the kernel's list", index)
	}
	return found, err
}

// withTemplates returns a policy of the kernel's list as it is to be set.
func withTemplates(b []byte) ([]byte, error) {
	p := append([]byte(nil), b[:sizePolicy]...)
	clear(p[atIndex : atIndex+4]) // the kernel chooses
	more, err := netlink.UnmarshalAttributes(b[sizePolicy:])
	for _, a := range more {
		if a.Type == xfrmTemplates {
			p = append(p, a.Data...)
		}
	}
	return p, err
}

func checkPolicies(all [][]byte) error {
	if len(all) > directions {
		return fmt.Errorf("%d IPsec policies can't be", len(all))
	}
	for _, p := range all {
		n := len(p) - sizePolicy
		if n < 0 || n%sizeTemplate != 0 || n/sizeTemplate > mostTemplates || p[atDirection] >= directions {
			return fmt.Errorf("an IPsec policy of %d bytes can't be", len(p))
		}
	}
	return nil
}

func setPolicies(own int, all [][]byte) error {
	for _, p := range all {
		err := linux.Setsockopt(own, unix.IPPROTO_IP, ipPolicy, p)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOPROTOOPT) {
			err = linux.Setsockopt(own, unix.IPPROTO_IPV6, ip6Policy, p)
		}
		if err != nil {
			return fmt.Errorf("set its IPsec policy (IP_XFRM_POLICY, which needs CAP_NET_ADMIN): %w", err)
		}
	}
	return nil
}
