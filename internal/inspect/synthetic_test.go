package inspect

import (
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/creds"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/eventfd"
	"glis.dev/glis/image/criu/eventpoll"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fh"
	"glis.dev/glis/image/criu/fifo"
	lock "glis.dev/glis/image/criu/file-lock"
	"glis.dev/glis/image/criu/fown"
	fsimg "glis.dev/glis/image/criu/fs"
	"glis.dev/glis/image/criu/fsnotify"
	"glis.dev/glis/image/criu/inventory"
	"glis.dev/glis/image/criu/memfd"
	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/criu/ns"
	"glis.dev/glis/image/criu/pidfd"
	"glis.dev/glis/image/criu/pipe"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/image/criu/regfile"
	remap "glis.dev/glis/image/criu/remap-file-path"
	"glis.dev/glis/image/criu/signalfd"
	inetsk "glis.dev/glis/image/criu/sk-inet"
	netlinksk "glis.dev/glis/image/criu/sk-netlink"
	skopts "glis.dev/glis/image/criu/sk-opts"
	skpacket "glis.dev/glis/image/criu/sk-packet"
	unixsk "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/criu/stats"
	tcpstream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/criu/timerfd"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/image/criu/vma"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/image/protowire"
)

func u32(n uint32) *uint32 { return &n }
func u64(n uint64) *uint64 { return &n }

// owner is nobody.
func owner() *fown.FownEntry {
	return &fown.FownEntry{Uid: u32(0), Euid: u32(0), Signum: u32(0), PidType: u32(0), Pid: u32(0)}
}

func skOpts() *skopts.SkOptsEntry {
	return &skopts.SkOptsEntry{
		SoSndbuf: u32(1), SoRcvbuf: u32(1), SoSndTmoSec: u64(0), SoSndTmoUsec: u64(0), SoRcvTmoSec: u64(0), SoRcvTmoUsec: u64(0),
	}
}

// tree is a checkpoint of a shell with three children, one of which has ended
// and one of which shares the shell's descriptors, and most kinds of files.
func tree(t testing.TB) memory {
	t.Helper()
	s := memory{"dump.log": {[]byte("a log")}, "glis-later.img": {nil}}
	put := func(r *image.Row, m proto.Message, ids ...uint32) {
		t.Helper()
		check(t, image.WriteOne(s, r, m, ids...))
	}
	put(image.Inventory, &inventory.InventoryEntry{
		ImgVersion: u32(2), FdinfoPerId: proto.Bool(true), DumpUptime: u64(90_000_000), DumpCriuRunId: proto.String("run"),
	})
	put(image.StatsDump, &stats.StatsEntry{Dump: &stats.DumpStatsEntry{
		FreezingTime: u32(10), FrozenTime: u32(1500), MemdumpTime: u32(20), MemwriteTime: u32(30),
		PagesScanned: u64(9), PagesSkippedParent: u64(0), PagesWritten: u64(3), PagesLazy: u64(0),
	}})
	check(t, image.WriteAll(s, image.PsTree, []*pstree.PstreeEntry{
		process(100, 0, 100, 101), process(110, 100, 110), process(111, 110, 987654321), process(120, 100, 120), process(121, 120, 121),
	}))
	put(image.Core, coreOf("shell\x1b[31m", 1, 0), 100)
	put(image.Core, coreOf("", 0, 0), 101)
	put(image.Core, coreOf("worker", 3, 0), 110)
	put(image.Core, coreOf("ended", 2, 9), 111)
	put(image.Core, coreOf(`back\slash`, 1, 0), 120)
	put(image.Core, coreOf("caf\xe9 né", 1, 0), 121)
	for pid, table := range map[uint32]uint32{100: 1, 110: 2, 120: 1, 121: 3} {
		put(image.Ids, &core.TaskKobjIdsEntry{VmId: u32(pid), FilesId: u32(table), FsId: u32(1), SighandId: u32(1), NetNsId: u32(5)}, pid)
		put(image.FS, &fsimg.FsEntry{CwdId: u32(2), RootId: u32(3), Umask: u32(0o22)}, pid)
		memoryOf(t, s, pid)
	}
	put(image.Creds, credsOf(33), 121)
	writeFiles(t, s)
	return s
}

