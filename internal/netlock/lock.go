package netlock

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
)

// Lock is what can hold packets back for as long as somebody has it open: the
// kernel removes its rules when the last copy of its socket is closed, by
// whatever death.
type Lock struct {
	sock  *fd.FD
	name  string // of the table, "" if there is none
	holds bool   // something
	shut  bool   // Shut was called
	// The answer of the kernel did not come, so there may be a table all the same: it is gone
	// when the socket is closed, and that is waited for.
	unsure bool
}

// Open prepares a lock; nothing is held back yet.
func Open() (*Lock, error) {
	s, err := open()
	if err != nil {
		return nil, err
	}
	return &Lock{sock: s}, nil
}

func open() (*fd.FD, error) {
	n, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("network lock: open a netlink socket: %w", hint(err))
	}
	s := fd.New(n)
	if err := unix.Bind(n, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, errors.Join(fmt.Errorf("network lock: bind a netlink socket: %w", err), s.Close())
	}
	return s, nil
}

// Int returns the socket, for a process that is to have it, too.
func (l *Lock) Int() int { return l.sock.Int() }

// Close lets the packets through, unless another process has the lock, too.
func (l *Lock) Close() error {
	if l.name == "" && !l.unsure { // nothing is waited for
		return l.sock.Leave()
	}
	return l.sock.Close()
}

// Prepare does what can be done before it is known what is to be held back: most
// of the time that a lock takes. name is one that nobody else uses.
func (l *Lock) Prepare(name string) error {
	if err := exchange(l.sock.Int(), lockBatch(name, flagOwner, nil)); err != nil {
		l.unsure = true
		return fmt.Errorf("prepare the network lock: %w", hint(err))
	}
	l.name = name
	return nil
}

// Hold holds the packets of these flows back from now on, all in one
// transaction, under a name that nobody else uses, or that of Prepare. No flows,
// no rules.
func (l *Lock) Hold(name string, flows []Flow) error {
	if len(flows) == 0 {
		return nil
	}
	var batch []byte
	if l.name != "" {
		batch = fillBatch(l.name, flows)
	} else {
		batch = lockBatch(name, flagOwner, flows)
	}
	if err := exchange(l.sock.Int(), batch); err != nil {
		l.unsure = true
		return fmt.Errorf("lock the packets of %d connections: %w", len(flows), l.taken(err, name))
	}
	if l.name == "" {
		l.name = name
	}
	l.holds = true
	return nil
}

// Pass lets the packets through, for good, and leaves it to Release to clean up,
// which takes the kernel several times as long. It may be called when nothing is
// held.
func (l *Lock) Pass() error {
	if !l.holds {
		return nil
	}
	l.holds = false
	err := exchange(l.sock.Int(), passBatch(l.name))
	// A kernel without nf_tables holds nothing back.
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return errors.Join(fmt.Errorf("unlock the packets of table inet %s: %w", l.name, err), l.Release())
}

// Release lets the packets through. It may be called when nothing is held.
func (l *Lock) Release() error {
	if l.name == "" {
		return nil
	}
	if err := remove(l.sock.Int(), l.name); err != nil {
		return err
	}
	l.name, l.holds, l.shut = "", false, false
	return nil
}

// KeptName is the name of the table that stays from a dump until its restore.
// It is the one that criu would use for a dump of this id (cut as it does), so
// that criu finds it when it restores ours, and we when we restore its.
func KeptName(runID string) string {
	const most = 21
	return keptPrefix + runID[:min(len(runID), most)]
}

// Keep holds the packets of these flows back until Unlock, whatever becomes of
// this process. What was kept under that name before is replaced, with no moment in
// which nothing is held back.
func Keep(name string, flows []Flow) error {
	return byItself(func(l *Lock) error { return l.Keep(name, flows) })
}

// Keep is Keep by way of a lock that is open anyway: each socket that is closed makes
// others wait (fd.FD.Leave).
func (l *Lock) Keep(name string, flows []Flow) error {
	if len(flows) == 0 {
		return nil
	}
	if err := keep(l.sock.Int(), name, flows); err != nil {
		return fmt.Errorf("lock the packets of %d connections and ports: %w", len(flows), hint(err))
	}
	return nil
}

