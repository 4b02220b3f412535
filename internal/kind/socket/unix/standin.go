package unix

import (
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/standin"
)

// A descriptor that is only in messages of connections that nobody has accepted can't
// be had: accepting one can't be taken back. Another one like it is dumped in its place.

// stand is a file that is dumped in another one's place.
type stand struct {
	file *scan.File
	x    *sockmem.Lone
	at   *look // the listener at which it waits
}

// standIn returns a file like the one that the kernel has at an address, for the listener
// at which it waits.
func (w *waitingRoom) standIn(l *look, at kmem.Addr) (*scan.File, error) {
	if w.env.Files == nil || !w.memory.TellsLone() {
		return nil, errLonely
	}
	x, err := w.memory.Lone(at)
	if err != nil {
		return nil, err
	}
	path := x.Flags&sys.O_PATH != 0
	if x.Mode&sys.S_IFMT == sys.S_IFSOCK && !path {
		return w.unheldSocket(l, x)
	}
	if x.Mode&sys.S_IFMT == sys.S_IFCHR && !x.Bound && !path {
		if own, err := w.device(x); own != nil || err != nil {
			return w.received(l, x, own, err)
		}
	}
	if err := w.hire(); err != nil {
		return nil, err
	}
	if w.maker.IsEpoll(x) && !w.late {
		w.epolls[at] = l
		return nil, nil
	}
	if err := w.introduce(x.Inode); err != nil {
		return nil, err
	}
	own, err := w.maker.Make(x)
	if errors.Is(err, standin.ErrUnlike) {
		err = fmt.Errorf("%w: %w", errLonely, err)
	}
	f, err := w.received(l, x, own, err)
	if err == nil {
		f.Pos = x.Pos // of one that was opened with O_PATH instead
	}
	return f, err
}

// locksOf are the locks of a file as fdinfo has them.
func locksOf(x *sockmem.Lone) (all []proc.Lock) {
	for _, l := range x.Locks {
		p := proc.Lock{Kind: l.Kind, Mode: "ADVISORY", Access: "READ", PID: -1, Start: l.Start, End: l.End}
		if l.Kind == "LEASE" {
			p.Mode = "ACTIVE"
		}
		if l.Type == sys.F_WRLCK {
			p.Access = "WRITE"
		}
		all = append(all, p)
	}
	return all
}

// hire gets a maker.
func (w *waitingRoom) hire() (err error) {
	if w.maker != nil {
		return nil
	}
	if w.maker, err = standin.New(w.memory); err == nil {
		w.maker.Held, w.maker.Of, w.maker.Mapped = w.held, w.ofInode, w.mapped
	}
	return err
}

