package linux

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/bpf.h; see bpf(2).
const (
	BPF_MAP_CREATE         = 0
	BPF_MAP_UPDATE_ELEM    = 2
	BPF_MAP_DELETE_ELEM    = 3
	BPF_PROG_LOAD          = 5
	BPF_OBJ_PIN            = 6
	BPF_OBJ_GET            = 7
	BPF_PROG_RUN           = 10 // BPF_PROG_TEST_RUN, Linux 4.12
	BPF_PROG_GET_FD_BY_ID  = 13 // Linux 4.13
	BPF_MAP_GET_FD_BY_ID   = 14 // Linux 4.13
	BPF_OBJ_GET_INFO_BY_FD = 15 // Linux 4.13
	BPF_PROG_QUERY         = 16 // Linux 4.15
	BPF_LINK_CREATE        = 28 // Linux 5.7
	BPF_ITER_CREATE        = 33 // Linux 5.8

	BPF_MAP_TYPE_ARRAY        = 2
	BPF_MAP_TYPE_PERCPU_ARRAY = 6  // Linux 4.6
	BPF_MAP_TYPE_SOCKMAP      = 15 // Linux 4.14
	BPF_PROG_TYPE_SCHED_CLS   = 3
	BPF_PROG_TYPE_CGROUP_SKB  = 8  // Linux 4.10
	BPF_PROG_TYPE_TRACING     = 26 // Linux 5.5
	BPF_PROG_TYPE_SYSCALL     = 31 // Linux 5.14
	BPF_TRACE_ITER            = 28 // Linux 5.8
	BPF_TCX_INGRESS           = 46 // Linux 6.6
	BPF_TCX_EGRESS            = 47
	BPF_F_BEFORE              = 1 << 3
	BPF_MPROG_MAX             = 64 // programs at one place, include/linux/bpf_mprog.h
	BPF_CGROUP_INET_INGRESS   = 0  // Linux 4.10
	BPF_F_SLEEPABLE           = 1 << 4
	BPF_F_MMAPABLE            = 1 << 10 // Linux 5.5
)

// BPFInsn is struct bpf_insn.
type BPFInsn struct {
	Code uint8
	Regs uint8 // destination in the low half, source in the high one
	Off  int16
	Imm  int32
}

// The parts of union bpf_attr. Their pointers are typed, so that they follow
// their targets if the stack moves.
type (
	bpfMapCreate struct {
		MapType, KeySize, ValueSize, MaxEntries, Flags uint32
	}
	bpfMapUpdate struct {
		MapFD, _ uint32
		Key      *uint32
		Value    *byte
		Flags    uint64
	}
	bpfProgLoad struct {
		ProgType, InsnCnt            uint32
		Insns                        *BPFInsn
		License                      *byte
		LogLevel, LogSize            uint32
		LogBuf                       *byte
		KernVersion, ProgFlags       uint32
		Name                         [16]byte
		Ifindex, ExpectedAttachType  uint32
		BTFFD, FuncInfoRecSize       uint32
		FuncInfo                     uint64
		FuncInfoCnt, LineInfoRecSize uint32
		LineInfo                     uint64
		LineInfoCnt, AttachBTFID     uint32
		AttachProgFD, CoreReloCount  uint32
	}
	bpfLinkCreate struct {
		ProgFD, TargetFD, AttachType, Flags uint32
		IterInfo                            *bpfIterTask
		IterInfoLen, _                      uint32
	}
	bpfProgQuery struct {
		TargetFD, AttachType, QueryFlags, AttachFlags uint32
		IDs                                           uint64
		Count, _                                      uint32
		Flags, Links, LinkFlags, Revision             uint64
	}
	bpfIterCreate struct {
		LinkFD, Flags uint32
	}
	// bpfIterTask is the part of union bpf_iter_link_info for tasks. One of
	// the three is not 0.
	bpfIterTask struct {
		TID, PID, PIDFD, _ uint32
	}
)

// interrupted is how often a call is made again that a signal has ended: Go's
// runtime sends them to its threads.
const interrupted = 1000

