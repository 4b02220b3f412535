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
	group    int    // offset of sk_reuseport_cb in struct sock
	program  int    // offset of prog in struct sock_reuseport
}

// maxStruct is more bytes than any of the structures has.
const maxStruct = 4096

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
	l := &layout{sk: -1, queue: -1, length: -1, group: -1, program: -1, err: -1, shutdown: -1, peer: [2]int{-1, -1}}
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
			l.file = int(t.Size)
		}
		return l.function == 0 || l.sk < 0 || l.sock == 0 || l.file == 0 || l.queue < 0 || l.length < 0 || l.group < 0 || l.program < 0
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
	in := func(n int) bool { return n >= 0 && n <= maxStruct }
	return l.function != 0 && in(l.sk) && in(l.sock) && in(l.file) && l.file > 0 && in(l.queue) && in(l.length) && in(l.program) && l.in(l.peer[0]) && l.in(l.err) && l.in(l.shutdown) && l.in(l.peer[1]) && in(l.group) && l.group+8 <= l.sock && l.queue+l.length+4 <= l.sock
}

// in tells whether a word of 8 bytes at an offset is in struct unix_sock.
func (l *layout) in(n int) bool { return n >= 0 && n+8 <= l.sock }
