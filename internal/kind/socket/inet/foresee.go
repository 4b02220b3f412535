package inet

import (
	"context"
	"log/slog"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
)

// Foresee implements kind.Foreseer: whether connections that wait to be accepted
// can be put back is learnt before the freeze, if the tree has a listener at which
// some could wait, and those that wait already and can't be are refused. So is it learnt
// how their options are told.
func (k *Kind) Foresee(env *kind.DumpEnv, find kind.Find) error {
	tellOrphans(env)
	if (&look{env: env}).leavesOut() {
		return nil
	}
	all, families, err := listeners()
	if err != nil {
		env.Log.Debug("listeners are not looked at before the freeze", "why", err)
	}
	if len(all) == 0 {
		return nil
	}
	return find(all, func(f *scan.File) error {
		l := &look{kind: k, env: env, file: f}
		l.protocol = unix.IPPROTO_TCP
		if l.whyNot() == "" {
			if family := families[f.Stat.Ino]; family != 0 { // what can't be learnt is tried again
				_, _, _ = k.learnPassed(sort{family: int(family), protocol: unix.IPPROTO_TCP, connected: true})
			}
			return nil
		}
		return l.refuseWaiting()
	})
}

// tellOrphans counts and names the connections that nobody has open any more. They are
// no part of the tree: they stay in the kernel, which sends what they have as long as
// their network namespace is there.
func tellOrphans(env *kind.DumpEnv) {
	if !env.Log.Enabled(context.Background(), slog.LevelInfo) {
		return
	}
	n, err := proc.Orphans()
	if err != nil || n == 0 {
		return
	}
	env.Log.Info("TCP connections that were closed and still have something to send (orphans) stay with the kernel", "count", n)
	const most = 100 // are named
	var named int
	err = eachAt(0, 1<<tcp.FinWait1|1<<tcp.Closing|1<<tcp.LastAck, func(s *sockdiag.Inet) {
		if leftBehind(s) && named < most {
			named++
			env.Log.Info("it stays with the kernel", "from", s.Src, "to", s.Dst)
		}
	})
	if err != nil {
		env.Log.Debug("orphans are not named", "why", err)
	}
}

// refuseWaiting refuses what waits at a listener of a tree that runs, unless it
// was accepted meanwhile, or the listener is gone.
func (l *look) refuseWaiting() (err error) {
	if l.fd, err = l.file.Borrow(); err != nil {
		return nil //nolint:nilerr // it is closed
	}
	defer l.fd.Close()
	if l.tcp, err = tcp.Look(l.fd.Int()); err != nil || l.tcp.State != tcp.Listening {
		return nil //nolint:nilerr // the number is another file's now
	}
	if err := l.countDeferred(); err != nil || l.tcp.Waiting+l.deferred == 0 {
		return err
	}
	return l.checkWaiting()
}

// listeners returns the inodes of all TCP listeners of Glis's network namespace, and the
// families of those at which connections wait.
func listeners() (all map[uint64]bool, families map[uint64]uint8, err error) {
	all, families = map[uint64]bool{}, map[uint64]uint8{}
	err = eachAt(0, 1<<tcp.Listening, func(s *sockdiag.Inet) {
		all[uint64(s.Ino)] = true
		if s.RQueue > 0 {
			families[uint64(s.Ino)] = s.Family
		}
	})
	return all, families, err
}