// bpf makes a call. The kernel gives up checking a program when a signal comes
// (EAGAIN).
func bpf[T any](cmd uintptr, attr *T) (int, error) {
	for try := 0; ; try++ {
		r, _, e := unix.Syscall(unix.SYS_BPF, cmd, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		switch {
		case e == 0:
			return int(r), nil
		case cmd == BPF_PROG_LOAD && e == unix.EAGAIN && try < interrupted:
		default:
			return -1, e
		}
	}
}

// BPFArray creates an array map with one value of size bytes and returns its
// descriptor. It needs CAP_BPF (Linux 5.8).
func BPFArray(size int) (int, error) {
	return bpf(BPF_MAP_CREATE, &bpfMapCreate{MapType: BPF_MAP_TYPE_ARRAY, KeySize: 4, ValueSize: uint32(size), MaxEntries: 1})
}

// BPFUpdate sets one value of an array map.
func BPFUpdate(array int, key uint32, value []byte) error {
	_, err := bpf(BPF_MAP_UPDATE_ELEM, &bpfMapUpdate{MapFD: uint32(array), Key: &key, Value: unsafe.SliceData(value)})
	return err
}

// BPFLoadIterator loads a program that is called by the iterator whose function
// has this type id in the kernel's BTF, and returns its descriptor. It needs
// CAP_BPF and CAP_PERFMON (Linux 5.8).
func BPFLoadIterator(prog []BPFInsn, license string, function uint32) (int, error) {
	text := append([]byte(license), 0)
	return bpf(BPF_PROG_LOAD, &bpfProgLoad{
		ProgType: BPF_PROG_TYPE_TRACING, InsnCnt: uint32(len(prog)), Insns: unsafe.SliceData(prog), License: &text[0],
		ExpectedAttachType: BPF_TRACE_ITER, AttachBTFID: function,
	})
}

// BPFTaskIterator makes an iterator over the files (or threads, memory, as the
// program's kind is) of the process behind a pidfd, and returns a descriptor to
// read what the program writes. Linux 6.1. Over that of a thread (PIDFD_THREAD)
// the kernel would say that there is nothing, which is an error here.
func BPFTaskIterator(prog, pidfd int) (int, error) {
	if flags, err := unix.FcntlInt(uintptr(pidfd), unix.F_GETFL, 0); err != nil || flags&unix.PIDFD_THREAD != 0 {
		return -1, errors.Join(err, unix.EOPNOTSUPP)
	}
	return bpfIterator(prog, &bpfIterTask{PIDFD: uint32(pidfd)})
}

// BPFThreadIterator is like BPFTaskIterator for one thread by its number in the
// caller's PID namespace, alive or not: who has the number is looked up by
// every read. Linux 6.1.
func BPFThreadIterator(prog, tid int) (int, error) {
	return bpfIterator(prog, &bpfIterTask{TID: uint32(tid)})
}

// BPFIterator is like BPFTaskIterator over what belongs to no task, of the caller's
// network namespace if it belongs to one (Linux 5.8).
func BPFIterator(prog int) (int, error) { return bpfIterator(prog, nil) }

func bpfIterator(prog int, over *bpfIterTask) (int, error) {
	attr := &bpfLinkCreate{ProgFD: uint32(prog), AttachType: BPF_TRACE_ITER, IterInfo: over}
	if over != nil {
		attr.IterInfoLen = uint32(unsafe.Sizeof(*over))
	}
	link, err := bpf(BPF_LINK_CREATE, attr)
	if err != nil {
		return -1, err
	}
	defer unix.Close(link)
	return bpf(BPF_ITER_CREATE, &bpfIterCreate{LinkFD: uint32(link)})
}

// BPFSharedArray is BPFArray of memory that the caller maps, too (Linux 5.5):
// whole pages.
func BPFSharedArray(size int) (fd int, memory []byte, err error) {
	fd, err = bpf(BPF_MAP_CREATE, &bpfMapCreate{MapType: BPF_MAP_TYPE_ARRAY, KeySize: 4, ValueSize: uint32(size), MaxEntries: 1, Flags: BPF_F_MMAPABLE})
	if err != nil {
		return -1, nil, err
	}
	memory, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, memory, nil
}

// BPFPerCPUArray is BPFArray with a value for each CPU.
func BPFPerCPUArray(size int) (int, error) {
	return bpf(BPF_MAP_CREATE, &bpfMapCreate{MapType: BPF_MAP_TYPE_PERCPU_ARRAY, KeySize: 4, ValueSize: uint32(size), MaxEntries: 1})
}

// BPFLoadCall loads a program that BPFCall runs, and returns its descriptor. It
// needs CAP_BPF and, to read memory, CAP_PERFMON (Linux 5.14).
func BPFLoadCall(prog []BPFInsn, license string) (int, error) {
	return bpfLoad(BPF_PROG_TYPE_SYSCALL, BPF_F_SLEEPABLE, prog, license)
}

// BPFLoadClassifier loads a program that sees packets: see BPFAttachLast. It
// needs CAP_BPF and CAP_NET_ADMIN.
func BPFLoadClassifier(prog []BPFInsn, license string) (int, error) {
	return bpfLoad(BPF_PROG_TYPE_SCHED_CLS, 0, prog, license)
}

// BPFLoadCgroup loads a program that decides which packets sockets get: see
// BPFAttachCgroup. It needs CAP_BPF and CAP_NET_ADMIN.
func BPFLoadCgroup(prog []BPFInsn, license string) (int, error) {
	return bpfLoad(BPF_PROG_TYPE_CGROUP_SKB, 0, prog, license)
}

// BPFAttachCgroup has a program of BPFLoadCgroup decide for the sockets of a cgroup
// of version 2, and those below it, for as long as the link is open whose descriptor
// it returns (Linux 5.7, CONFIG_CGROUP_BPF).
func BPFAttachCgroup(prog, cgroup int) (int, error) {
	return bpf(BPF_LINK_CREATE, &bpfLinkCreate{ProgFD: uint32(prog), TargetFD: uint32(cgroup), AttachType: BPF_CGROUP_INET_INGRESS})
}

func bpfLoad(kind, flags uint32, prog []BPFInsn, license string) (int, error) {
	text := append([]byte(license), 0)
	return bpf(BPF_PROG_LOAD, &bpfProgLoad{
		ProgType: kind, InsnCnt: uint32(len(prog)), Insns: unsafe.SliceData(prog), License: &text[0], ProgFlags: flags,
	})
}

// bpfProgRun is the part of union bpf_attr for BPF_PROG_RUN.
type bpfProgRun struct {
	ProgFD, Retval          uint32
	DataSizeIn, DataSizeOut uint32
	DataIn, DataOut         uint64
	Repeat, Duration        uint32
	CtxSizeIn, CtxSizeOut   uint32
	CtxIn                   *uint64
	CtxOut                  uint64
	Flags, CPU, BatchSize   uint32
	_                       uint32
}

// BPFCall runs a program of BPFLoadCall, which reads and changes ctx.
func BPFCall(prog int, ctx []uint64) error {
	_, err := bpf(BPF_PROG_RUN, &bpfProgRun{ProgFD: uint32(prog), CtxSizeIn: uint32(8 * len(ctx)), CtxIn: unsafe.SliceData(ctx)})
	return err
}

// BPFAttachLast has a program of BPFLoadClassifier see what arrives at an interface, or
// leaves it (BPF_TCX_INGRESS, BPF_TCX_EGRESS), behind all that are there, for as long as
// the link is open whose descriptor it returns (Linux 6.6, CONFIG_NET_XGRESS). It needs
// CAP_NET_ADMIN.
func BPFAttachLast(prog, ifindex int, where uint32) (int, error) {
	return bpf(BPF_LINK_CREATE, &bpfLinkCreate{ProgFD: uint32(prog), TargetFD: uint32(ifindex), AttachType: where})
}

// BPFRoom tells why so many programs more could not see what arrives at an interface, or
// leaves it (BPF_TCX_INGRESS, BPF_TCX_EGRESS); nil: they could. To attach one takes long:
// the kernel waits until no packet is on its way that does not know of it. It needs
// CAP_NET_ADMIN.
func BPFRoom(ifindex int, where uint32, more int) error {
	q := bpfProgQuery{TargetFD: uint32(ifindex), AttachType: where}
	if _, err := bpf(BPF_PROG_QUERY, &q); err != nil {
		return err
	}
	if int(q.Count)+more >= BPF_MPROG_MAX { // bpf_mprog_max() is one less
		return unix.ERANGE
	}
	return nil
}

// BPFAttachFirst is BPFAttachLast before all that are there.
func BPFAttachFirst(prog, ifindex int, where uint32) (int, error) {
	return bpf(BPF_LINK_CREATE, &bpfLinkCreate{ProgFD: uint32(prog), TargetFD: uint32(ifindex), AttachType: where, Flags: BPF_F_BEFORE})
}

// BPFSockMap creates a map with room for one socket and returns its descriptor.
func BPFSockMap() (int, error) {
	return bpf(BPF_MAP_CREATE, &bpfMapCreate{MapType: BPF_MAP_TYPE_SOCKMAP, KeySize: 4, ValueSize: 4, MaxEntries: 1})
}

// BPFSetSock puts a socket into a map of BPFSockMap. UDP sockets must have a
// port (Linux 5.7).
func BPFSetSock(sockmap, sock int) error {
	var key uint32
	value := uint32(sock)
	_, err := bpf(BPF_MAP_UPDATE_ELEM, &bpfMapUpdate{MapFD: uint32(sockmap), Key: &key, Value: (*byte)(unsafe.Pointer(&value))})
	return err
}

// BPFClearSock takes the socket out of a map of BPFSockMap.
func BPFClearSock(sockmap int) error {
	var key uint32
	_, err := bpf(BPF_MAP_DELETE_ELEM, &bpfMapUpdate{MapFD: uint32(sockmap), Key: &key})
	return err
}
