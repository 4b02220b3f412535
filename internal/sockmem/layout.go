package sockmem

import (
	"errors"
	"fmt"

	"glis.dev/glis/internal/bpf"
)

// layout is where things are in the running kernel.
type layout struct {
	function uint32 // type of what calls programs for each file of a task
	sk       int    // offset of sk in struct socket
	passing  int    // offset of flags there, which SO_PASSCRED and its like are in before Linux 6.16; -1 since then
	sock     int    // size of struct unix_sock, which begins with a struct sock
	file     int    // size of struct file
	queue    int    // offset of sk_receive_queue in struct sock
	length   int    // offset of qlen in struct sk_buff_head
	peer     [2]int // offsets of sk_peer_pid and sk_peer_cred in struct sock
	err      int    // offset of sk_err in struct sock
	shutdown int    // offset of sk_shutdown in struct sock
	inode    int    // offset of f_inode in struct file
	flags    int    // offset of f_flags there
	owned    [5]int // offsets of i_ino, i_mode, i_uid, i_gid and i_flctx in struct inode
	table    [3]int // offsets of files in struct task_struct, fdt in struct files_struct, close_on_exec in struct fdtable
	group    int    // offset of sk_reuseport_cb in struct sock
	program  int    // offset of prog in struct sock_reuseport
	family   int    // offset of skc_family in struct sock_common, which struct sock begins with
	owner    [2]int // offsets of words in struct file that are 0 if it has no owner and no signal
}

// maxStruct is more bytes than any of the structures has.
const maxStruct = 4096

// maxOffset is more than where anything is that is asked for: struct
// task_struct is the largest.
const maxOffset = 64 << 10

// kernelLayout reads the layout from the kernel's type information: some 5 MB.
func kernelLayout() (*layout, error) {
	x, err := kernelBTF()
	if err != nil {
		return nil, err
	}
	defer x.Close() //nolint:errcheck // nothing was written
	return findLayout(x)
}

// Structures of the kernel that are looked at, and how struct file tells of its
// owner.
const (
	inSocket = iota
	inSock
	inCommon
	inReuseport
	inQueue
	inUnix
	inFile
	inInode
	inTask
	inFiles
	inTable
	inOwner
	inFunction
)

var structures = []bpf.Name{
	inSocket: structNamed("socket"), inSock: structNamed("sock"), inCommon: structNamed("sock_common"),
	inReuseport: structNamed("sock_reuseport"), inQueue: structNamed("sk_buff_head"),
	inUnix: structNamed("unix_sock"), inFile: structNamed("file"), inInode: structNamed("inode"),
	inTask: structNamed("task_struct"), inFiles: structNamed("files_struct"), inTable: structNamed("fdtable"),
	inOwner: structNamed("fown_struct"), inFunction: {Kind: bpf.KindFunc, Name: "bpf_iter_task_file"},
}

// kernelBTF opens the kernel's type information.
func kernelBTF() (*bpf.Types, error) {
	x, err := bpf.Kernel()
	if err != nil && !errors.Is(err, bpf.ErrBTF) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return x, err
}

func findLayout(x *bpf.Types) (*layout, error) {
	t, err := x.Find(structures...)
	if err != nil {
		return nil, err
	}
	at := func(in int, name string) int { return x.Member(&t[in], name) }
	l := &layout{
		function: t[inFunction].ID, sk: at(inSocket, "sk"), sock: int(t[inUnix].Size), file: int(t[inFile].Size),
		queue: at(inSock, "sk_receive_queue"), group: at(inSock, "sk_reuseport_cb"), err: at(inSock, "sk_err"), shutdown: at(inSock, "sk_shutdown"),
		peer: [2]int{at(inSock, "sk_peer_pid"), at(inSock, "sk_peer_cred")}, family: at(inCommon, "skc_family"),
		program: at(inReuseport, "prog"), length: at(inQueue, "qlen"), inode: at(inFile, "f_inode"), flags: at(inFile, "f_flags"),
		table: [3]int{at(inTask, "files"), at(inFiles, "fdt"), at(inTable, "close_on_exec")},
	}
	for i, name := range []string{"i_ino", "i_mode", "i_uid", "i_gid", "i_flctx"} {
		l.owned[i] = at(inInode, name)
	}
	if l.passing, err = findPassing(x, &t[inSocket], &t[inSock]); err != nil {
		return nil, err
	}
	if err := l.findOwner(x, &t[inFile], &t[inOwner]); err != nil {
		return nil, err
	}
	if !l.sound() {
		return nil, fmt.Errorf("%w: the kernel has no iterator over a task's files, or no unix sockets", ErrUnavailable)
	}
	return l, nil
}

// findPassing finds the flags of a struct socket that are options, where struct sock has
// none for them.
func findPassing(x *bpf.Types, socket, sock *bpf.Type) (int, error) {
	f, err := x.Fields(sock, "sk_scm_recv_flags")
	if err != nil || f[0].Offset >= 0 {
		return -1, err
	}
	return x.Member(socket, "flags"), nil
}

// findOwner finds what is not 0 in a struct file that has an owner or a signal
// (F_SETOWN, F_SETSIG): the address of a struct fown_struct since Linux 6.12,
// before the structure itself.
func (l *layout) findOwner(x *bpf.Types, file, owner *bpf.Type) error {
	at := x.Member(file, "f_owner")
	if pointer, err := x.IsPointer(file, "f_owner"); err != nil || pointer || at < 0 {
		l.owner = [2]int{at, at}
		return err
	}
	pid, signal := x.Member(owner, "pid"), x.Member(owner, "signum")
	if pid < 0 || signal < 4 {
		l.owner = [2]int{-1, -1}
		return nil
	}
	// A signal is the later half of the word that is looked at, which nothing
	// but its owner's numbers shares.
	l.owner = [2]int{at + pid, at + signal - 4}
	return nil
}

func (l *layout) sound() bool {
	for _, n := range append([]int{l.sk, l.queue, l.length, l.program}, append(l.owned[:], l.table[:2]...)...) {
		if n < 0 || n > maxOffset {
			return false
		}
	}
	for _, n := range []int{l.group, l.err, l.shutdown, l.peer[0], l.peer[1], l.family} {
		if !l.in(n) {
			return false
		}
	}
	for _, n := range l.owner {
		if n < 0 || n+8 > l.file {
			return false
		}
	}
	fits := l.passing <= maxOffset && l.inode >= 0 && l.inode+8 <= l.file && l.flags >= 0 && l.flags+4 <= l.file && l.table[2] >= 0 && l.table[2] <= maxOffset
	return fits && l.function != 0 && l.sock <= maxStruct && l.file <= maxStruct && l.queue+l.length+4 <= l.sock
}

// in tells whether a word of 8 bytes at an offset is in struct unix_sock.
func (l *layout) in(n int) bool { return n >= 0 && n+8 <= l.sock }
