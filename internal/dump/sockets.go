package dump

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// manyDescriptors is from how many descriptors on it pays to have what stat(2)
// and fdinfo tell of sockets read from the kernel's memory: 5 ms to set up,
// before the freeze, and then 1 µs a socket instead of 25, frozen.
const manyDescriptors = 64

// sockets is the quick way to look at the sockets of a task.
type sockets struct {
	reader   *sockmem.TCPReader
	dev      uint64 // of all sockets
	watchers []kind.SocketSeer
}

// openSockets prepares the quick way to look at sockets, and kinds that have
// something to prepare, before the freeze.
func (d *dump) openSockets() {
	n, any, asked := d.descriptors()
	d.anySocket, d.descriptorsSeen = any, n
	var m *sockmem.TCPReader
	if n >= manyDescriptors {
		m = d.openMemory()
	}
	for _, k := range d.kinds.Files {
		if p, ok := k.(kind.Preparer); ok {
			p.PrepareFor(n, m)
		}
		if w, ok := k.(kind.SocketSeer); ok && m != nil {
			d.files.sockets.watchers = append(d.files.sockets.watchers, w)
		}
	}
	d.shareMemory(any || asked)
	d.openPlain(n)
}

// shareMemory lets kinds read the kernel's memory. It takes 4 ms to open, so
// that is done here if the tree has sockets, or other files that it is asked about.
func (d *dump) shareMemory(wanted bool) {
	names := mem.KernelNames()
	var users []kind.MemoryUser
	for _, k := range d.kinds.Files {
		if u, ok := k.(kind.MemoryUser); ok {
			users, names = append(users, u), append(names, u.KernelNames()...)
		}
	}
	d.memoryOf = kmem.Share(names...)
	for _, u := range users {
		u.UseMemory(d.memoryOf)
	}
	if !wanted {
		return
	}
	if _, err := d.memoryOf.Reader(); err != nil {
		d.log.Debug("the kernel's memory is not read", "why", err)
		return
	}
	d.files.memory = d.memoryOf
}

// openMemory opens the kernel's memory of sockets, nil if that can't be done.
func (d *dump) openMemory() *sockmem.TCPReader {
	s, err := newSockets()
	if err != nil {
		d.log.Debug("sockets are looked at one by one", "why", err)
		return nil
	}
	d.files.sockets = s
	return s.reader
}

// descriptors returns how many descriptors the tree has, about, and whether there may be
// sockets among them, or others that the kernel's memory is asked about. Before Linux 6.2 a
// directory of them doesn't tell how many.
func (d *dump) descriptors() (n int, sockets, asked bool) {
	askers := d.memoryAskers()
	pids, _, _ := look(proc.PID(d.opts.Tree))
	d.sawSocket = len(pids) >= thousandsOfTasks && slices.ContainsFunc(pids, func(pid proc.PID) bool {
		has, _ := hasSocket(fmt.Sprintf("/proc/%d/fd", pid), nil)
		return has
	})
	for _, pid := range pids {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		if st, err := os.Stat(dir); err == nil {
			n += int(st.Size())
		}
		if sockets = sockets || n >= manyDescriptors; !sockets {
			has, asks := hasSocket(dir, askers)
			sockets, asked = has, asked || asks
		}
	}
	return n, sockets, asked
}

// memoryAskers are the kinds that ask the kernel's memory about other files than sockets.
func (d *dump) memoryAskers() (all []kind.MemoryAsker) {
	for _, k := range d.kinds.Files {
		if a, ok := k.(kind.MemoryAsker); ok {
			all = append(all, a)
		}
	}
	return all
}

// hasSocket tells whether a directory of descriptors has a socket, or, unless it does,
// anything that one of these asks about.
func hasSocket(dir string, askers []kind.MemoryAsker) (sockets, asked bool) {
	all, err := os.ReadDir(dir)
	for _, e := range all {
		to, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue
		}
		if strings.HasPrefix(to, "socket:") {
			return true, asked
		}
		asked = asked || slices.ContainsFunc(askers, func(a kind.MemoryAsker) bool { return a.AsksMemory(to) })
	}
	return err != nil, asked
}

func newSockets() (*sockets, error) {
	n, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(n)
	var st unix.Stat_t
	if err := unix.Fstat(n, &st); err != nil {
		return nil, fmt.Errorf("fstat: %w", err)
	}
	r, err := sockmem.OpenTCP()
	if err != nil {
		return nil, err
	}
	return &sockets{reader: r, dev: st.Dev}, nil
}

// of returns what is known of a task's sockets, which has about n descriptors, in
// their order; nothing if it can't be known this way, or ended says that there is no
// more time. Kinds look at the same memory.
func (s *sockets) of(t *scan.Task, n int, ended func() error) []*scan.File {
	if s == nil {
		return nil
	}
	found, room := make([]*scan.File, 0, n), make([]scan.File, n)
	err := s.reader.Each(t.Pidfd.Int(), func(m sockmem.Socket) error {
		if !m.Locked { // whose it is only fdinfo tells
			if len(room) == 0 {
				room = make([]scan.File, 1)
			}
			s.describe(&room[0], t, &m)
			found, room = append(found, &room[0]), room[1:]
		}
		for _, w := range s.watchers {
			w.SeeSocket(t, m)
		}
		return ended()
	})
	if err != nil {
		return nil
	}
	return found
}

// describe is the function describe for a socket.
func (s *sockets) describe(f *scan.File, t *scan.Task, m *sockmem.Socket) {
	var room [64]byte
	link := append(strconv.AppendUint(append(room[:0], "socket:["...), m.Ino, 10), ']')
	*f = scan.File{Task: t, FD: m.FD, Link: string(link), Flags: m.Flags, Family: int32(m.Family)}
	f.Stat = scan.Stat{Dev: s.dev, Ino: m.Ino, Mode: uint32(m.Mode), UID: m.UID, GID: m.GID, Nlink: 1}
}

// fileOf returns the file of a descriptor among those of a task, which are in order,
// nil if it isn't there.
func fileOf(all []*scan.File, fd int32) *scan.File {
	i, ok := slices.BinarySearchFunc(all, fd, func(f *scan.File, fd int32) int { return cmp.Compare(f.FD, fd) })
	if !ok {
		return nil
	}
	return all[i]
}

func (s *sockets) close() error {
	if s == nil {
		return nil
	}
	return s.reader.Close()
}

// closeKinds closes what kinds have kept open.
func (d *dump) closeKinds() {
	for _, k := range d.kinds.Files {
		if c, ok := k.(kind.Closer); ok {
			c.Close() //nolint:errcheck // the engine's own
		}
	}
	d.memoryOf.Close() //nolint:errcheck // the engine's own
}