func process(pid, parent uint32, threads ...uint32) *pstree.PstreeEntry {
	return &pstree.PstreeEntry{Pid: &pid, Ppid: &parent, Pgid: u32(100), Sid: u32(90), Threads: threads}
}

func credsOf(uid uint32) *creds.CredsEntry {
	return &creds.CredsEntry{
		Uid: &uid, Gid: &uid, Euid: &uid, Egid: &uid, Suid: &uid, Sgid: &uid, Fsuid: &uid, Fsgid: &uid, Secbits: u32(0),
	}
}

// coreOf is a task's core; without a state it is a thread's.
func coreOf(comm string, state, exit uint32) *core.CoreEntry {
	c := &core.CoreEntry{
		Mtype:      core.CoreEntry_X86_64.Enum(),
		ThreadCore: &core.ThreadCoreEntry{FutexRla: u64(0), FutexRlaLen: u32(0), Creds: credsOf(1000), Comm: proto.String("io")},
	}
	if state != 0 {
		c.Tc = &core.TaskCoreEntry{
			TaskState: &state, ExitCode: &exit, Personality: u32(0), Flags: u32(0), BlkSigset: u64(0), Comm: &comm,
			OldSeccompMode: core.SeccompMode_filter.Enum(), StopSigno: u32(19),
		}
	}
	return c
}

func mapping(start, pages uint64, prot, flags, status uint32, shmid uint64) *vma.VmaEntry {
	return &vma.VmaEntry{
		Start: &start, End: u64(start + pages*image.PageSize), Pgoff: u64(0), Shmid: &shmid, Prot: &prot, Flags: &flags, Status: &status, Fd: proto.Int64(-1),
	}
}

// memoryOf gives a task every kind of memory, and three stored pages.
func memoryOf(t testing.TB, s memory, pid uint32) {
	zero := u64(0)
	check(t, image.WriteOne(s, image.MM, &mm.MmEntry{
		MmStartCode: zero, MmEndCode: zero, MmStartData: zero, MmEndData: zero, MmStartStack: zero, MmStartBrk: zero, MmBrk: zero,
		MmArgStart: zero, MmArgEnd: zero, MmEnvStart: zero, MmEnvEnd: zero, ExeFileId: u32(1),
		Vmas: []*vma.VmaEntry{
			mapping(0x10000, 4, 5, 2, 1|areaFilePrivate, 1), mapping(0x20000, 2, 3, 2, 1|areaFilePrivate, 1),
			mapping(0x30000, 8, 3, 0x22, 1|areaHeap|areaAnonPrivate, 0), mapping(0x40000, 1, 1, 1, 1|areaFileShared, 1),
			mapping(0x50000, 300, 3, 0x21, 1|areaAnonShared, 77), mapping(0x200000, 1, 3, 1, 1|areaFileShared|areaMemfd, 20),
			mapping(0x300000, 5, 3, 0x22, 1|areaAnonPrivate, 0), mapping(0x301000, 1, 0, 0, areaGuard, 0),
			mapping(0x400000, 33, 3, 0x122, 1|areaAnonPrivate, 0), mapping(0x500000, 1, 3, 1, 1|1<<13, 0),
			mapping(0x600000, 2, 5, 2, 1|areaVdso|areaAnonPrivate, 0), mapping(0xffffffffff600000, 1, 5, 2, areaVsyscall, 0),
		},
	}, pid))
	pagesOf(t, s, image.Pagemap, uint64(pid), pid, 0x20000, 0x30000)
}

