package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
)

// Untouched recognizes sockets that have every option as a new socket has it,
// and nobody as their owner, by their memory in the kernel: at a fortieth of
// the cost of reading the options one by one.
//
// It doesn't know which bytes are which option: it makes sockets of its own,
// changes one option of each, and sees which words of memory become different.
// A word counts whole, except for the bits that differ between sockets of no
// changed option too. So what is called untouched is untouched, while a socket
// that isn't may also be in a state that is rare. It is not for use by several goroutines at
// once.
type Untouched struct {
	reader *sockmem.Reader
	sock   pattern
	file   pattern
	room   []byte // for memory and what is behind it, see whole
}

// pattern is memory of which only the masked bits count.
type pattern struct {
	base, mask []byte
	words      []maskedWord // those of 8 bytes in which any bit counts
}

type maskedWord struct {
	at         int
	base, mask uint64
}

func (p *pattern) matches(b []byte) bool {
	if len(b) != len(p.base) {
		return false
	}
	for i := range p.words {
		w := &p.words[i]
		if (binary.LittleEndian.Uint64(b[w.at:])^w.base)&w.mask != 0 {
			return false
		}
	}
	return true
}

// seal makes the pattern ready for matching.
func (p *pattern) seal() {
	p.words = p.words[:0]
	for at := 0; at+8 <= len(p.mask); at += 8 {
		w := maskedWord{at, binary.LittleEndian.Uint64(p.base[at:]), binary.LittleEndian.Uint64(p.mask[at:])}
		if w.mask != 0 {
			p.words = append(p.words, w)
		}
	}
}

// Look calls fn for every socket of the process behind a pidfd, which must
// stand still. peer is the same for sockets that tell of the same peer.
func (u *Untouched) Look(pidfd int, fn func(fd int32, options, owner bool, peer [2]uint64, queued uint32) error) error {
	return u.reader.Each(pidfd, func(s sockmem.Socket) error {
		return fn(s.FD, !u.sock.matches(u.whole(&s, len(s.Sock))), !u.file.matches(s.File), s.Peer, s.Queued)
	})
}

// Sees is Look for one socket that a reader shows which may show more of each. It
// is false if it shows less.
func (u *Untouched) Sees(s *sockmem.Socket) (options, owner, ok bool) {
	size := len(u.sock.base) - len(behind(u.reader, s))
	if len(s.Sock) < size {
		return true, true, false
	}
	return !u.sock.matches(u.whole(s, size)), !u.file.matches(s.File), true
}

// whole returns the memory of a socket, so much of it, with what is kept elsewhere behind it.
func (u *Untouched) whole(s *sockmem.Socket, size int) []byte {
	b := behind(u.reader, s)
	if len(b) == 0 {
		return s.Sock[:size]
	}
	u.room = append(append(u.room[:0], s.Sock[:size]...), b...)
	return u.room
}

// behindSize is the word that behind returns.
const behindSize = 8

// behind returns options that a socket's memory doesn't show, in a word, before Linux 6.16.
func behind(r *sockmem.Reader, s *sockmem.Socket) []byte {
	if !r.TellsPassing() {
		return nil
	}
	return []byte{s.Passing, behindSize - 1: 0}
}

// Options reads what counts of a socket from memory.
func (u *Untouched) Options(m *sockmem.Memory, sk kmem.Addr) ([]byte, error) {
	b := make([]byte, len(u.sock.base))
	if !u.reader.TellsPassing() {
		return b, m.ReadAt(b, sk)
	}
	passing, err := m.Passing(sk)
	own := copy(b[len(b)-behindSize:], behind(u.reader, &sockmem.Socket{Passing: uint8(passing)}))
	return b, errors.Join(err, m.ReadAt(b[:len(b)-own], sk))
}