// standInEpolls makes stand-ins of epoll files, once what they watch is known: that may be
// such a one, too.
func (w *waitingRoom) standInEpolls() error {
	w.late = true
	for at, l := range w.epolls {
		if f, err := w.fileAt(at); f != nil || err != nil {
			continue // another one watches it
		}
		_, err := w.standIn(l, at)
		if isReason(err) {
			return l.refuseWaiting(err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// device returns a device that is like one which can't just be opened again; nil, if it is
// of no kind that knows more.
func (w *waitingRoom) device(x *sockmem.Lone) (*fd.FD, error) {
	if w.env.Lone == nil {
		return nil, nil
	}
	own, why, err := w.env.Lone(w.memory, x)
	if why != "" && err == nil {
		err = fmt.Errorf("%w: %s", errLonely, why)
	}
	return own, err
}

// received makes a file known that stands for another one.
func (w *waitingRoom) received(l *look, x *sockmem.Lone, own *fd.FD, err error) (*scan.File, error) {
	if err != nil {
		return nil, err
	}
	f, err := w.env.Files.Received(own, l.file)
	if err != nil {
		return nil, err
	}
	f.Flags = x.Flags &^ sys.O_CLOEXEC // see standin: the end of a pipe may have one more
	if len(x.Locks) > 0 {
		info := *f.Info()
		info.Locks = locksOf(x)
		f.Told = &info
	}
	f.Hangs = &scan.Hanging{Owner: x.Owner}
	w.files[x.At], w.waits, w.stands = f, l, append(w.stands, stand{f, x, l})
	return f, nil
}

// receivedSocket is received for a socket, of which it says which one it is.
func (w *waitingRoom) receivedSocket(l *look, x *sockmem.Lone, own *fd.FD, ino uint64) (*scan.File, error) {
	f, err := w.received(l, x, own, nil)
	if err == nil {
		f.Stat.Ino, f.Stat.Mode, f.Stat.UID, f.Stat.GID = ino, x.Mode, x.UID, x.GID
		f.Link = fmt.Sprintf("socket:[%d]", ino)
	}
	return f, err
}

// held returns the file of the tree that the kernel has at an address, nil if it is none.
// It may be an epoll file that is still to be made.
func (w *waitingRoom) held(at kmem.Addr) (*fd.FD, error) {
	f, err := w.fileAt(at)
	if l := w.epolls[at]; f == nil && l != nil && err == nil {
		f, err = w.standIn(l, at)
	}
	if f == nil || err != nil {
		return nil, err
	}
	return f.Borrow()
}

// findWatching finds the epoll files of the tree that watch files which others stand for.
func (w *waitingRoom) findWatching() error {
	for _, s := range w.stands {
		for _, x := range s.x.Watches {
			by, err := w.fileAt(x.By)
			if err != nil {
				return err
			}
			if by == nil {
				return s.at.refuseWaiting(fmt.Errorf("%w: a file that an epoll file watches which no task of the tree has open", errLonely))
			}
			if err := w.hire(); err != nil {
				return err
			}
			nth, err := w.maker.Nth(x, s.x.At)
			if errors.Is(err, standin.ErrUnlike) {
				return s.at.refuseWaiting(fmt.Errorf("%w: %w", errLonely, err))
			}
			if err != nil {
				return err
			}
			s.file.Hangs.Watched = append(s.file.Hangs.Watched, scan.Watched{By: by, Number: x.Number, Nth: nth})
		}
	}
	return nil
}

// introduce tells the maker of a file of the tree that has the same inode, if there is one.
func (w *waitingRoom) introduce(inode kmem.Addr) error {
	own, err := w.ofInode(inode)
	if own == nil || err != nil {
		return err
	}
	if w.maker.Knows(inode) {
		return own.Close()
	}
	w.maker.Known(inode, own)
	return nil
}

// ofInode returns a file of the tree that has an inode, nil if there is none.
func (w *waitingRoom) ofInode(inode kmem.Addr) (*fd.FD, error) {
	if w.inodes == nil {
		w.inodes = map[kmem.Addr]*scan.File{}
		for at, f := range w.files {
			i, err := w.memory.Pointer(at + w.memory.Off("file.f_inode"))
			if err != nil {
				return nil, err
			}
			w.inodes[i] = f
		}
	}
	f := w.inodes[inode]
	if f == nil {
		return nil, nil
	}
	return f.Borrow()
}

// mapped returns what a task of the tree has mapped that has an inode, nil if none has.
func (w *waitingRoom) mapped(inode kmem.Addr) (*fd.FD, error) {
	number, err := w.memory.Pointer(inode + w.memory.Off("inode.i_ino"))
	if err != nil {
		return nil, err
	}
	for _, t := range w.env.Tree.Tasks {
		if t.Zombie {
			continue
		}
		all, err := t.Dir.Maps()
		if err != nil {
			return nil, fmt.Errorf("%v: %w", t, err)
		}
		for i := range all {
			if all[i].Inode != uint64(number) {
				continue
			}
			if own, err := w.mappedAt(t, &all[i], inode); own != nil || err != nil {
				return own, err
			}
		}
	}
	return nil, nil
}

// mappedAt returns what is mapped at a place, nil if it has another inode.
func (w *waitingRoom) mappedAt(t *scan.Task, v *proc.VMA, inode kmem.Addr) (*fd.FD, error) {
	n, err := t.Dir.Open(v.MapFile(), sys.O_PATH)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	own := fd.New(n)
	at, err := w.memory.File(n)
	if err == nil {
		at, err = w.memory.Pointer(at + w.memory.Off("file.f_inode"))
	}
	if err == nil && at == inode {
		return own, nil
	}
	return nil, errors.Join(err, own.Close())
}

// finish makes sure that stand-ins are whole.
func (w *waitingRoom) finish() error {
	if w.maker == nil {
		return nil
	}
	err := w.maker.Finish()
	if errors.Is(err, standin.ErrUnlike) {
		return w.waits.refuseWaiting(fmt.Errorf("%w: %w", errLonely, err))
	}
	return err
}
