package image

import (
	"glis.dev/glis/image/criu/apparmor"
	"glis.dev/glis/image/criu/autofs"
	binfmt "glis.dev/glis/image/criu/binfmt-misc"
	bpfdata "glis.dev/glis/image/criu/bpfmap-data"
	bpffile "glis.dev/glis/image/criu/bpfmap-file"
	"glis.dev/glis/image/criu/cgroup"
	"glis.dev/glis/image/criu/cpuinfo"
	"glis.dev/glis/image/criu/creds"
	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fh"
	lock "glis.dev/glis/image/criu/file-lock"
	"glis.dev/glis/image/criu/fs"
	ghost "glis.dev/glis/image/criu/ghost-file"
	"glis.dev/glis/image/criu/inventory"
	ipcmsg "glis.dev/glis/image/criu/ipc-msg"
	ipcsem "glis.dev/glis/image/criu/ipc-sem"
	ipcshm "glis.dev/glis/image/criu/ipc-shm"
	ipcvar "glis.dev/glis/image/criu/ipc-var"
	"glis.dev/glis/image/criu/memfd"
	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/criu/mnt"
	"glis.dev/glis/image/criu/netdev"
	"glis.dev/glis/image/criu/pagemap"
	"glis.dev/glis/image/criu/pidns"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/image/criu/pstree"
	remap "glis.dev/glis/image/criu/remap-file-path"
	"glis.dev/glis/image/criu/seccomp"
	skpacket "glis.dev/glis/image/criu/sk-packet"
	"glis.dev/glis/image/criu/stats"
	tcpstream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/criu/timens"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/image/criu/userns"
	"glis.dev/glis/image/criu/utsns"
	"glis.dev/glis/image/proto"
)

// The checkpoint as a whole. Inventory is the one file without common magic.
var (
	Inventory     = &Row{Name: "inventory", Pattern: "inventory.img", Magic: magicInventory, New: of[inventory.InventoryEntry], Single: true, Critical: true}
	PsTree        = &Row{Name: "pstree", Pattern: "pstree.img", Magic: magicPsTree, Common: CommonMagic, New: of[pstree.PstreeEntry], Critical: true}
	Seccomp       = &Row{Name: "seccomp", Pattern: "seccomp.img", Magic: magicSeccomp, Common: CommonMagic, New: of[seccomp.SeccompEntry], Single: true}
	AppArmor      = &Row{Name: "apparmor", Pattern: "apparmor.img", Magic: magicAppArmor, Common: CommonMagic, New: of[apparmor.ApparmorEntry], Single: true}
	Cgroup        = &Row{Name: "cgroup", Pattern: "cgroup.img", Magic: magicCgroup, Common: CommonMagic, New: of[cgroup.CgroupEntry], Single: true}
	CPUInfo       = &Row{Name: "cpuinfo", Pattern: "cpuinfo.img", Magic: magicCPUInfo, Common: CommonMagic, New: of[cpuinfo.CpuinfoEntry], Single: true}
	StatsDump     = &Row{Name: "stats-dump", Pattern: "stats-dump", Magic: magicStats, Common: ServiceMagic, New: of[stats.StatsEntry], Single: true}
	StatsRestore  = &Row{Name: "stats-restore", Pattern: "stats-restore", Magic: magicStats, Common: ServiceMagic, New: of[stats.StatsEntry], Single: true}
	IrmapCache    = &Row{Name: "irmap-cache", Pattern: "irmap-cache", Magic: magicIrmapCache, Common: ServiceMagic, New: of[fh.IrmapCacheEntry]}
	BinfmtMisc    = &Row{Name: "binfmt-misc", Pattern: "binfmt-misc.img", Magic: magicBinfmtMisc, Common: CommonMagic, New: of[binfmt.BinfmtMiscEntry]}
	BinfmtMiscOld = &Row{Name: "binfmt-misc-old", Pattern: "binfmt-misc-%d.img", Magic: magicBinfmtMisc, Common: CommonMagic, New: of[binfmt.BinfmtMiscEntry], Old: true}
)

// One task or one thread (Core); the id is a PID.
var (
	Core    = &Row{Name: "core", Pattern: "core-%d.img", Magic: magicCore, Common: CommonMagic, New: of[core.CoreEntry], Single: true, Critical: true}
	Ids     = &Row{Name: "ids", Pattern: "ids-%d.img", Magic: magicIds, Common: CommonMagic, New: of[core.TaskKobjIdsEntry], Single: true}
	MM      = &Row{Name: "mm", Pattern: "mm-%d.img", Magic: magicMM, Common: CommonMagic, New: of[mm.MmEntry], Single: true}
	Creds   = &Row{Name: "creds", Pattern: "creds-%d.img", Magic: magicCreds, Common: CommonMagic, New: of[creds.CredsEntry], Single: true}
	FS      = &Row{Name: "fs", Pattern: "fs-%d.img", Magic: magicFS, Common: CommonMagic, New: of[fs.FsEntry], Single: true}
	Timens  = &Row{Name: "timens", Pattern: "timens-%d.img", Magic: magicTimens, Common: CommonMagic, New: of[timens.TimensEntry], Single: true}
	Pagemap = &Row{Name: "pagemap", Pattern: "pagemap-%d.img", Magic: magicPagemap, Common: CommonMagic, Head: of[pagemap.PagemapHead], New: of[pagemap.PagemapEntry]}
)