// Alike tells whether two sockets have the same options, by their memory.
func (u *Untouched) Alike(a, b []byte) bool {
	if len(a) != len(u.sock.base) || len(b) != len(a) {
		return false
	}
	for _, w := range u.sock.words {
		if (binary.LittleEndian.Uint64(a[w.at:])^binary.LittleEndian.Uint64(b[w.at:]))&w.mask != 0 {
			return false
		}
	}
	return true
}

// Fitting returns the search for the options of a socket whose memory is given. read reads
// that of a new one.
func (u *Untouched) Fitting(k *Kernel, want []byte, fresh func() (int, error), read func(int) ([]byte, error)) *Fitting {
	a := &Alike{kernel: k, size: len(u.sock.base), words: make([][]sockmem.Span, len(k.Table))}
	for at, m := range u.sock.mask {
		if m != 0 {
			a.parts = append(a.parts, sockmem.Span{At: at, Size: 1})
		}
	}
	return &Fitting{Alike: a, Want: want, New: fresh, Read: func(own int) ([]byte, error) {
		is, err := read(own)
		for i := range is { // what doesn't count is the same
			is[i] = is[i]&u.sock.mask[i] | want[i]&^u.sock.mask[i]
		}
		return is, err
	}}
}

// Close frees what the kernel keeps for it.
func (u *Untouched) Close() error { return u.reader.Close() }

// LearnUntouched learns to recognize stream sockets of AF_UNIX. Where the
// kernel's memory can't be read or doesn't show every option, it fails with
// sockmem.ErrUnavailable: that takes some 15 ms.
func LearnUntouched(k *Kernel) (*Untouched, error) {
	r, err := sockmem.Open()
	if err != nil {
		return nil, err
	}
	l := &lesson{kernel: k}
	defer l.close()
	u := &Untouched{reader: r}
	if err = l.samples(); err == nil {
		if err = l.read(r); err == nil {
			err = l.conclude(u)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", sockmem.ErrUnavailable, err), r.Close())
	}
	return u, nil
}

// lesson is the sockets to learn from.
type lesson struct {
	kernel *Kernel
	all    []*sample
	fds    []int
}

// sample is one of them; both ends of a pair are.
type sample struct {
	fd         int
	name       string  // of what was changed, "" if nothing was
	word       int     // bytes that count together
	owner      bool    // it was the owner, not an option
	twin       *sample // the same once more; only the first has it
	sock, file []byte
}

func (l *lesson) close() {
	for _, n := range l.fds {
		unix.Close(n)
	}
}

func (l *lesson) pair() (a, b int, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("make sockets to learn from: %w", err)
	}
	l.fds = append(l.fds, p[:]...)
	return p[0], p[1], nil
}

// samples makes sockets that differ from new ones by use alone, and one for
// every option.
func (l *lesson) samples() error {
	if err := l.used(); err != nil {
		return err
	}
	for i := range l.kernel.Table {
		o := &l.kernel.Table[i]
		if !l.kernel.Fresh[i].OK || l.kernel.fixed[i] {
			continue
		}
		err := l.change(o.Name, max(o.Size, 4), func(fd int) error { return l.kernel.set(linux.Hand{}, fd, i, o.far(l.kernel.Fresh[i])) })
		if err != nil {
			return err
		}
	}
	drop := unix.SockFilter{Code: 6}
	steps := []struct {
		name string
		f    func(fd int) error
	}{
		{"SO_ATTACH_FILTER", func(fd int) error {
			return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
		}},
		{"SO_BINDTOIFINDEX", func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 1) }},
	}
	for _, s := range steps {
		if err := l.change(s.name, 8, s.f); err != nil {
			return err
		}
	}
	return errors.Join(l.untold("SO_BUSY_POLL_BUDGET", soBusyPollBudget, 2, 0x55), l.untold("SO_INQ", soInq, 1, 1), l.owners())
}

// untold changes an option that can't be read, if the kernel has it.
func (l *lesson) untold(name string, opt, size, value int) error {
	err := l.change(name, size, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, value) })
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil
	}
	return err
}

