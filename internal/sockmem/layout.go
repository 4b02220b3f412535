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
}

// maxStruct is more bytes than any of the structures has.
const maxStruct = 4096

// maxOffset is more than where anything is that is asked for: struct
// task_struct is the largest.
const maxOffset = 64 << 10

// kernelLayout reads the layout from the kernel's type information: some 5 MB.
func kernelLayout() (*layout, error) {
	x, err := bpf.Kernel()
	if errors.Is(err, bpf.ErrBTF) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer x.Close() //nolint:errcheck // nothing was written
	return findLayout(x)
}

func findLayout(x *bpf.Types) (*layout, error) {
	l := &layout{sk: -1, queue: -1, length: -1, group: -1, program: -1, peer: [2]int{-1, -1}, err: -1, shutdown: -1, inode: -1, flags: -1, owned: [5]int{-1}, table: [3]int{-1, -1, -1}}
	err := x.Each(func(t *bpf.Type) bool {
		switch {
		case t.Kind == bpf.KindFunc && x.Named(t, "bpf_iter_task_file"):
			l.function = t.ID
		case t.Kind != bpf.KindStruct:
		case x.Named(t, "socket"):
			l.sk = x.Member(t, "sk")
		case x.Named(t, "sock"):
			l.queue, l.group = x.Member(t, "sk_receive_queue"), x.Member(t, "sk_reuseport_cb")
			l.err, l.shutdown = x.Member(t, "sk_err"), x.Member(t, "sk_shutdown")
			l.peer = [2]int{x.Member(t, "sk_peer_pid"), x.Member(t, "sk_peer_cred")}
		case x.Named(t, "sock_reuseport"):
			l.program = x.Member(t, "prog")
		case x.Named(t, "sk_buff_head"):
			l.length = x.Member(t, "qlen")
		case x.Named(t, "unix_sock"):
			l.sock = int(t.Size)
		case x.Named(t, "file"):
			l.file, l.inode, l.flags = int(t.Size), x.Member(t, "f_inode"), x.Member(t, "f_flags")
		case x.Named(t, "inode"):
			for i, name := range []string{"i_ino", "i_mode", "i_uid", "i_gid", "i_flctx"} {
				l.owned[i] = x.Member(t, name)
			}
		case x.Named(t, "task_struct"):
			l.table[0] = x.Member(t, "files")
		case x.Named(t, "files_struct"):
			l.table[1] = x.Member(t, "fdt")
		case x.Named(t, "fdtable"):
			l.table[2] = x.Member(t, "close_on_exec")
		}
		return !l.sound()
	})
	if err != nil {
		return nil, err
	}
	if !l.sound() {
		return nil, fmt.Errorf("%w: the kernel has no iterator over a task's files, or no unix sockets", ErrUnavailable)
	}
	return l, nil
}

func (l *layout) sound() bool {
	for _, n := range append([]int{l.sk, l.queue, l.length, l.program}, append(l.owned[:], l.table[:2]...)...) {
		if n < 0 || n > maxOffset {
			return false
		}
	}
	for _, n := range []int{l.group, l.err, l.shutdown, l.peer[0], l.peer[1]} {
		if !l.in(n) {
			return false
		}
	}
	fits := l.inode >= 0 && l.inode+8 <= l.file && l.flags >= 0 && l.flags+4 <= l.file && l.table[2] >= 0 && l.table[2] <= maxOffset
	return fits && l.function != 0 && l.sock <= maxStruct && l.file <= maxStruct && l.queue+l.length+4 <= l.sock
}

// in tells whether a word of 8 bytes at an offset is in struct unix_sock.
func (l *layout) in(n int) bool { return n >= 0 && n+8 <= l.sock }
