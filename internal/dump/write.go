package dump

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/fs"
	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/image/criu/stats"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/ns"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/restore"
	"glis.dev/glis/internal/scan"
)

// Numbers of the namespaces in ids images: all tasks share the engine's.
var nsIDs = struct{ pid, net, ipc, uts, time, mnt, user, cgroup uint32 }{1, 2, 3, 4, 5, 6, 7, 8}

func kobjIDs(i scan.IDs) *criu_core.TaskKobjIdsEntry {
	return &criu_core.TaskKobjIdsEntry{
		VmId: proto.Uint32(i.VM), FilesId: proto.Uint32(i.Files), FsId: proto.Uint32(i.FS), SighandId: proto.Uint32(i.Sighand),
		PidNsId: proto.Uint32(nsIDs.pid), NetNsId: proto.Uint32(nsIDs.net), IpcNsId: proto.Uint32(nsIDs.ipc), UtsNsId: proto.Uint32(nsIDs.uts),
		MntNsId: proto.Uint32(nsIDs.mnt), UserNsId: proto.Uint32(nsIDs.user), CgroupNsId: proto.Uint32(nsIDs.cgroup), TimeNsId: proto.Uint32(nsIDs.time),
	}
}

// putTree writes the images that no kind owns: who is whose child, and what
// is shared.
func (d *dump) putTree() error {
	var members []restore.Member
	for _, t := range d.tree.Tasks {
		if err := d.ended(); err != nil {
			return err
		}
		m := restore.Member{Entry: pstreeEntry(t), Comm: t.Stat.Comm}
		if err := d.sink.Put(image.PsTree, m.Entry, nil); err != nil {
			return err
		}
		if !t.Zombie {
			m.IDs = d.kobjIDs(t.IDs)
		}
		if members = append(members, m); t.Zombie {
			continue
		}
		if err := d.put(image.Ids, d.kobjIDs(t.IDs), uint32(t.VPID)); err != nil {
			return err
		}
		if err := d.putFS(t); err != nil {
			return kind.About(t, err)
		}
	}
	shellJob, err := restore.Possible(members)
	if err != nil {
		return kind.Unsupported(d.tree.Root, "a restore could not make the tree again: %v", err)
	}
	if shellJob && !d.opts.ShellJob {
		d.log.Warn("The tree's session has its leader outside of the tree: a restore needs --shell-job", "session", d.tree.Root.Stat.Session)
	}
	if err := d.sink.Put(image.Seccomp, d.filters.Entry(), nil); err != nil {
		return err
	}
	return errors.Join(d.putTimens(), d.putCgroups())
}

func pstreeEntry(t *scan.Task) *pstree.PstreeEntry {
	e := &pstree.PstreeEntry{Pid: proto.Uint32(uint32(t.VPID)), Ppid: proto.Uint32(0), Pgid: proto.Uint32(innermost(t.Status.NSpgid, int32(t.Stat.Pgrp))), Sid: proto.Uint32(innermost(t.Status.NSsid, int32(t.Stat.Session)))}
	if t.Parent != nil {
		e.Ppid = proto.Uint32(uint32(t.Parent.VPID))
	}
	if t.Ended != nil {
		e.Threads = []uint32{uint32(t.VPID)}
	}
	for _, th := range t.Threads {
		e.Threads = append(e.Threads, uint32(th.VTID))
	}
	if t.Zombie {
		e.Threads = []uint32{uint32(t.VPID)}
	}
	return e
}

func innermost(numbers []int32, own int32) uint32 { return uint32(vpid(numbers, own)) }

// putFS writes working directory, root and umask.
func (d *dump) putFS(t *scan.Task) error {
	cwd, err := d.files.Linked(t, "cwd", unix.O_RDONLY)
	if err != nil {
		return err
	}
	root, err := d.files.Linked(t, "root", unix.O_RDONLY)
	if err != nil {
		return err
	}
	return d.put(image.FS, &fs.FsEntry{CwdId: proto.Uint32(cwd.ID), RootId: proto.Uint32(root.ID), Umask: proto.Uint32(task.Umask(t))}, uint32(t.VPID))
}