// used makes sockets in all sorts of states that no option is part of.
func (l *lesson) used() error {
	uses := []func(a, b int) error{
		func(int, int) error { return nil },
		func(a, b int) error { return unix.Sendmsg(a, make([]byte, 1000), nil, nil, 0) },
		func(a, b int) error {
			return errors.Join(unix.Sendmsg(a, make([]byte, 77777), nil, nil, 0), unix.Sendmsg(b, []byte{1}, nil, nil, 0))
		},
		func(a, b int) error { return unix.Shutdown(a, unix.SHUT_WR) },
		func(a, b int) error { return unix.Shutdown(a, unix.SHUT_RD) },
		func(a, b int) error { return unix.Shutdown(a, unix.SHUT_RDWR) },
		func(a, b int) error {
			if err := unix.Sendmsg(a, make([]byte, 5000), nil, nil, 0); err != nil {
				return err
			}
			_, err := unix.Read(b, make([]byte, 5000))
			return err
		},
		func(a, b int) error { return unix.SetNonblock(a, true) },
	}
	for _, use := range uses {
		a, b, err := l.pair()
		if err != nil {
			return err
		}
		if err := use(a, b); err != nil {
			return fmt.Errorf("use sockets to learn from: %w", err)
		}
		l.all = append(l.all, &sample{fd: a}, &sample{fd: b})
	}
	return l.unconnected()
}

// unconnected makes one that is connected to nobody, and one that listens.
func (l *lesson) unconnected() error {
	for i := range 2 {
		n, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("make sockets to learn from: %w", err)
		}
		l.fds, l.all = append(l.fds, n), append(l.all, &sample{fd: n})
		if i == 0 {
			continue
		}
		if err := errors.Join(unix.Bind(n, &unix.SockaddrUnix{}), unix.Listen(n, 1)); err != nil {
			return fmt.Errorf("have a socket listen to learn from: %w", err)
		}
	}
	return nil
}

// change adds two sockets of which one thing is changed, so that what they
// don't have in common isn't taken for it. Their peers are two more of which
// nothing is.
func (l *lesson) change(name string, word int, f func(fd int) error) error {
	var both [2]*sample
	for i := range both {
		a, b, err := l.pair()
		if err != nil {
			return err
		}
		if err := f(a); err != nil {
			return fmt.Errorf("change %s to learn where it is: %w", name, err)
		}
		both[i] = &sample{fd: a, name: name, word: min(word, 8)}
		l.all = append(l.all, both[i], &sample{fd: b})
	}
	both[0].twin = both[1]
	return nil
}

// owners adds sockets with an owner and with a signal.
func (l *lesson) owners() error {
	n := len(l.all)
	err := errors.Join(
		l.change("F_SETOWN", 8, func(fd int) error {
			return linux.FcntlSetOwnerEx(fd, linux.FOwnerEx{Type: linux.F_OWNER_PID, PID: int32(os.Getpid())})
		}),
		l.change("F_SETSIG", 8, func(fd int) error {
			_, err := unix.FcntlInt(uintptr(fd), linux.F_SETSIG, int(unix.SIGIO))
			return err
		}))
	for _, s := range l.all[n:] {
		s.owner = true
	}
	return err
}

// read reads the memory of all samples.
func (l *lesson) read(r *sockmem.Reader) error {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(self)
	byFD := map[int32]*sample{}
	for _, s := range l.all {
		byFD[int32(s.fd)] = s
	}
	return r.Each(self, func(m sockmem.Socket) error {
		if s := byFD[m.FD]; s != nil {
			s.sock, s.file = slices.Concat(m.Sock, behind(r, &m)), slices.Clone(m.File)
		}
		return nil
	})
}