// pagesOf writes a pagemap with a page at first and two at second.
func pagesOf(t testing.TB, s memory, r *image.Row, id uint64, pages uint32, first, second uint64) {
	w, err := image.NewPagemapWriter(s, r, id, pages)
	check(t, err)
	check(t, w.Add(first, 1, image.PagePresent))
	check(t, w.Add(second, 2, image.PagePresent))
	check(t, w.Add(second+0x3000, 1, image.PageParent))
	check(t, w.Close())
	s[image.Pages.FileName(pages)] = &memFile{make([]byte, 3*image.PageSize)}
}

// writeFiles writes the open files and what belongs to them.
func writeFiles(t testing.TB, s memory) {
	check(t, image.WriteAll(s, image.Files, fileEntries()))
	table := func(id uint32, files ...uint32) {
		var all []*fdinfo.FdinfoEntry
		for fd, file := range files {
			typ := fileEntries()[file-1].GetType()
			all = append(all, &fdinfo.FdinfoEntry{Id: &file, Flags: u32(uint32(fd) & 1), Type: &typ, Fd: u32(uint32(fd))})
		}
		check(t, image.WriteAll(s, image.FdInfo, all, id))
	}
	table(1, 4, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25)
	table(2, 26, 8, 5)
	check(t, image.WriteOne(s, image.TTYInfo, &tty.TtyInfoEntry{
		Id: u32(1), Type: tty.TtyType_PTY.Enum(), Locked: proto.Bool(false), Exclusive: proto.Bool(false), PacketMode: proto.Bool(false),
		Sid: u32(90), Pgrp: u32(100), Rdev: u32(1), Pty: &tty.TtyPtyEntry{Index: u32(3)},
	}))
	payload := func(r *image.Row, m proto.Message, n int) {
		w, err := image.Create(s, r)
		check(t, err)
		check(t, w.PutPayload(m, make([]byte, n)))
		check(t, w.Close())
	}
	payload(image.PipesData, &pipedata.PipeDataEntry{PipeId: u32(500), Bytes: u32(5), Size: u32(65536)}, 5)
	payload(image.SkQueues, &skpacket.SkPacketEntry{IdFor: u32(8), Length: u32(12)}, 12)
	w, err := image.Create(s, image.TCPStream, 902)
	check(t, err)
	check(t, w.PutPayload(&tcpstream.TcpStreamEntry{
		InqLen: u32(3), InqSeq: u32(0), OutqLen: u32(4), OutqSeq: u32(0), OptMask: u32(0), SndWscale: u32(0), MssClamp: u32(0),
	}, make([]byte, 7)))
	check(t, w.Close())
	check(t, image.WriteAll(s, image.Memfd, []*memfd.MemfdInodeEntry{{
		Name: proto.String("mem"), Uid: u32(0), Gid: u32(0), Size: u64(12288), Shmid: u32(88), Seals: u32(6), InodeId: u64(1),
	}}))
	pagesOf(t, s, image.PagemapShmem, 88, 5000, 0, 0x1000)
	check(t, image.WriteAll(s, image.RemapFile, []*remap.RemapFilePathEntry{{OrigId: u32(5), RemapId: u32(1), RemapType: remap.RemapType_GHOST.Enum()}}))
	queued := &lock.FileLockEntry{Flag: u32(2), Type: u32(0), Pid: proto.Int32(0), Fd: proto.Int32(0), Start: proto.Int64(0), Len: proto.Int64(0)}
	queued.SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 1500, protowire.VarintType), 5))
	check(t, image.WriteAll(s, image.FileLocks, []*lock.FileLockEntry{{
		Flag: u32(1), Type: u32(1), Pid: proto.Int32(100), Fd: proto.Int32(2), Start: proto.Int64(4), Len: proto.Int64(0),
	}, queued}))
	check(t, image.WriteAll(s, extra.Waiting, []*extra.WaitingConnection{{
		Listener: u32(10), Client: u32(11), Who: u32(1), Data: make([]byte, 4), Messages: []*extra.WaitingMessage{{Length: u32(4), Files: []uint32{4, 5}}},
	}}))
	check(t, image.WriteAll(s, extra.Identities, []*extra.SocketIdentity{{Pid: u32(100), Uid: u32(1000), Gid: u32(1001), Groups: []uint32{5}}}))
	check(t, image.WriteAll(s, extra.Sockets, []*extra.SocketEntry{{
		Id: u32(9), Error: u32(104), Options: []*extra.SocketOption{{Level: u32(1), Name: u32(47), Value: []byte{2, 0, 0, 0}}},
	}}))
}

