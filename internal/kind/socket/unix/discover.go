package unix

import (
	"errors"
	"fmt"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/standin"
)

// waitingRoom reads connections that wait.
type waitingRoom struct {
	kind    *Kind
	env     *kind.DumpEnv
	memory  *sockmem.Memory
	files   map[kmem.Addr]*scan.File // by where the kernel has them
	pending []*pending
	queued  []*look                  // sockets that only messages have, which have queues
	maker   *standin.Maker           // of files that nobody can have; nil: none was needed
	options *socket.Untouched        // likewise, of sockets
	inodes  map[kmem.Addr]*scan.File // of the tree
	waits   *look                    // where the last one waits that a stand-in was made of
	stands  []stand
	epolls  map[kmem.Addr]*look // epoll files that stand-ins are to be made of, and where they wait
	late    bool                // now
}

// pending is a connection that waits at a listener.
type pending struct {
	sockmem.Waiting
	at   *look
	seen bool // what comes along is known
}

// close closes what was needed.
func (w *waitingRoom) close() error {
	err := w.maker.Close()
	if w.options != nil {
		err = errors.Join(err, w.options.Close())
	}
	return err
}

// readAll reads what waits at listeners, and at those that are in it. First all that
// comes along is made known: clients may be among it.
func (w *waitingRoom) readAll(all []*look) error {
	for _, l := range all {
		if err := w.open(l); err != nil {
			return err
		}
	}
	for again := true; again; {
		again = false
		for i := 0; i < len(w.pending); i++ {
			p := w.pending[i]
			if p.seen || w.env.Options.SkipInFlight && p.Client != 0 && w.kind.picture.files[uint32(p.Client)] == nil {
				continue // it may be left out
			}
			p.seen, again = true, true
			if err := w.discover(p.at, p.Buffers); err != nil {
				return err
			}
		}
	}
	if err := w.standInEpolls(); err != nil {
		return err
	}
	if err := w.findWatching(); err != nil {
		return err
	}
	for _, p := range w.pending {
		if err := w.take(p); err != nil {
			return err
		}
	}
	return w.putUnheld()
}

// open reads what waits at one listener.
func (w *waitingRoom) open(l *look) error {
	at, err := w.place(l)
	if err != nil {
		return err
	}
	all, err := w.memory.Waiting(at)
	if err != nil {
		return l.fail(fmt.Errorf("read the connections that wait to be accepted: %w", err))
	}
	for i := range all {
		w.pending = append(w.pending, &pending{Waiting: all[i], at: l})
	}
	return nil
}

// place returns where the kernel has the open file of a socket.
func (w *waitingRoom) place(l *look) (kmem.Addr, error) {
	if l.unheld != nil {
		return l.unheld.file, nil
	}
	own, err := l.file.Borrow()
	if err != nil {
		return 0, err
	}
	defer own.Close()
	return w.memory.File(own.Int())
}

// discover makes known what comes along with messages.
func (w *waitingRoom) discover(l *look, all []sockmem.Buffer) error {
	for i := range all {
		for _, at := range all[i].Files {
			f, err := w.fileAt(at)
			if err == nil && f == nil {
				_, err = w.standIn(l, at)
			}
			if isReason(err) {
				return l.refuseWaiting(err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// take notes a connection.
func (w *waitingRoom) take(p *pending) error {
	k := w.kind
	a, err := w.arrived(p.at, &p.Waiting)
	if err != nil || a == nil {
		return err
	}
	k.arrived[p.at.u.Ino] = append(k.arrived[p.at.u.Ino], a)
	if a.client != nil {
		k.picture.waiting[uint32(p.Client)] = p.at.u.Ino
	}
	return nil
}

// fileAt returns the file of the tree that the kernel has at an address, or
// nil.
func (w *waitingRoom) fileAt(at kmem.Addr) (*scan.File, error) {
	if w.files == nil {
		w.files = map[kmem.Addr]*scan.File{}
		for _, t := range w.env.Tree.Tasks {
			if err := w.learn(t); err != nil {
				return nil, err
			}
		}
		own, err := ownFiles(w.memory)
		if err != nil {
			return nil, err
		}
		for _, f := range w.env.Tree.Files {
			if f.Within != nil {
				w.files[own[f.FD]] = f
			}
		}
	}
	return w.files[at], nil
}

// learn finds out where the kernel has a task's files.
func (w *waitingRoom) learn(t *scan.Task) error {
	if t.Zombie {
		return nil
	}
	files, err := w.memory.Files(t.Pidfd.Int())
	if err != nil {
		return fmt.Errorf("%v: %w", t, err)
	}
	for n, at := range files {
		if f := t.Find(n); f != nil {
			w.files[at] = f
		}
	}
	return nil
}
