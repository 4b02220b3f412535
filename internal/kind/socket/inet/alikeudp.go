package inet

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
)

// unlearntUDP names the options that set something in motion for all of the
// machine, unless it is known by name where they are, or depend on the route.
var unlearntUDP = []string{"UDP_ENCAP", "UDP_GRO", "IPV6_UNICAST_HOPS"}

// learnAlikeUDP learns which UDP sockets have the same options, of families
// that have many: it takes some 15 ms each.
func (k *Kind) learnAlikeUDP(a *alikes, use map[string]int) error {
	layout := a.memory.TCP.UDP
	if layout == nil {
		return nil
	}
	var errs []error
	for family, name := range map[int]string{unix.AF_INET: "UDP", unix.AF_INET6: "UDP6"} {
		if use[name] < severalDescriptors {
			continue
		}
		s := sort{family: family, protocol: unix.IPPROTO_UDP}
		kernel, err := k.kernel(s)
		if err == nil {
			var learnt *socket.Alike
			if learnt, err = socket.LearnAlike(kernel, a.memory.Reader, layout, family, s.like, unlearntUDP...); err == nil {
				a.udp[family] = learnt
				continue
			}
		}
		errs = append(errs, fmt.Errorf("UDP, %s: %w", socket.FamilyName(family), err))
	}
	return errors.Join(errs...)
}
