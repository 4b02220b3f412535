// Package standin makes files that are like others which nobody can get: those that are
// only in messages which nobody can receive, at connections that nobody has accepted.
// The kernel's memory tells what they are; what was made is compared with it there.
package standin

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
)

// ErrUnlike says that no file like one can be made, and why.
var ErrUnlike = errors.New("no other one like it can be made")

// unlike says why there is none.
func unlike(why string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnlike, fmt.Sprintf(why, args...))
}

// Maker makes stand-ins. It is not for use by several goroutines at once.
type Maker struct {
	memory *sockmem.Memory
	anon   kmem.Addr               // inode of all files that have none of their own
	kinds  map[kmem.Addr]*kindOf   // by what makes a file the kind that it is
	same   map[kmem.Addr]*original // what stand-ins were made of, by inode
	// Held returns a file of the tree that the kernel has at an address; nil, if that
	// is none. Who asked closes it.
	Held func(kmem.Addr) (*fd.FD, error)
	// Of returns a file of the tree that has an inode, likewise.
	Of func(kmem.Addr) (*fd.FD, error)
	// Mapped returns a file that is mapped in the tree and has an inode (O_PATH), likewise.
	Mapped   func(kmem.Addr) (*fd.FD, error)
	unlearnt error // of kinds that there is no example of
}

// original is what stand-ins of one inode are opened by.
type original struct {
	file *fd.FD
	made bool  // so it has another inode
	pipe *pipe // if it is one that was made
}

// kindOf is a kind of files without a path.
type kindOf struct {
	name    string
	needs   []string // of the kernel's structures
	example func() (int, error)
	make    func(*Maker, *sockmem.Lone) (*fd.FD, error)
	fresh   bool // it has an inode of its own
}

func kinds() []kindOf {
	return []kindOf{
		{name: "eventfd", example: func() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) }, make: counter},
		{name: "signalfd", needs: signalNames(), example: func() (int, error) { return unix.Signalfd(-1, &unix.Sigset_t{}, unix.SFD_CLOEXEC) }, make: signals},
		{name: "pipe", needs: pipeNames(), example: examplePipe, make: pipeEnd, fresh: true},
		{name: "memfd", needs: memfdNames(), example: func() (int, error) { return unix.MemfdCreate("glis", unix.MFD_CLOEXEC) }, make: memfdLike, fresh: true},
		{name: "timerfd", needs: timerNames(), example: func() (int, error) { return unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC) }, make: timer},
		{name: "pidfd", needs: []string{"inode.i_private"}, example: func() (int, error) { return unix.PidfdOpen(os.Getpid(), 0) }, make: process, fresh: true},
		{name: epollName, needs: kmem.EpollNames(), example: func() (int, error) { return unix.EpollCreate1(unix.EPOLL_CLOEXEC) }, make: epoll},
		{name: "inotify file", needs: inotifyNames(), example: func() (int, error) { return unix.InotifyInit1(unix.IN_CLOEXEC) }, make: inotify},
		{name: "fanotify file", needs: fanotifyNames(), example: func() (int, error) { return unix.FanotifyInit(unix.FAN_CLOEXEC, unix.O_RDONLY) }, make: fanotify},
	}
}

// Names are the members of the kernel's structures that are needed, for
// sockmem.OpenMemory.
func Names() (all []string) {
	for _, k := range kinds() {
		for _, n := range k.needs {
			all = append(all, "?"+n)
		}
	}
	for _, n := range slices.Concat(queueNames(), busyNames[:], terminalNames(), []string{ptyLockName}) {
		all = append(all, "?"+n)
	}
	return all
}

