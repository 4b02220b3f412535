package sockmem

import (
	"fmt"
	"os"
)

const btfFile = "/sys/kernel/btf/vmlinux"

// layout is where things are in the running kernel.
type layout struct {
	function uint32 // type of what calls programs for each file of a task
	sk       int    // offset of sk in struct socket
	sock     int    // size of struct unix_sock, which begins with a struct sock
	file     int    // size of struct file
	queue    int    // offset of sk_receive_queue in struct sock
	length   int    // offset of qlen in struct sk_buff_head
}

// maxStruct is more bytes than any of the structures has.
const maxStruct = 4096

// kernelLayout reads the layout from the kernel's type information: some 5 MB.
func kernelLayout() (*layout, error) {
	b, err := os.ReadFile(btfFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	x, err := parseBTF(b)
	if err != nil {
		return nil, err
	}
	return x.layout()
}

func (x *btfInfo) layout() (*layout, error) {
	l := &layout{sk: -1, queue: -1, length: -1}
	err := x.each(func(t *btfType) bool {
		switch {
		case t.kind == btfFunc && x.named(t.at, "bpf_iter_task_file"):
			l.function = t.id
		case t.kind != btfStruct:
		case x.named(t.at, "socket"):
			l.sk = x.member(t, "sk")
		case x.named(t.at, "sock"):
			l.queue = x.member(t, "sk_receive_queue")
		case x.named(t.at, "sk_buff_head"):
			l.length = x.member(t, "qlen")
		case x.named(t.at, "unix_sock"):
			l.sock = int(t.size)
		case x.named(t.at, "file"):
			l.file = int(t.size)
		}
		return l.function == 0 || l.sk < 0 || l.sock == 0 || l.file == 0 || l.queue < 0 || l.length < 0
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
	return l.function != 0 && in(l.sk) && in(l.sock) && in(l.file) && l.file > 0 && in(l.queue) && in(l.length) && l.queue+l.length+4 <= l.sock
}