// Unlock lets through what Keep held back. It is no error if nothing is held:
// somebody may have flushed the rules.
func Unlock(name string) error {
	return byItself(func(l *Lock) error { return l.Unlock(name) })
}

// Unlock is Unlock by way of a lock that is open anyway.
func (l *Lock) Unlock(name string) error { return remove(l.sock.Int(), name) }

// byItself calls f with a lock that is there for that alone.
func byItself(f func(*Lock) error) error {
	l, err := Open()
	if err != nil {
		return err
	}
	return errors.Join(f(l), l.Close())
}

// remove removes a table that may be there. It asks first: a transaction that fails has
// the kernel wait for RCU, 10 ms and more.
func remove(sock int, name string) error {
	if errors.Is(there(sock, name), unix.ENOENT) {
		return nil
	}
	err := exchange(sock, unlockBatch(name))
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("unlock the packets of table inet %s: %w", name, err)
}

// there asks for a table; unix.ENOENT: there is none.
func there(sock int, name string) error {
	b := &batch{}
	b.table(unix.NFT_MSG_GETTABLE, netlink.Acknowledge, func(e *netlink.AttributeEncoder) { e.String(unix.NFTA_TABLE_NAME, name) })
	return exchange(sock, b.out)
}

// taken says of an error that somebody else has a lock of this name, if it is that.
func (l *Lock) taken(err error, name string) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EEXIST) {
		return hint(err)
	}
	if l.name != "" || there(l.sock.Int(), name) != nil {
		return hint(err)
	}
	return fmt.Errorf("%w: table inet %s is there already, as another restore of these images is under way; wait for its end", err, name)
}

// hint adds what to do to the errors that have a remedy.
func hint(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (that needs CAP_NET_ADMIN in this network namespace; --network-lock skip does without, and peers that send meanwhile may reset)", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w (does this kernel have nf_tables with sets, CONFIG_NF_TABLES_INET? --network-lock skip does without, and peers that send meanwhile may reset)", err)
	}
	return err
}

// answers are awaited for this long, in seconds: the kernel gives them before
// sendmsg(2) returns.
const answersWithin = 10

// exchange sends one transaction and waits until it is done.
func exchange(sock int, batch []byte) error {
	// A transaction has to be sent as a whole.
	if need := 2*len(batch) + 64<<10; need > 128<<10 {
		if err := unix.SetsockoptInt(sock, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, need); err != nil {
			return fmt.Errorf("send buffer of %d bytes: %w", need, err)
		}
	}
	if err := unix.SetsockoptTimeval(sock, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answersWithin}); err != nil {
		return err
	}
	drain(sock)
	if err := unix.Sendto(sock, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send %d bytes to nf_tables: %w", len(batch), err)
	}
	buf := make([]byte, 16<<10)
	for {
		n, _, err := unix.Recvfrom(sock, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for nf_tables: %w", err)
		}
		if done, err := answer(buf[:n]); done || err != nil {
			return err
		}
	}
}

// drain takes what is left of answers to an earlier transaction that failed in
// more than one place.
func drain(sock int) {
	var b [4]byte
	for {
		if _, _, err := unix.Recvfrom(sock, b[:], unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// answer looks for the acknowledgement, or for the error that stands for it.
func answer(b []byte) (done bool, err error) {
	ne := binary.NativeEndian
	for len(b) >= unix.NLMSG_HDRLEN+4 {
		size := int(ne.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false, fmt.Errorf("an answer of nf_tables says it has %d of %d bytes", size, len(b))
		}
		if ne.Uint16(b[4:]) == unix.NLMSG_ERROR && size >= unix.NLMSG_HDRLEN+4 {
			if e := int32(ne.Uint32(b[unix.NLMSG_HDRLEN:])); e != 0 {
				return true, unix.Errno(-e)
			}
			done = true
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return done, nil
}
