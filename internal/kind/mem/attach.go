package mem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	ipcshm "glis.dev/glis/image/criu/ipc-shm"
	"glis.dev/glis/image/protowire"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/remote"
)

// Attachable is the System V shared memory that a tree to be restored has
// attached.
type Attachable struct {
	list []*wanted
	byID map[uint32]*wanted
}

// wanted is one segment, and whether it is still there.
type wanted struct {
	e                *ipcshm.IpcShmEntry
	changed, creator uint64 // see segment.entry; 0 in images of criu
	there            bool
	huge             uint64 // the size of its huge pages; 0: of usual ones
}

func (w *wanted) id() uint32 { return w.e.GetDesc().GetId() }

func (w *wanted) String() string {
	return fmt.Sprintf("System V shared memory %d (key %#x)", w.id(), w.e.GetDesc().GetKey())
}

// PlanSegments reads what images say of the segments that the spaces have
// attached; ns is the number of their IPC namespace. It makes no system call.
func PlanSegments(src plan.Source, ns uint32, spaces []*Space) (*Attachable, error) {
	out := &Attachable{byID: map[uint32]*wanted{}}
	if !anyAttached(spaces) {
		return out, nil
	}
	all, err := src.Entries(image.IPCShm, ns)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		if err := out.add(e.Message.(*ipcshm.IpcShmEntry)); err != nil {
			return nil, fmt.Errorf("%s: %w", image.IPCShm.FileName(ns), err)
		}
	}
	for _, s := range spaces {
		fold := s.unfold()
		err := s.eachRow(out.size, nil)
		if fold(); err != nil {
			return nil, fmt.Errorf("%s: %w", image.MM.FileName(s.PID), err)
		}
		s.segments = out
	}
	return out, nil
}

func anyAttached(spaces []*Space) bool {
	return slices.ContainsFunc(spaces, func(s *Space) bool {
		defer s.unfold()()
		return slices.ContainsFunc(s.areas, func(a area) bool { return a.is(statusSysVIPC) })
	})
}

func (t *Attachable) size(id uint32) (uint64, bool) {
	w := t.byID[id]
	return roundUp(w.size(), w.hugeSize()), w != nil
}

func (w *wanted) size() uint64 {
	if w == nil {
		return 0
	}
	return w.e.GetSize()
}

func (w *wanted) hugeSize() uint64 {
	if w == nil {
		return 0
	}
	return w.huge
}

// mostSegment is the largest segment that a task could attach, in bytes.
const mostSegment = 1 << 47

func (t *Attachable) add(e *ipcshm.IpcShmEntry) error {
	w := &wanted{e: e}
	d := e.GetDesc()
	switch {
	case t.byID[d.GetId()] != nil:
		return fmt.Errorf("%v is there twice", w)
	case d.GetId() > 1<<31-1 || e.GetSize() == 0 || e.GetSize() > mostSegment:
		return fmt.Errorf("%v of %d bytes can't be", w, e.GetSize())
	case e.HugetlbFlag != nil && (e.GetHugetlbFlag()&^hugepages.Mask != linux.SHM_HUGETLB || hugepages.Size(e.GetHugetlbFlag()) == 0):
		return fmt.Errorf("%v: huge pages of no size that can be (flags %#x)", w, e.GetHugetlbFlag())
	case d.GetMode()&^(0o777|linux.SHM_DEST|linux.SHM_LOCKED) != 0:
		return fmt.Errorf("%v: mode %#o", w, d.GetMode())
	case !e.GetInPagemaps():
		return kind.Unsupported(w, "its contents are in a form of criu before 3.9")
	}
	w.huge = hugepages.Size(e.GetHugetlbFlag())
	err := eachField(e.Unknown(), func(n protowire.Number, v uint64, _ []byte) error {
		switch n {
		case shmChanged:
			w.changed = v
		case shmCreator:
			w.creator = v
		}
		return nil
	})
	t.list, t.byID[w.id()] = append(t.list, w), w
	return err
}

// Check finds out what is still there, and refuses what others have taken. It
// counts what the rest needs of huge pages.
func (t *Attachable) Check(huge *hugepages.Wanted) error {
	for _, w := range t.list {
		if err := w.look(); err != nil {
			return err
		}
		if !w.there {
			huge.Add(w.huge, w.size())
		}
	}
	return nil
}

func (w *wanted) look() error {
	var ds unix.SysvShmDesc
	d := w.e.GetDesc()
	_, err := unix.SysvShmCtl(int(w.id()), unix.IPC_STAT, &ds)
	if err == nil {
		w.there = uint64(ds.Ctime) == w.changed && uint64(ds.Cpid) == w.creator && uint32(ds.Perm.Key) == d.GetKey() && ds.Segsz == w.e.GetSize()
		switch {
		case !w.there:
			return fmt.Errorf("%v can't come back: another one has that id by now; remove it (ipcrm -m %d) if nobody needs it", w, w.id())
		case ds.Nattch != 0:
			return fmt.Errorf("%v can't come back: %d mappings of other processes use it; end them", w, ds.Nattch)
		}
		return nil
	}
	if err != unix.EINVAL && err != unix.EIDRM {
		return fmt.Errorf("%v: shmctl: %w", w, err)
	}
	if d.GetKey() == unix.IPC_PRIVATE || d.GetMode()&linux.SHM_DEST != 0 {
		return nil
	}
	switch other, err := unix.SysvShmGet(int(int32(d.GetKey())), 0, 0); {
	case err == nil:
		return fmt.Errorf("%v can't come back: another one has that key by now; remove it (ipcrm -m %d) if nobody needs it", w, other)
	case !errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%v: is there another one with its key? shmget: %w", w, err)
	}
	return nil
}

