package sockmem

import (
	"cmp"
	"encoding/binary"
	"reflect"

	"glis.dev/glis/internal/kmem"
)

// Lock is a lock that belongs to an open file: of flock(2), of F_OFD_SETLK, or a lease.
type Lock struct {
	Kind       string // as /proc/PID/fdinfo has it: "FLOCK", "OFDLCK", "LEASE"
	Type       uint8  // F_RDLCK, F_WRLCK
	Start, End int64  // bytes, End inclusive; 1<<63-1 is the end of the file
}

// lockLists are the locks of a file, flock(2) and record locks, and its leases.
var lockLists = [...]string{"file_lock_context.flc_flock", "file_lock_context.flc_posix", leases}

const leases = "file_lock_context.flc_lease"

// lockNames are what a lock is told by: since Linux 6.9, and before.
var lockNames = [...][4]string{
	{"file_lock_core.flc_list", "file_lock_core.flc_file", "file_lock_core.flc_flags", "file_lock_core.flc_type"},
	{"file_lock.fl_list", "file_lock.fl_file", "file_lock.fl_flags", "file_lock.fl_type"},
}

// Flags of a lock, FL_* of include/linux/filelock.h.
const (
	isFlock    = 2
	isLease    = 32
	downgrades = 256 // of a lease: somebody waits for it
	unlocks    = 512 // likewise
	isOFD      = 1024
)

// sorts are those that can be told of. No others are of an open file.
var sorts = map[uint32]string{isFlock: "FLOCK", isLease: "LEASE", isOFD: "OFDLCK"}

// mostLocks is more than are looked at on one file, mostLooks how often it is looked at.
const (
	mostLocks = 1 << 16
	mostLooks = 100
)

// held is what locks tell of an open file.
type held struct {
	own           []Lock
	leased, bound bool
}

// locks reads the locks of an open file, and whether there is a lease on its inode: that
// would be broken by who opens the file. Others may lock the same one meanwhile, so it is
// looked at until it is twice the same.
func (m *Memory) locks(x *Lone) error {
	lists, err := m.follow(x.Inode, "inode.i_flctx")
	if err != nil || lists == 0 { // one that ever had any keeps its lists
		return err
	}
	var last *held
	for range mostLooks {
		var now *held
		if now, err = m.lookLocks(x, lists); err != nil {
			last = nil
			continue
		}
		if last != nil && reflect.DeepEqual(now, last) {
			x.Locks, x.Heard, x.Bound = now.own, now.leased, now.bound
			return nil
		}
		last = now
	}
	return cmp.Or(err, errGone)
}

func (m *Memory) lookLocks(x *Lone, lists kmem.Addr) (*held, error) {
	h := &held{}
	for _, name := range lockLists {
		list := lists + m.Off(name)
		at, err := m.Pointer(list)
		for n := 0; err == nil && at != list; n++ {
			was := at
			if err = m.lock(h, x, at, name == leases); err == nil {
				at, err = m.Pointer(at)
			}
			if at == was || n == mostLocks { // it was taken out
				return nil, errGone
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return h, nil
}

// lock reads a lock of a file, of which a list leads to at.
func (m *Memory) lock(h *held, x *Lone, at kmem.Addr, lease bool) error {
	h.leased = h.leased || lease
	names := m.lockNames()
	if names == nil {
		h.bound = true
		return nil
	}
	at -= m.Off(names[0])
	by, err := m.follow(at, names[1])
	if err != nil {
		return err
	}
	flags, err := m.u32(at, names[2])
	if err != nil {
		return err
	}
	if lease && flags&(downgrades|unlocks) != 0 { // nobody could open the file
		h.bound = true
	}
	if by != x.At {
		return m.sameInode(by, x)
	}
	kind, known := sorts[flags&(isFlock|isLease|isOFD)]
	if !known {
		h.bound = true
		return nil
	}
	l := Lock{Kind: kind, End: 1<<63 - 1}
	typ, err := m.bytes(at, names[3], 1)
	if err == nil && kind == "OFDLCK" {
		l.Start, l.End, err = m.lockRange(at)
	}
	if err != nil {
		return err
	}
	l.Type = typ[0]
	h.own = append(h.own, l)
	return nil
}

// sameInode fails if a lock is of another file by now.
func (m *Memory) sameInode(by kmem.Addr, x *Lone) error {
	if inode, err := m.follow(by, "file.f_inode"); err != nil || inode != x.Inode {
		return cmp.Or(err, errGone)
	}
	return nil
}

// lockNames returns what this kernel's locks are told by, nil if that isn't known.
func (m *Memory) lockNames() *[4]string {
	for i := range lockNames {
		known := true
		for _, n := range lockNames[i] {
			known = known && m.Has(n)
		}
		if known {
			return &lockNames[i]
		}
	}
	return nil
}

// lockRange returns the bytes that a record lock is of.
func (m *Memory) lockRange(at kmem.Addr) (start, end int64, err error) {
	for i, name := range [...]string{"file_lock.fl_start", "file_lock.fl_end"} {
		b, err := m.bytes(at, name, 8)
		if err != nil {
			return 0, 0, err
		}
		*[...]*int64{&start, &end}[i] = int64(binary.NativeEndian.Uint64(b))
	}
	return start, end, nil
}