// putTimens writes the clocks as the tree sees them.
func (d *dump) putTimens() error {
	c, err := ns.ClocksOf(proc.PID(d.tree.Root.Via()))
	if err != nil {
		return err
	}
	return d.sink.Put(image.Timens, c.Entry(), nil, d.timensImage())
}

// timensImage is the number of the image that has the tree's clocks: that of
// its time namespace, or 0 if that is the engine's.
func (d *dump) timensImage() uint32 {
	if d.ownTime {
		return ownTimeNS
	}
	return 0
}

// kobjIDs is what ids-PID.img says.
func (d *dump) kobjIDs(i scan.IDs) *criu_core.TaskKobjIdsEntry {
	e := kobjIDs(i)
	if d.ownTime {
		e.TimeNsId = proto.Uint32(ownTimeNS)
	}
	return e
}

// ownTimeNS is the number of a time namespace that is not the engine's.
const ownTimeNS = 9

// inventory is what is written last: without it there is no checkpoint.
func (d *dump) inventory() *inventory.InventoryEntry {
	var cgroups *uint32
	if n := d.cgroups.OwnSet(); n != 0 {
		cgroups = &n
	}
	return &inventory.InventoryEntry{
		ImgVersion: proto.Uint32(2), FdinfoPerId: proto.Bool(true), NsPerId: proto.Bool(true), Lsmtype: inventory.Lsmtype_NO_LSM.Enum(),
		RootIds:           kobjIDs(scan.IDs{VM: 1, Files: 1, FS: 1, Sighand: 1}),
		RootCgSet:         cgroups,
		NetworkLockMethod: proto.Uint32(d.lockMethod()), DumpCriuRunId: proto.String(d.runID), DumpUptime: proto.Uint64(uptime()),
	}
}

// criu's numbers for what a restore has to take back.
const (
	networkLockNftables = 1
	networkLockSkip     = 2 // nothing
)

func (d *dump) lockMethod() uint32 {
	if len(d.flows)+len(d.away) == 0 && !d.shuts || d.opts.LeaveRunning || d.skipsLock() {
		return networkLockSkip
	}
	return networkLockNftables
}

// uptime returns microseconds since boot.
func uptime() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return uint64(ts.Nano() / 1000)
}

func us(t time.Duration) *uint32 { return proto.Uint32(uint32(t.Microseconds())) }

// writeStats writes stats-dump, in criu's units: microseconds and pages.
func (d *dump) writeStats() error {
	if d.opts.WorksApart() {
		return nil // statsApart does, once nothing can fail any more
	}
	return image.WriteOne(d.store, image.StatsDump, &stats.StatsEntry{Dump: d.stats()})
}

// statsApart writes stats-dump into a working directory that is not the images'.
func (d *dump) statsApart() {
	if !d.opts.WorksApart() {
		return
	}
	if err := image.WriteStats(d.opts.WorkDir, image.StatsDump, &stats.StatsEntry{Dump: d.stats()}); err != nil {
		d.log.Warn("The tree is saved, but its statistics could not be written", "err", err)
	}
}

func (d *dump) stats() *stats.DumpStatsEntry {
	s, p := &d.times, &d.pages
	return &stats.DumpStatsEntry{
		FreezingTime: us(s.freezing), FrozenTime: us(s.frozen), MemdumpTime: us(s.pages), MemwriteTime: us(s.pages),
		PagesScanned: proto.Uint64(p.Scanned), PagesSkippedParent: proto.Uint64(p.SkippedParent), PagesWritten: proto.Uint64(p.Written), PagesLazy: proto.Uint64(0),
		IrmapResolve: proto.Uint32(0), PagePipes: proto.Uint64(0), PagePipeBufs: proto.Uint64(0),
		ShpagesScanned: proto.Uint64(p.SharedScanned), ShpagesSkippedParent: proto.Uint64(0), ShpagesWritten: proto.Uint64(p.SharedWritten),
	}
}
