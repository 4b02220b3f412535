package inet

import (
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
	own.fd, own.waiting, own.inside, own.group = nil, nil, nil, nil // what takes memory
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
	own := map[uint32]bool{}
	for _, f := range env.Tree.Files {
		if f.Stat.Mode&unix.S_IFMT == unix.S_IFSOCK {
			own[uint32(f.Stat.Ino)] = true
		}
	}
	var ports []netlock.Flow
	for _, l := range k.awaits {
		other, err := l.besideOthers(own)
		if err != nil {
			return err
		}
		if f, ok := portFlow(sort{family: l.family, protocol: unix.IPPROTO_TCP}, l.at, func(name string) int { return int(l.value(name)) }); ok && !other {
			ports = append(ports, f)
		}
	}
	return env.Shut(ports)
}

// besideOthers tells whether somebody outside of the tree listens at the same port: the
// kernel decides who of them gets a client. own are the tree's sockets.
func (l *look) besideOthers(own map[uint32]bool) (other bool, err error) {
	if l.value("SO_REUSEPORT") == 0 && l.opts.Entry.GetSoBoundDev() == "" {
		return false, nil
	}
	err = l.diag(func(c *sockdiag.Conn) error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			q := sockdiag.InetQuery{Family: family, Protocol: unix.IPPROTO_TCP, States: 1 << tcp.Listening, Port: l.at.port}
			err := c.EachInet(q, func(s *sockdiag.Inet) error {
				other = other || !own[s.Ino]
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return other, err
}

// again dumps who has come since the listener was dumped.
func (l *look) again() (err error) {
	if l.fd, err = l.file.Borrow(); err != nil {
		return err
	}
	defer l.fd.Close()
	for _, step := range []func() error{l.lookTCP, l.holdHandshakes, l.checkDecided, l.dumpWaiting} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

var _ kind.LastLooker = (*Kind)(nil)
