package unix

import (
	"errors"
	"fmt"
	"reflect"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
	"glis.dev/glis/internal/sockmem"
)

// unheld is a socket that is only in messages of connections that nobody has accepted.
// sock_diag tells of it as of others, the kernel's memory what it doesn't tell, and its
// options are asked of another socket that has the same.
type unheld struct {
	*sockmem.Held
	file    kmem.Addr
	buffers []sockmem.Buffer // in its queue
	filter  *extra.SocketProgram
}

// unheldSocket makes a socket known that is only in messages, for the listener at which
// it waits.
func (w *waitingRoom) unheldSocket(l *look, x *sockmem.Lone) (*scan.File, error) {
	if family, err := w.memory.Family(x.At); err != nil || family != sys.AF_UNIX {
		return w.otherSocket(l, x, err)
	}
	ino, u, err := w.unixSocket(x)
	if err != nil {
		return nil, err
	}
	h, err := w.memory.Held(x.At)
	if err != nil {
		return nil, err
	}
	if e := sys.Errno(h.Err); x.Bound || e != 0 && e != sys.ECONNRESET {
		return nil, fmt.Errorf("%w: a socket at which an error waits that its peer hasn't brought about, or that is locked", errLonely)
	}
	n := &unheld{Held: h, file: x.At}
	own, err := w.socketLike(x, u, n)
	if err != nil {
		return nil, err
	}
	f, err := w.receivedSocket(l, x, own, uint64(ino))
	if err != nil {
		return nil, err
	}
	p := &w.kind.picture
	p.tree[ino], p.files[ino] = true, f
	w.kind.unheld[ino] = n
	at := &look{env: w.env, file: f, u: u, unheld: n}
	if u.State == listening {
		at.role = listener
		return f, w.open(at)
	}
	if n.buffers, err = w.memory.Queue(x.At); err != nil {
		return nil, err
	}
	w.queued = append(w.queued, at)
	return f, w.discover(l, n.buffers)
}

// otherSocket makes a socket of another family known.
func (w *waitingRoom) otherSocket(l *look, x *sockmem.Lone, err error) (*scan.File, error) {
	if err != nil {
		return nil, err
	}
	if x.Bound || w.env.Lone == nil {
		return nil, fmt.Errorf("%w: a socket that is locked", errLonely)
	}
	own, why, err := w.env.Lone(w.memory, x)
	if err == nil && own == nil {
		if why == "" {
			why = "a socket of a kind of which only itself tells all"
		}
		err = fmt.Errorf("%w: %s", errLonely, why)
	}
	if err != nil {
		return nil, err
	}
	ino, err := w.memory.SocketOf(x.At)
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return w.receivedSocket(l, x, own, ino)
}

// unixSocket returns what sock_diag tells of a unix socket.
func (w *waitingRoom) unixSocket(x *sockmem.Lone) (uint32, *sockdiag.Unix, error) {
	ino, err := w.memory.SocketOf(x.At)
	if err != nil {
		return 0, nil, err
	}
	u, err := w.kind.picture.get(uint32(ino))
	if err == nil && u == nil {
		err = fmt.Errorf("%w: a unix socket of another network namespace", errLonely)
	}
	return uint32(ino), u, err
}

// socketLike makes a socket that has the same options: what sockets that are sent have
// mostly, or what is found by trying.
func (w *waitingRoom) socketLike(x *sockmem.Lone, u *sockdiag.Unix, h *unheld) (*fd.FD, error) {
	if err := w.learnOptions(); err != nil {
		return nil, err
	}
	was, err := w.optionsAt(h.Sock)
	if err != nil {
		return nil, err
	}
	if h.filter, err = w.filterAt(h.Sock); err != nil {
		return nil, err
	}
	search := w.options.Fitting(w.kind.kernel, was, func() (int, error) { return w.socketFor(x, u, h) }, func(own int) ([]byte, error) {
		at, err := w.memory.Sock(own)
		if err != nil {
			return nil, err
		}
		is, err := w.optionsAt(at)
		if err == nil {
			err = w.compareFilter(h, at, is, was)
		}
		return is, err
	})
	n, err := search.Try()
	if err == nil && n < 0 {
		err = fmt.Errorf("%w: a socket that has options which aren't found by trying", errLonely)
	}
	if err != nil {
		return nil, err
	}
	return fd.New(n), nil
}