func regular(id uint32, name string, flags uint32, pos, size uint64) *fdinfo.FileEntry {
	return file(fdinfo.FdTypes_REG, id, func(e *fdinfo.FileEntry) {
		e.Reg = &regfile.RegFileEntry{Id: &id, Flags: &flags, Pos: &pos, Size: &size, Fown: owner(), Name: &name}
	})
}

func file(typ fdinfo.FdTypes, id uint32, fill func(*fdinfo.FileEntry)) *fdinfo.FileEntry {
	e := &fdinfo.FileEntry{Type: &typ, Id: &id}
	fill(e)
	return e
}

func unixFile(id, ino, peer, state uint32, name string) *fdinfo.FileEntry {
	return file(fdinfo.FdTypes_UNIXSK, id, func(e *fdinfo.FileEntry) {
		e.Usk = &unixsk.UnixSkEntry{
			Id: &id, Ino: &ino, Type: u32(1), State: &state, Flags: u32(0o2), Uflags: u32(0), Backlog: u32(9), Peer: &peer,
			Fown: owner(), Opts: skOpts(), Name: []byte(name),
		}
	})
}

func inetFile(id, ino, state, from, to uint32) *fdinfo.FileEntry {
	return file(fdinfo.FdTypes_INETSK, id, func(e *fdinfo.FileEntry) {
		o := skOpts()
		o.Reuseaddr, o.SoPriority = proto.Bool(true), u32(6)
		e.Isk = &inetsk.InetSkEntry{
			Id: &id, Ino: &ino, Family: u32(2), Type: u32(1), Proto: u32(6), State: &state, SrcPort: &from, DstPort: &to, Flags: u32(0o4002),
			Backlog: u32(7), SrcAddr: []uint32{0x0100007f}, DstAddr: []uint32{0}, Fown: owner(), Opts: o,
		}
		if to != 0 {
			e.Isk.DstAddr[0] = 0x0200007f
		}
	})
}

