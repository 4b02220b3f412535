package inet

import (
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/netlock"
	"glis.dev/glis/internal/sockdiag"
)

// Clients go on to come to listeners of a tree that stands still: the kernel answers them.

// expect notes a listener that clients may still come to.
func (l *look) expect() error {
	if l.state != tcp.Listening || l.env.Shut == nil || l.env.Options.TCPClose {
		return nil
	}
	own := *l
	own.fd, own.waiting, own.inside, own.group, own.more = nil, nil, nil, nil, nil // what takes memory
	l.kind.awaits = append(l.kind.awaits, &own)
	return nil
}

// LastLook implements kind.LastLooker.
func (k *Kind) LastLook(env *kind.DumpEnv) error {
	if err := k.shut(env); err != nil {
		return err
	}
	for _, l := range k.awaits {
		if err := env.Check(); err != nil {
			return err
		}
		if err := l.again(); err != nil {
			return err
		}
	}
	return nil
}

// shut has nobody get through to listeners from now on.
func (k *Kind) shut(env *kind.DumpEnv) error {
	if len(k.awaits) == 0 {
		return nil
	}
	others, err := k.othersAt(env)
	if err != nil {
		return err
	}
	var ports []netlock.Flow
	for _, l := range k.awaits {
		if l.shares() && others[l.at.port] {
			continue // the kernel decides who of them gets a client
		}
		if f, ok := portFlow(sort{family: l.family, protocol: unix.IPPROTO_TCP}, l.at, func(name string) int { return int(l.value(name)) }); ok {
			ports = append(ports, f)
		}
	}
	return env.Shut(ports)
}

// shares tells whether somebody else may listen at the same port.
func (l *look) shares() bool {
	return l.value("SO_REUSEPORT") != 0 || l.opts.Entry.GetSoBoundDev() != ""
}

// othersAt returns the ports at which somebody outside of the tree listens, if that matters.
func (k *Kind) othersAt(env *kind.DumpEnv) (map[uint16]bool, error) {
	at := slices.IndexFunc(k.awaits, (*look).shares)
	if at < 0 {
		return nil, nil
	}
	own, ports := map[uint32]bool{}, map[uint16]bool{}
	for _, f := range env.Tree.Files {
		if f.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK {
			own[uint32(f.Stat.Ino)] = true
		}
	}
	err := k.awaits[at].diag(func(c *sockdiag.Conn) error { // once for all: they may be many
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			q := sockdiag.InetQuery{Family: family, Protocol: unix.IPPROTO_TCP, States: 1 << tcp.Listening}
			err := c.EachInet(q, func(s *sockdiag.Inet) error {
				if !own[s.Ino] {
					ports[s.Src.Port()] = true
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return ports, err
}

// again dumps who has come since the listener was dumped.
func (l *look) again() (err error) {
	if l.fd, err = l.file.Borrow(); err != nil {
		return err
	}
	defer l.fd.Close()
	for _, step := range []func() error{l.lookTCP, l.holdHandshakes, l.checkDecided, l.dumpWaiting, l.dumpHalves} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

var _ kind.LastLooker = (*Kind)(nil)