// Keeper is told, before it is there, of a segment that is to go if the engine
// dies, and pushes what takes it back if the restore fails.
type Keeper struct {
	Known func(id uint32) error
	Undo  func(what string, f func() error)
}

// Make makes the segments that are gone, and gives all their contents.
func (t *Attachable) Make(ctx context.Context, store image.Store, k Keeper) error {
	for _, w := range t.list {
		if !w.there {
			if err := w.create(k); err != nil {
				return fmt.Errorf("%v: %w", w, err)
			}
		}
		if err := w.fill(ctx, store); err != nil {
			return fmt.Errorf("%v: %w", w, err)
		}
	}
	return nil
}

func (w *wanted) create(k Keeper) error {
	d := w.e.GetDesc()
	if err := k.Known(w.id()); err != nil {
		return err
	}
	if err := os.WriteFile(linux.ShmNextID, []byte(strconv.Itoa(int(w.id()))), 0); err != nil {
		return fmt.Errorf("choose its id: %w (CONFIG_CHECKPOINT_RESTORE, CAP_CHECKPOINT_RESTORE)", err)
	}
	key := int(int32(d.GetKey()))
	got, err := createdBy(d.GetCuid(), d.GetCgid(), func() (int, error) {
		return unix.SysvShmGet(key, int(w.e.GetSize()), unix.IPC_CREAT|unix.IPC_EXCL|int(d.GetMode()&0o777|w.e.GetHugetlbFlag()))
	})
	if err != nil {
		return fmt.Errorf("shmget: %w", err)
	}
	remove := func() error {
		if _, err := unix.SysvShmCtl(got, unix.IPC_RMID, nil); err != unix.EINVAL && err != unix.EIDRM {
			return err
		}
		return nil
	}
	if got != int(w.id()) {
		return errors.Join(fmt.Errorf("its id was taken in the same moment, it would be %d; try again", got), remove())
	}
	k.Undo(w.String(), remove)
	ds := unix.SysvShmDesc{Perm: unix.SysvIpcPerm{Uid: d.GetUid(), Gid: d.GetGid()}}
	ds.Perm.Mode = d.GetMode()
	if _, err := unix.SysvShmCtl(got, unix.IPC_SET, &ds); err != nil {
		return fmt.Errorf("give it its owner: %w", err)
	}
	if d.GetMode()&linux.SHM_LOCKED != 0 {
		if _, err := unix.SysvShmCtl(got, linux.SHM_LOCK, nil); err != nil {
			return fmt.Errorf("lock it: %w", err)
		}
	}
	return nil
}

// createdBy calls f as a user and group: they stay those of the creator of a
// segment.
func createdBy(uid, gid uint32, f func() (int, error)) (got int, err error) {
	if uid == uint32(os.Geteuid()) && gid == uint32(os.Getegid()) {
		return f()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with its ids
		const same = ^uintptr(0)
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, same, uintptr(gid), same); e != 0 {
			err = fmt.Errorf("become group %d: %w", gid, e)
			return
		}
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); e != 0 {
			err = fmt.Errorf("become user %d: %w", uid, e)
			return
		}
		got, err = f()
	}()
	<-done
	// Changed ids make a process undumpable, which has nothing to do with us.
	return got, errors.Join(err, unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0))
}

// fill writes the contents of a segment, all of them: it may still hold what
// it held later than the dump.
func (w *wanted) fill(ctx context.Context, store image.Store) (err error) {
	mem, err := unix.SysvShmAttach(int(w.id()), 0, 0)
	if err != nil {
		return fmt.Errorf("attach it: %w", err)
	}
	defer func() { err = errors.Join(err, unix.SysvShmDetach(mem)) }()
	if w.there && unix.Madvise(mem, unix.MADV_REMOVE) != nil {
		clear(mem)
	}
	return pages.FillFile(ctx, store, uint64(w.id()), w.e.GetSize(), pages.Memory(mem))
}

// Seal has the segments that were to go with their last attachment go with it
// again. All attachments must have been made.
func (t *Attachable) Seal() error {
	for _, w := range t.list {
		if w.e.GetDesc().GetMode()&linux.SHM_DEST == 0 {
			continue
		}
		if _, err := unix.SysvShmCtl(int(w.id()), unix.IPC_RMID, nil); err != nil {
			return fmt.Errorf("%v: mark it to go: %w", w, err)
		}
	}
	return nil
}

// attachAll queues what attaches all segments that the task did not inherit.
func (s *Space) attachAll(b *remote.Batch) error {
	if s.segments == nil {
		return nil
	}
	return s.eachRow(s.segments.size, func(row []area) error {
		if row[0].from != nil {
			return nil
		}
		how, prot := uint64(0), uint32(unix.PROT_READ|unix.PROT_WRITE)
		if row[0].access == unix.O_RDONLY {
			how, prot = linux.SHM_RDONLY, unix.PROT_READ
		}
		b.Call("shmat", unix.SYS_SHMAT, uint64(row[0].segment), row[0].Start, how)
		for i := range row {
			row[i].now, row[i].advised = prot, 0
			row[i].advise(b, false)
		}
		return nil
	})
}

// keepRowsWhole sees to it that an attachment is inherited as a whole or not at
// all.
func (s *Space) keepRowsWhole() {
	if s.segments == nil {
		return
	}
	// Plan has looked at the rows.
	_ = s.eachRow(s.segments.size, func(row []area) error {
		for i := range row {
			if row[i].from == nil || row[i].from.access != row[i].access {
				for j := range row {
					row[j].from = nil
				}
				return nil
			}
		}
		return nil
	})
}