// fileEntries lists the files; the id of each is its place, from 1.
func fileEntries() []*fdinfo.FileEntry {
	return []*fdinfo.FileEntry{
		regular(1, "/bin/shell", 0, 0, 1000), regular(2, "/work\nplace", 0o200000, 0, 0), regular(3, "/", 0o200000, 0, 0),
		file(fdinfo.FdTypes_TTY, 4, func(e *fdinfo.FileEntry) {
			e.Tty = &tty.TtyFileEntry{Id: u32(4), TtyInfoId: u32(1), Flags: u32(2), Fown: owner(), RegfId: u32(27)}
		}),
		regular(5, "/tmp/gone\x00\x7f\u202e", 0o102001, 12, 40),
		pipeFile(6, 500, 0), pipeFile(7, 500, 0o4001),
		unixFile(8, 801, 802, 1, ""), unixFile(9, 802, 801, 1, "\x00abs\x00x"), unixFile(10, 803, 0, 10, "/run/s\x00"), unixFile(11, 804, 999, 1, ""),
		inetFile(12, 0x901, 10, 80, 0), inetFile(13, 902, 1, 80, 4000),
		file(fdinfo.FdTypes_EVENTFD, 14, func(e *fdinfo.FileEntry) {
			e.Efd = &eventfd.EventfdFileEntry{Id: u32(14), Flags: u32(2), Fown: owner(), Counter: u64(7)}
		}),
		file(fdinfo.FdTypes_EVENTPOLL, 15, func(e *fdinfo.FileEntry) {
			e.Epfd = &eventpoll.EventpollFileEntry{Id: u32(15), Flags: u32(2), Fown: owner(), Tfd: []*eventpoll.EventpollTfdEntry{
				{Id: u32(15), Tfd: u32(3), Events: u32(0x80000001), Data: u64(1 << 63)}, {Id: u32(15), Tfd: u32(400), Events: u32(0x100004), Data: u64(0)},
			}}
		}),
		file(fdinfo.FdTypes_SIGNALFD, 16, func(e *fdinfo.FileEntry) {
			e.Sgfd = &signalfd.SignalfdEntry{Id: u32(16), Flags: u32(2), Fown: owner(), Sigmask: u64(1<<63 | 1<<1)}
		}),
		file(fdinfo.FdTypes_TIMERFD, 17, func(e *fdinfo.FileEntry) {
			e.Tfd = &timerfd.TimerfdEntry{
				Id: u32(17), Flags: u32(2), Fown: owner(), Clockid: u32(1), Ticks: u64(2), SettimeFlags: u32(0),
				Vsec: u64(1), Vnsec: u64(5e8), Isec: u64(1 << 60), Insec: u64(0),
			}
		}),
		file(fdinfo.FdTypes_INOTIFY, 18, func(e *fdinfo.FileEntry) {
			e.Ify = &fsnotify.InotifyFileEntry{Id: u32(18), Flags: u32(0), Fown: owner(), Wd: []*fsnotify.InotifyWdEntry{{
				Id: u32(18), IIno: u64(4711), Mask: u32(0x102), IgnoredMask: u32(0), SDev: u32(0x800001), Wd: u32(1),
				FHandle: &fh.FhEntry{Bytes: u32(0), Type: u32(0)},
			}}}
		}),
		file(fdinfo.FdTypes_NETLINKSK, 19, func(e *fdinfo.FileEntry) {
			e.Nlsk = &netlinksk.NetlinkSkEntry{
				Id: u32(19), Ino: u32(805), Protocol: u32(0), State: u32(7), Flags: u32(2), Portid: u32(33), DstPortid: u32(0), DstGroup: u32(0),
				Fown: owner(), Opts: skOpts(),
			}
		}),
		file(fdinfo.FdTypes_MEMFD, 20, func(e *fdinfo.FileEntry) {
			e.Memfd = &memfd.MemfdFileEntry{Id: u32(20), Flags: u32(2), Pos: u64(5), Fown: owner(), InodeId: u32(1)}
		}),
		file(fdinfo.FdTypes_PIDFD, 21, func(e *fdinfo.FileEntry) {
			e.Pidfd = &pidfd.PidfdEntry{Id: u32(21), Ino: u32(1), Flags: u32(2), Nspid: proto.Int32(110), Fown: owner()}
		}),
		file(fdinfo.FdTypes_NS, 22, func(e *fdinfo.FileEntry) {
			e.Nsf = &ns.NsFileEntry{Id: u32(22), NsId: u32(5), NsCflag: u32(0x40000000), Flags: u32(0)}
		}),
		file(fdinfo.FdTypes(25), 23, func(*fdinfo.FileEntry) {}), // of a newer criu
		file(fdinfo.FdTypes_FIFO, 24, func(e *fdinfo.FileEntry) {
			e.Fifo = &fifo.FifoEntry{Id: u32(24), PipeId: u32(501), RegfId: u32(28)}
		}),
		inetFile(25, 0x903, 8, 81, 4001),
		pipeFile(26, 500, 1),
		regular(27, "/dev/pts/3", 2, 0, 0), regular(28, "/run/fifo", 1, 0, 0),
	}
}

func pipeFile(id, pipeID, flags uint32) *fdinfo.FileEntry {
	return file(fdinfo.FdTypes_PIPE, id, func(e *fdinfo.FileEntry) {
		e.Pipe = &pipe.PipeEntry{Id: &id, PipeId: &pipeID, Flags: &flags, Fown: owner()}
	})
}