// conclude makes patterns of what was seen.
func (l *lesson) conclude(u *Untouched) error {
	base := l.all[0]
	sockNoise, fileNoise := make([]byte, len(base.sock)), make([]byte, len(base.file))
	u.sock = pattern{base: base.sock, mask: make([]byte, len(base.sock))}
	u.file = pattern{base: base.file, mask: make([]byte, len(base.file))}
	for _, s := range l.all {
		if len(base.sock) == 0 || len(s.sock) != len(base.sock) || len(s.file) != len(base.file) {
			return fmt.Errorf("the memory of a socket of our own (%s) wasn't shown", s.name)
		}
		if s.name == "" {
			differ(sockNoise, s.sock, base.sock)
			differ(fileNoise, s.file, base.file)
		}
	}
	bits, err := linux.KernelAddressBits()
	if err != nil {
		return err
	}
	addresses(sockNoise, base.sock, bits)
	addresses(fileNoise, base.file, bits)
	for _, s := range l.all {
		if s.twin == nil {
			continue
		}
		p, noise, a, b := &u.sock, sockNoise, s.sock, s.twin.sock
		if s.owner {
			p, noise, a, b = &u.file, fileNoise, s.file, s.twin.file
		}
		if !p.learn(a, b, noise, s.word) {
			return fmt.Errorf("%s doesn't show in memory", s.name)
		}
	}
	u.sock.seal()
	u.file.seal()
	return nil
}

// differ adds the bits that differ between a and b.
func differ(into, a, b []byte) {
	for i := range into {
		into[i] |= a[i] ^ b[i]
	}
}

// addresses makes noise of all bits of words that are addresses in the kernel, of which so
// many bits aren't all ones, and differ:
// that some of them were the same in a few sockets is chance, and others are elsewhere.
func addresses(noise, base []byte, bits int) {
	for at := 0; at+8 <= len(base); at += 8 {
		differs := binary.LittleEndian.Uint64(noise[at:]) != 0
		if differs && int64(binary.LittleEndian.Uint64(base[at:]))>>bits == -1 {
			binary.LittleEndian.PutUint64(noise[at:], math.MaxUint64)
		}
	}
}

// learn makes every word count in which both a and b differ from the base by
// more than noise, and tells whether there is one.
func (p *pattern) learn(a, b, noise []byte, word int) bool {
	found := false
	for at := 0; at+word <= len(b); at += word {
		hit := byte(0)
		for i := at; i < at+word; i++ {
			hit |= (a[i] ^ p.base[i]) & (b[i] ^ p.base[i]) &^ noise[i]
		}
		if hit == 0 {
			continue
		}
		found = true
		for i := at; i < at+word; i++ {
			p.mask[i] |= ^noise[i]
		}
	}
	return found
}

// far returns a value of the option as different from a new socket's as is
// allowed, so that it shows in every word it is kept in.
func (o *Option) far(fresh Value) Value {
	switch o.Opt {
	case unix.SO_SNDBUF, unix.SO_RCVBUF:
		return Uint(1 << 20)
	case unix.SO_LINGER:
		return Value{Lo: 1 | 1<<30<<32, OK: true}
	case unix.SO_RCVTIMEO, unix.SO_SNDTIMEO:
		return Value{Lo: 1 << 30, OK: true}
	case unix.SO_BUF_LOCK:
		return Uint(3)
	case unix.SO_TIMESTAMPING, unix.SO_TIMESTAMPING_NEW:
		return Value{Lo: 1 << 4, OK: true} // SOF_TIMESTAMPING_SOFTWARE
	case unix.SO_MAX_PACING_RATE:
		return Value{OK: true}
	case unix.SO_RCVLOWAT, unix.SO_PRIORITY, unix.SO_MARK:
		return Uint(0x55555555)
	case unix.SO_PEEK_OFF, unix.SO_INCOMING_CPU:
		return Uint(0)
	case unix.SO_BUSY_POLL:
		return Uint(0x5555)
	}
	return Value{Lo: binary.LittleEndian.Uint64([]byte{byte(fresh.Lo) ^ 1, 0, 0, 0, 0, 0, 0, 0}), OK: true}
}
