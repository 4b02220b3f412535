package standin

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
)

// busyNames are how an epoll file polls its sockets (EPIOCSPARAMS), since Linux 6.9.
var busyNames = [...]string{"eventpoll.busy_poll_usecs", "eventpoll.busy_poll_budget", "eventpoll.prefer_busy_poll"}

const epollName = "epoll file"

// mostWatched is more than an epoll file of a message ever watches.
const mostWatched = 1 << 16

// epoll makes an epoll file that watches the same files.
func epoll(k *Maker, x *sockmem.Lone) (*fd.FD, error) {
	at, err := k.memory.Private(x.At)
	if err != nil {
		return nil, err
	}
	s, err := k.memory.Struct("eventpoll", at)
	if err != nil {
		return nil, err
	}
	for i, name := range busyNames {
		size := [...]int{4, 2, 1}[i]
		if k.memory.Has(name) && string(s.Raw(name, size)) != string(make([]byte, size)) {
			return nil, unlike("it is an epoll file that polls its sockets busily (EPIOCSPARAMS)")
		}
	}
	w := &watches{maker: k}
	defer w.close()
	if err := w.read(s); err != nil {
		return nil, err
	}
	n, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	own := fd.New(n)
	_, err = unix.FcntlInt(uintptr(n), unix.F_SETFL, int(x.Flags)&^unix.O_ACCMODE)
	if err == nil {
		err = fd.WatchAll(own, w.all)
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// watches is what an epoll file watches.
type watches struct {
	maker *Maker
	all   []fd.Watched
}

func (w *watches) close() {
	for _, m := range w.all {
		m.File.Close() //nolint:errcheck // it stays open elsewhere
	}
}

// read finds the files that a struct eventpoll watches.
func (w *watches) read(s *kmem.Struct) error {
	items, err := w.maker.items(s)
	if err != nil {
		return err
	}
	for _, i := range items {
		x := i.Watched
		if x.File, err = w.maker.Held(i.file); err != nil {
			return err
		}
		if x.File == nil {
			return unlike("it is an epoll file, and what it watches as descriptor %d no task of the tree has open", x.Number)
		}
		w.all = append(w.all, x)
	}
	return nil
}

// item is something that an epoll file watches.
type item struct {
	fd.Watched           // without the file
	file       kmem.Addr // where the kernel has that
}

// Nth is how many files an epoll file watches that were added by the same number as one,
// and come before that in the kernel's order, as kcmp(2) counts.
func (k *Maker) Nth(x sockmem.Watch, file kmem.Addr) (n uint32, err error) {
	at, err := k.memory.Private(x.By)
	if err != nil {
		return 0, err
	}
	s, err := k.memory.Struct("eventpoll", at)
	if err != nil {
		return 0, err
	}
	all, err := k.items(s)
	for _, i := range all {
		if i.file == file && i.Number == x.Number {
			return n, nil
		}
		if i.Number == x.Number {
			n++
		}
	}
	if err == nil {
		err = unlike("the kernel's memory of an epoll file that watches it has changed while it was read")
	}
	return 0, err
}

// items reads what a struct eventpoll watches, in the kernel's order.
func (k *Maker) items(s *kmem.Struct) ([]item, error) {
	all, err := k.memory.EpollItems(s, mostWatched)
	if errors.Is(err, kmem.ErrUnavailable) {
		return nil, unlike("%v", err)
	}
	out := make([]item, len(all))
	for i, x := range all {
		out[i] = item{file: x.File, Watched: fd.Watched{Number: x.Number, Events: x.Events, Data: x.Data}}
	}
	return out, err
}