// Memory that is not one task's; PagemapShmem's id is the shmid of a mapping,
// Pages' is the pages_id in a pagemap's head.
var (
	PagemapShmem = &Row{Name: "pagemap-shmem", Pattern: "pagemap-shmem-%d.img", Magic: magicPagemap, Common: CommonMagic, Head: of[pagemap.PagemapHead], New: of[pagemap.PagemapEntry]}
	Pages        = &Row{Name: "pages", Pattern: "pages-%d.img"}
	Memfd        = &Row{Name: "memfd", Pattern: "memfd.img", Magic: magicMemfd, Common: CommonMagic, New: of[memfd.MemfdInodeEntry]}
)

// Open files. FdInfo's id is the files_id in a task's ids, GhostFile's the
// remap_id in RemapFile, TCPStream's the inode number of the socket.
var (
	Files     = &Row{Name: "files", Pattern: "files.img", Magic: magicFiles, Common: CommonMagic, New: of[fdinfo.FileEntry], many: manyOf[fdinfo.FileEntry]}
	FdInfo    = &Row{Name: "fdinfo", Pattern: "fdinfo-%d.img", Magic: magicFdInfo, Common: CommonMagic, New: of[fdinfo.FdinfoEntry], many: manyOf[fdinfo.FdinfoEntry]}
	RemapFile = &Row{Name: "remap-fpath", Pattern: "remap-fpath.img", Magic: magicRemapFile, Common: CommonMagic, New: of[remap.RemapFilePathEntry]}
	GhostFile = &Row{Name: "ghost-file", Pattern: "ghost-file-%x.img", Magic: magicGhostFile, Common: CommonMagic, Head: of[ghost.GhostFileEntry], New: of[ghost.GhostChunkEntry], Payload: ghostPayload}
	PipesData = &Row{Name: "pipes-data", Pattern: "pipes-data.img", Magic: magicPipesData, Common: CommonMagic, New: of[pipedata.PipeDataEntry], Payload: pipePayload}
	FifoData  = &Row{Name: "fifo-data", Pattern: "fifo-data.img", Magic: magicFifoData, Common: CommonMagic, New: of[pipedata.PipeDataEntry], Payload: pipePayload}
	SkQueues  = &Row{Name: "sk-queues", Pattern: "sk-queues.img", Magic: magicSkQueues, Common: CommonMagic, New: of[skpacket.SkPacketEntry], Payload: packetPayload}
	TCPStream = &Row{Name: "tcp-stream", Pattern: "tcp-stream-%x.img", Magic: magicTCPStream, Common: CommonMagic, New: of[tcpstream.TcpStreamEntry], Single: true, Payload: tcpPayload}
	TTYInfo   = &Row{Name: "tty-info", Pattern: "tty-info.img", Magic: magicTTYInfo, Common: CommonMagic, New: of[tty.TtyInfoEntry]}
	TTYData   = &Row{Name: "tty-data", Pattern: "tty-data.img", Magic: magicTTYData, Common: CommonMagic, New: of[tty.TtyDataEntry]}
	FileLocks = &Row{Name: "filelocks", Pattern: "filelocks.img", Magic: magicFileLocks, Common: CommonMagic, New: of[lock.FileLockEntry]}
	BPFMaps   = &Row{Name: "bpfmap-file", Pattern: "bpfmap-file.img", Magic: magicBPFMapFile, Common: CommonMagic, New: of[bpffile.BpfmapFileEntry]}
	BPFData   = &Row{Name: "bpfmap-data", Pattern: "bpfmap-data.img", Magic: magicBPFMapData, Common: CommonMagic, New: of[bpfdata.BpfmapDataEntry], Payload: bpfPayload}
)

