package inet

import (
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/proc"
)

// A socket may be bound to an interface that is gone (SO_BINDTODEVICE). It sends and hears
// nothing then, so that nothing that has to be sent or heard to make it again can be.

const whyGone = "it is bound to interface %d, which is gone, and %s, which can't be without it; let the process bind it to another one, or to none (SO_BINDTODEVICE), or close it"

// checkGone refuses what can't be made again without its interface.
func (l *look) checkGone() error {
	index, gone := socket.Gone(l.opts.Entry.GetSoBoundDev())
	if !gone {
		return nil
	}
	what := ""
	switch {
	case l.live() || l.peer.set() || l.heard.set():
		what = "connected"
	case l.ended != nil:
		what = "its connection has ended"
	case len(l.waiting) > 0 || l.tcp.Waiting > 0:
		what = "connections wait to be accepted"
	case linkLocal(l.at):
		what = "has a link-local address"
	case l.inbox != nil:
		what = "something waits in its queue"
	}
	if what == "" {
		return nil
	}
	return l.refuse(whyGone, index, what)
}

// checkGone is that of a socket without ports.
func (l *bareLook) checkGone(ends proc.NetSocket) error {
	index, gone := socket.Gone(l.Opts.Entry.GetSoBoundDev())
	if !gone {
		return nil
	}
	waits, err := l.Waits()
	at := address{ends.Local.Addr(), ends.Local.Port()}
	switch {
	case err != nil:
		return err
	case waits:
		return l.Refuse(whyGone, index, "something waits in its queue")
	case ends.Remote.Addr().IsValid() && !ends.Remote.Addr().IsUnspecified():
		return l.Refuse(whyGone, index, "connected")
	case l.family == unix.AF_INET6 && at.ip.IsValid() && !at.ip.IsUnspecified():
		return l.Refuse(whyGone, index, "has an address of IPv6")
	}
	return nil
}