// New returns a Maker. The memory must have been opened with Names.
func New(m *sockmem.Memory) (*Maker, error) {
	k := &Maker{memory: m, kinds: map[kmem.Addr]*kindOf{}, same: map[kmem.Addr]*original{}}
	if !m.TellsLone() {
		return k, nil
	}
	for _, x := range kinds() {
		if err := k.learn(&x); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// learn finds out what makes a file one of a kind.
func (k *Maker) learn(x *kindOf) error {
	for _, n := range x.needs {
		if !k.memory.Has(n) {
			return nil
		}
	}
	n, err := x.example()
	if err != nil {
		// It may be missing, not allowed, or there are too many of them already.
		k.unlearnt = errors.Join(k.unlearnt, fmt.Errorf("make one %s to learn from: %w", x.name, err))
		return nil
	}
	own := fd.New(n)
	defer own.Close()
	is, err := k.look(own)
	if err != nil {
		return err
	}
	if !x.fresh {
		k.anon = is.Inode
	}
	k.kinds[is.Ops] = x
	return nil
}

func (k *Maker) look(own *fd.FD) (*sockmem.Lone, error) {
	at, err := k.memory.File(own.Int())
	if err != nil {
		return nil, err
	}
	return k.memory.Lone(at)
}

// Known tells of a file that the engine can have, and which stand-ins of the same inode
// are opened by. Maker closes it.
func (k *Maker) Known(inode kmem.Addr, own *fd.FD) { k.same[inode] = &original{file: own} }

// Knows tells whether stand-ins of an inode were made, or it was told of one.
func (k *Maker) Knows(inode kmem.Addr) bool { return k.same[inode] != nil }

// IsEpoll tells whether a file is an epoll file.
func (k *Maker) IsEpoll(x *sockmem.Lone) bool {
	kind := k.kinds[x.Ops]
	return kind != nil && kind.name == epollName
}

// Make makes a file like one. What can't be made is ErrUnlike.
func (k *Maker) Make(x *sockmem.Lone) (*fd.FD, error) {
	if x.Flags&unix.O_PATH == 0 && x.Bound {
		return nil, unlike("a lock is on it of a sort that can't be told, or somebody waits for a lease on it")
	}
	if x.Flags&unix.O_PATH == 0 && x.Heard {
		return k.aside(x)
	}
	own, err := k.make(x)
	if err != nil {
		return nil, err
	}
	is, err := k.look(own)
	if err == nil {
		err = k.compare(is, x)
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

func (k *Maker) make(x *sockmem.Lone) (*fd.FD, error) {
	kind := k.kinds[x.Ops]
	queue, err := k.isQueue(x)
	if err != nil {
		return nil, err
	}
	switch o := k.same[x.Inode]; {
	case queue:
		return k.queue(x)
	case o != nil && !o.made && x.Inode != k.anon && x.Flags&unix.O_PATH != 0 && x.Flags&unix.O_NOFOLLOW == 0:
		return o.pathOnly()
	case o != nil && x.Inode != k.anon && x.Flags&unix.O_PATH == 0:
		return o.again(x)
	case x.Path != "" || x.Flags&unix.O_PATH != 0:
		return k.byPath(x)
	case kind != nil:
		return kind.make(k, x)
	}
	if k.unlearnt != nil {
		return nil, unlike("it is of a kind of which only itself tells all, or of which none can be made: %v", k.unlearnt)
	}
	return nil, unlike("it is of a kind of which only itself tells all")
}

// alike is the flag that open(2) always gives on 64 bits, and pipe(2) never
// (O_LARGEFILE of include/uapi/asm-generic/fcntl.h): an end that is opened again has it.
const alike = 0o100000

// compare makes sure that a file that was made is what it is to stand for.
func (k *Maker) compare(is, x *sockmem.Lone) error {
	o := k.same[x.Inode]
	switch {
	case is.Ops != x.Ops || (is.Flags^x.Flags)&^alike != 0 || is.Mode != x.Mode || is.UID != x.UID || is.GID != x.GID:
		return unlike("another one has flags %#x, not %#x, mode %o, not %o, or another owner", is.Flags, x.Flags, is.Mode, x.Mode)
	case (o == nil || !o.made) && is.Inode != x.Inode:
		return unlike("its path leads to another file by now")
	case is.Pos != x.Pos:
		return unlike("another one can't be put at its position, %d", x.Pos)
	}
	return nil
}

// Finish closes what stand-ins were opened by, once all are, and makes sure that none
// has an end that nobody has.
func (k *Maker) Finish() error {
	var errs []error
	for _, o := range k.same {
		if o.pipe != nil {
			errs = append(errs, o.pipe.complete())
		}
	}
	return errors.Join(append(errs, k.Close())...)
}

// Close closes what stand-ins were opened by. There may be no Maker.
func (k *Maker) Close() error {
	if k == nil {
		return nil
	}
	var errs []error
	for inode, o := range k.same {
		errs = append(errs, o.file.Close())
		if o.pipe != nil {
			errs = append(errs, o.pipe.writer.Close())
		}
		delete(k.same, inode)
	}
	return errors.Join(errs...)
}

// pathOnly opens a file once more as with O_PATH.
func (o *original) pathOnly() (*fd.FD, error) {
	n, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", o.file.Int()), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, unlike("it can't be opened again (%v)", err)
	}
	return fd.New(n), nil
}

// opening are flags of open(2) that F_GETFL tells and that mean nothing, or something
// else, when a file is opened again.
const opening = unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC

// again opens a file once more as x is open.
func (o *original) again(x *sockmem.Lone) (*fd.FD, error) {
	if o.pipe != nil {
		o.pipe.count(x)
		if own, err := o.pipe.first(o, x); own != nil || err != nil {
			return own, err
		}
	}
	// A FIFO is not waited for.
	flags := int(x.Flags)&^opening | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK
	n, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", o.file.Int()), flags, 0)
	if err != nil {
		return nil, unlike("it can't be opened again (%v)", err)
	}
	own := fd.New(n)
	if x.Flags&unix.O_NONBLOCK == 0 {
		err = unix.SetNonblock(n, false)
	}
	if err == nil && x.Pos != 0 {
		_, err = unix.Seek(n, x.Pos, unix.SEEK_SET)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a file again as it is in a message: %w", err), own.Close())
	}
	return own, nil
}
