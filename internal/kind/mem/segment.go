package mem

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	ipcdesc "glis.dev/glis/image/criu/ipc-desc"
	ipcshm "glis.dev/glis/image/criu/ipc-shm"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/hugepages"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// System V shared memory (shmget(2)) belongs to the IPC namespace, not to a
// task: a segment stays when all that had it attached are gone. It is the
// tree's if nobody else has it attached.

// segment is one that tasks of a frozen tree have attached.
type segment struct {
	id   uint32
	ds   unix.SysvShmDesc
	vmas uint64 // how many mappings of the tree it is in
	huge uint64 // the size of its huge pages; 0: of usual ones
	task *scan.Task
	path string // that leads to its contents
}

func (g *segment) String() string {
	return fmt.Sprintf("System V shared memory %d (key %#x)", g.id, uint32(g.ds.Perm.Key))
}

// isSegment tells whether a mapping is of System V shared memory.
func isSegment(v *proc.VMA) (bool, error) {
	if !v.Shared || !strings.HasPrefix(v.Name, "/SYSV") || !v.Deleted {
		return false, nil
	}
	dev := unix.Mkdev(v.DevMajor, v.DevMinor)
	if v.Flags.Has(proc.VmHugeTLB) {
		return hugepages.OfDevice(dev) != 0, nil
	}
	own, err := shmemDevice()
	return dev == own, err
}

// attach describes a mapping of a segment. Its inode number is the id.
func (a *area) attach(v *proc.VMA) {
	a.status, a.flags = statusRegular|statusAnonShared|statusSysVIPC, a.flags|unix.MAP_ANONYMOUS
	a.segment, a.access = uint32(v.Inode), unix.O_RDONLY
	if v.Flags.Has(proc.VmMayWrite) {
		a.access = unix.O_RDWR
	}
}

// Segments puts down the segments that the spaces have attached, in the image
// of the IPC namespace that has this number.
func Segments(env *kind.DumpEnv, spaces []*Space, ns uint32) error {
	all, err := segments(spaces)
	if err != nil {
		return err
	}
	for _, g := range all {
		if err := g.check(); err != nil {
			return err
		}
		if err := env.Images.Put(image.IPCShm, g.entry(), nil, ns); err != nil {
			return err
		}
	}
	return nil
}

// segments returns all segments that are attached, by id.
func segments(spaces []*Space) ([]*segment, error) {
	byID := map[uint32]*segment{}
	for _, s := range spaces {
		for i := range s.areas {
			a := &s.areas[i]
			if !a.is(statusSysVIPC) {
				continue
			}
			g := byID[a.segment]
			if g == nil {
				g = &segment{id: a.segment, task: s.task, path: fmt.Sprintf("map_files/%x-%x", a.Start, a.End)}
				if _, err := unix.SysvShmCtl(int(g.id), unix.IPC_STAT, &g.ds); err != nil {
					return nil, kind.Unsupported(fmt.Sprintf("%v, %v", s.task, a), "it is System V shared memory %d of another IPC namespace (shmctl: %v); detach it (shmdt)", g.id, err)
				}
				if byID[g.id] = g; a.huge() {
					g.huge = a.unit()
				}
			}
			g.vmas++
		}
	}
	out := make([]*segment, 0, len(byID))
	for _, g := range byID {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *segment) int { return compareUint(uint64(a.id), uint64(b.id)) })
	for _, s := range spaces {
		if err := s.eachRow(func(id uint32) (uint64, bool) { g := byID[id]; return roundUp(g.ds.Segsz, g.huge), g != nil }, nil); err != nil {
			return nil, kind.Unsupported(s.task, "%v; detach it (shmdt)", err)
		}
	}
	return out, nil
}

// check refuses what is not the tree's alone.
func (g *segment) check() error {
	if g.ds.Nattch != g.vmas {
		return kind.Unsupported(fmt.Sprintf("%v, %v", g.task, g), "processes outside of the tree have it attached, too (%d mappings, %d of them the tree's); dump them together, or detach it (shmdt)", g.ds.Nattch, g.vmas)
	}
	return nil
}

// entry is what the image says. When and by whom it was made tells a restore
// whether a segment that is there is this one.
func (g *segment) entry() *ipcshm.IpcShmEntry {
	p := &g.ds.Perm
	e := &ipcshm.IpcShmEntry{
		Desc: &ipcdesc.IpcDescEntry{
			Key: proto.Uint32(uint32(p.Key)), Uid: proto.Uint32(p.Uid), Gid: proto.Uint32(p.Gid), Cuid: proto.Uint32(p.Cuid), Cgid: proto.Uint32(p.Cgid),
			Mode: proto.Uint32(uint32(p.Mode)), Id: proto.Uint32(g.id),
		},
		Size: proto.Uint64(g.ds.Segsz), InPagemaps: proto.Bool(true),
	}
	if g.huge != 0 {
		e.HugetlbFlag = proto.Uint32(linux.SHM_HUGETLB | hugepages.Flag(g.huge))
	}
	putVarint(e, shmChanged, uint64(g.ds.Ctime))
	putVarint(e, shmCreator, uint64(g.ds.Cpid))
	return e
}

// roundUp returns how much of an address space a segment takes, of huge pages of
// that size, if it is not 0.
func roundUp(size, huge uint64) uint64 {
	unit := max(huge, page)
	return (size + unit - 1) &^ (unit - 1)
}

// eachRow calls f for every place where a segment is attached, with the areas
// it consists of: shmat(2) attaches nothing but the whole. size tells how much
// room a segment takes, and whether there is one.
func (s *Space) eachRow(size func(id uint32) (uint64, bool), f func(row []area) error) error {
	for i := 0; i < len(s.areas); i++ {
		a := &s.areas[i]
		if !a.is(statusSysVIPC) {
			continue
		}
		want, ok := size(a.segment)
		if !ok {
			return fmt.Errorf("%v: System V shared memory %d is missing", a, a.segment)
		}
		n, end := i+1, a.End
		for n < len(s.areas) && s.areas[n].continues(a, end) {
			end = s.areas[n].End
			n++
		}
		if a.offset != 0 || end-a.Start != want {
			return fmt.Errorf("%v: only a part of System V shared memory %d is mapped", a, a.segment)
		}
		if f != nil {
			if err := f(s.areas[i:n]); err != nil {
				return err
			}
		}
		i = n - 1
	}
	return nil
}

// continues tells whether b, which begins at end, belongs to the attachment
// that begins with a.
func (b *area) continues(a *area, end uint64) bool {
	return b.is(statusSysVIPC) && b.segment == a.segment && b.Start == end && b.offset == end-a.Start && b.access == a.access
}

// shared stores what a segment holds.
func (g *segment) shared() *scan.File {
	return &scan.File{Task: g.task, FD: -1, Beside: g.path, Stat: scan.Stat{Ino: uint64(g.id), Size: int64(g.ds.Segsz)}}
}