// socketFor makes a socket with what its memory tells by name.
func (w *waitingRoom) socketFor(x *sockmem.Lone, u *sockdiag.Unix, h *unheld) (int, error) {
	n, err := sys.Socket(sys.AF_UNIX, int(u.Type)|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err = w.giveOptions(n, u, h); err == nil {
		_, err = sys.FcntlInt(uintptr(n), sys.F_SETFL, int(x.Flags)&^sys.O_ACCMODE)
	}
	if err != nil {
		return -1, errors.Join(err, sys.Close(n))
	}
	return n, nil
}

// filterAt reads the filter of a socket, nil if there is none.
func (w *waitingRoom) filterAt(sk kmem.Addr) (*extra.SocketProgram, error) {
	m, err := w.kind.memory()
	if err != nil {
		return nil, err
	}
	return socket.FilterAt(m, sk)
}

// compareFilter has the memory of a socket tell of another one's filter if it has such a
// one, too.
func (w *waitingRoom) compareFilter(h *unheld, sk kmem.Addr, is, was []byte) error {
	m, err := w.kind.memory()
	if err != nil || h.filter == nil {
		return err
	}
	own, err := socket.FilterAt(m, sk)
	if at := int(m.Off("sock.sk_filter")); err == nil && reflect.DeepEqual(own, h.filter) && at+8 <= len(is) {
		copy(is[at:at+8], was[at:])
	}
	return err
}

// giveOptions sets what sockets that are sent have mostly.
func (w *waitingRoom) giveOptions(own int, u *sockdiag.Unix, h *unheld) error {
	if err := errors.Join(setPassing(own, h.Passing), w.giveInq(own, h), socket.AttachSame(own, h.filter)); err != nil {
		return err
	}
	for _, x := range []struct {
		read, set int
		want      uint32
	}{{sys.SO_SNDBUF, sys.SO_SNDBUFFORCE, u.Mem.Sndbuf}, {sys.SO_RCVBUF, sys.SO_RCVBUFFORCE, u.Mem.Rcvbuf}} {
		is, err := sys.GetsockoptInt(own, sys.SOL_SOCKET, x.read)
		if err == nil && u.HasMem && uint32(is) != x.want {
			err = sys.SetsockoptInt(own, sys.SOL_SOCKET, x.set, int(x.want/2))
		}
		if err != nil {
			return fmt.Errorf("set the size of a buffer to %d: %w", x.want, err)
		}
	}
	return nil
}

// giveInq sets SO_INQ, which can't be asked for.
func (w *waitingRoom) giveInq(own int, h *unheld) error {
	m, err := w.kind.memory()
	if err != nil || !m.Has("unix_sock.recvmsg_inq") {
		return err
	}
	var b [1]byte
	if err := m.ReadAt(b[:], h.Sock+m.Off("unix_sock.recvmsg_inq")); err != nil || b[0] == 0 {
		return err
	}
	return sys.SetsockoptInt(own, sys.SOL_SOCKET, soInq, 1)
}

// learnOptions finds out, once, what of a socket's memory is options.
func (w *waitingRoom) learnOptions() error {
	if w.options != nil {
		return nil
	}
	if err := w.kind.learn(); err != nil {
		return err
	}
	var err error
	if w.options, err = socket.LearnUntouched(w.kind.kernel); err != nil {
		return fmt.Errorf("%w: a socket, whose options can't be told (%w)", errLonely, err)
	}
	return nil
}

func (w *waitingRoom) optionsAt(sk kmem.Addr) ([]byte, error) { return w.options.Options(w.memory, sk) }

// putUnheld makes queues of what is queued at sockets that only messages have, once all
// sockets are known.
func (w *waitingRoom) putUnheld() error {
	for _, l := range w.queued {
		if len(l.unheld.buffers) == 0 {
			continue
		}
		all, err := w.convert(l, l.unheld.buffers)
		if isReason(err) {
			return l.refuse("%v; this isn't supported yet: let the process receive it", err)
		}
		if err != nil {
			return l.fail(err)
		}
		w.kind.queues[l.u.Ino] = &queued{messages: all}
	}
	return nil
}

// boundTo returns the file that a socket is bound to: of one that only messages have, by
// its path.
func (l *look) boundTo() (*fd.FD, error) {
	if l.unheld == nil {
		return boundFile(l.fd.Int())
	}
	n, err := sys.Open(l.unheld.Path, sys.O_PATH|sys.O_NOFOLLOW|sys.O_CLOEXEC, 0)
	own := fd.New(n)
	var st sys.Stat_t
	if err == nil {
		err = sys.Fstat(n, &st)
	}
	if err == nil && uint32(st.Ino) == l.u.VFSIno {
		return own, nil
	}
	return nil, errors.Join(l.refuse("it is only in messages of connections that nobody has accepted, and the file it is bound to, %q, isn't there any more (%v); let the server accept them", l.unheld.Path, err), own.Close())
}
