package unix

import (
	"cmp"
	"encoding/binary"
	"slices"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// many is from how many sockets on it pays to learn to recognize those that
// have nothing but defaults: that takes some 10 ms, and then saves the reading
// of options, some 10 µs, for nearly every socket.
const many = 1500

// defaults tells of a socket what need not be read.
type defaults struct {
	fd             int32
	seen           bool // in the kernel's memory
	options, owner bool
	buffers        uint32    // in its queue, also empty ones
	peer           [2]uint64 // the same for sockets that tell of the same peer
	number         uint32    // of who that is
	known          bool      // the number is
}

// survey looks, once, at all sockets of a tree that has many.
type survey struct {
	from  int // how many sockets are many
	done  bool
	quick *socket.Untouched         // prepared before the freeze; may be nil
	found map[*scan.Task][]defaults // in the order of descriptors
	peers map[[2]uint64]uint32      // numbers of identities
}

// closeQuick closes what was prepared.
func (s *survey) closeQuick() error {
	if s.quick == nil {
		return nil
	}
	u := s.quick
	s.quick = nil
	return u.Close()
}

func (s *survey) of(f *scan.File) defaults {
	all := s.found[f.Task]
	i, ok := slices.BinarySearchFunc(all, f.FD, func(d defaults, fd int32) int { return cmp.Compare(d.fd, fd) })
	if !ok {
		return defaults{}
	}
	d := all[i]
	d.seen = true
	d.number, d.known = s.peers[d.peer]
	return d
}

// queued returns how many messages are queued at a socket, empty ones among
// them, from the kernel's memory: nothing else tells it of a socket whose
// peer is closed. Errors may be kmem.ErrUnavailable.
func (k *Kind) queued(l *look) (int, error) {
	m, err := k.memory()
	if err != nil {
		return 0, err
	}
	at, err := m.Sock(l.fd.Int())
	if err != nil {
		return 0, err
	}
	var b [4]byte
	err = m.ReadAt(b[:], at+m.Off("sock.sk_receive_queue")+m.Off("sk_buff_head.qlen"))
	return int(binary.NativeEndian.Uint32(b[:])), err
}

// PrepareFor implements kind.Preparer.
func (k *Kind) PrepareFor(descriptors int, m *sockmem.TCPReader) {
	k.glance.reader = m
	if descriptors >= k.seen.from && k.learn() == nil {
		k.seen.quick, _ = socket.LearnUntouched(k.kernel) // it is tried again, and told of, later
	}
}

// SeeSocket implements kind.SocketSeer: where it is known how to look it is the
// survey of a task.
func (k *Kind) SeeSocket(t *scan.Task, m sockmem.Socket) {
	if k.seen.quick == nil || m.Family != sys.AF_UNIX {
		return
	}
	options, owner, ok := k.seen.quick.Sees(&m)
	if !ok {
		return
	}
	if k.seen.found == nil {
		k.seen.found = map[*scan.Task][]defaults{}
	}
	d := defaults{fd: m.FD, options: !options, owner: !owner, peer: m.Peer, buffers: m.Queued}
	k.seen.found[t] = append(k.seen.found[t], d)
}

// survey fills in k.seen. It is only there to save time: if it can't be done,
// everything is read.
func (k *Kind) survey(env *kind.DumpEnv) error {
	if k.seen.done {
		return nil
	}
	k.seen.done = true
	tasks, n := map[*scan.Task]bool{}, 0
	for _, f := range env.Tree.Files {
		if f.Stat.Mode&sys.S_IFMT == sys.S_IFSOCK && f.FD >= 0 {
			tasks[f.Task] = true
			n++
		}
	}
	k.seen.peers = map[[2]uint64]uint32{}
	if n < k.seen.from {
		return k.seen.closeQuick()
	}
	if err := k.learn(); err != nil {
		return err
	}
	u := k.seen.quick
	if u == nil {
		var err error
		if u, err = socket.LearnUntouched(k.kernel); err != nil {
			env.Log.Debug("options of sockets are read one by one", "why", err)
			return nil
		}
	}
	k.seen.quick = nil
	defer u.Close()
	if k.seen.found == nil {
		k.seen.found = map[*scan.Task][]defaults{}
	}
	for t := range tasks {
		if k.seen.found[t] != nil { // SeeSocket was told of it
			continue
		}
		var found []defaults
		err := u.Look(t.Pidfd.Int(), func(fd int32, options, owner bool, peer [2]uint64, queued uint32) error {
			found = append(found, defaults{fd: fd, options: !options, owner: !owner, peer: peer, buffers: queued})
			return env.Check()
		})
		if late := env.Check(); late != nil {
			return late
		}
		if err != nil {
			env.Log.Debug("options of sockets are read one by one", "task", t.PID, "why", err)
			continue
		}
		k.seen.found[t] = found
	}
	return nil
}