// Namespaces; the id is the namespace's id in the checkpoint. The raw ones hold
// what ip(8), iptables-save(8), nft(8) and netlink give.
var (
	UTSNS           = &Row{Name: "utsns", Pattern: "utsns-%d.img", Magic: magicUTSNS, Common: CommonMagic, New: of[utsns.UtsnsEntry], Single: true}
	UserNS          = &Row{Name: "userns", Pattern: "userns-%d.img", Magic: magicUserNS, Common: CommonMagic, New: of[userns.UsernsEntry], Single: true}
	PidNS           = &Row{Name: "pidns", Pattern: "pidns-%d.img", Magic: magicPidNS, Common: CommonMagic, New: of[pidns.PidnsEntry], Single: true}
	IPCVar          = &Row{Name: "ipcns-var", Pattern: "ipcns-var-%d.img", Magic: magicIPCVar, Common: CommonMagic, New: of[ipcvar.IpcVarEntry], Single: true}
	IPCShm          = &Row{Name: "ipcns-shm", Pattern: "ipcns-shm-%d.img", Magic: magicIPCShm, Common: CommonMagic, New: of[ipcshm.IpcShmEntry], Payload: shmPayload, Align: 4}
	IPCMsg          = &Row{Name: "ipcns-msg", Pattern: "ipcns-msg-%d.img", Magic: magicIPCMsg, Common: CommonMagic, New: of[ipcmsg.IpcMsgEntry], Sub: of[ipcmsg.IpcMsg], Subs: messageCount, Payload: messagePayload, Align: 8}
	IPCSem          = &Row{Name: "ipcns-sem", Pattern: "ipcns-sem-%d.img", Magic: magicIPCSem, Common: CommonMagic, New: of[ipcsem.IpcSemEntry], Payload: semPayload, Align: 8}
	Mounts          = &Row{Name: "mountpoints", Pattern: "mountpoints-%d.img", Magic: magicMounts, Common: CommonMagic, New: of[mnt.MntEntry]}
	Autofs          = &Row{Name: "autofs", Pattern: "autofs-%d.img", Magic: magicAutofs, Common: CommonMagic, New: of[autofs.AutofsEntry]}
	Tmpfs           = &Row{Name: "tmpfs", Pattern: "tmpfs-%d.tar.gz.img"}
	TmpfsDev        = &Row{Name: "tmpfs-dev", Pattern: "tmpfs-dev-%d.tar.gz.img"}
	NetNS           = &Row{Name: "netns", Pattern: "netns-%d.img", Magic: magicNetNS, Common: CommonMagic, New: of[netdev.NetnsEntry], Single: true}
	NetDev          = &Row{Name: "netdev", Pattern: "netdev-%d.img", Magic: magicNetDev, Common: CommonMagic, New: of[netdev.NetDeviceEntry]}
	IfAddr          = &Row{Name: "ifaddr", Pattern: "ifaddr-%d.img"}
	Route           = &Row{Name: "route", Pattern: "route-%d.img"}
	Route6          = &Row{Name: "route6", Pattern: "route6-%d.img"}
	Rule            = &Row{Name: "rule", Pattern: "rule-%d.img"}
	IPTables        = &Row{Name: "iptables", Pattern: "iptables-%d.img"}
	IP6Tables       = &Row{Name: "ip6tables", Pattern: "ip6tables-%d.img"}
	NFTables        = &Row{Name: "nftables", Pattern: "nftables-%d.img"}
	Conntrack       = &Row{Name: "netns-ct", Pattern: "netns-ct-%d.img"}
	ConntrackExpect = &Row{Name: "netns-exp", Pattern: "netns-exp-%d.img"}
)

// Table returns every sort of image file of criu 4.2, in a slice of its own.
// The "pages" files of criu 1.x, which share their name with Pages but begin
// with a magic, have no row.
func Table() []*Row {
	return append([]*Row{
		Inventory, PsTree, Seccomp, AppArmor, Cgroup, CPUInfo,
		StatsDump, StatsRestore, IrmapCache, BinfmtMisc, BinfmtMiscOld,
		Core, Ids, MM, Creds, FS, Timens, Pagemap, PagemapShmem, Pages, Memfd,
		Files, FdInfo, RemapFile, GhostFile, PipesData, FifoData, SkQueues,
		TCPStream, TTYInfo, TTYData, FileLocks, BPFMaps, BPFData,
		UTSNS, UserNS, PidNS, IPCVar, IPCShm, IPCMsg, IPCSem,
		Mounts, Autofs, Tmpfs, TmpfsDev,
		NetNS, NetDev, IfAddr, Route, Route6, Rule,
		IPTables, IP6Tables, NFTables, Conntrack, ConntrackExpect,
	}, oldRows()...)
}

// message is what a pointer to a generated struct is.
type message[T any] interface {
	*T
	proto.Message
}

// of makes an empty message; of[T] is the value of a Row's New.
func of[T any, M message[T]]() proto.Message { return M(new(T)) }

// manyOf is of for a file with thousands of entries.
func manyOf[T any, M message[T]]() func() proto.Message {
	var p proto.Pieces[T]
	return func() proto.Message { return M(p.New()) }
}
