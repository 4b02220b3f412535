package file

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// CreateAll implements plan.Together: files that are found by their paths are opened
// by one system call.
func (n *regularNode) CreateAll(ctx context.Context, env *plan.Env, all []plan.Node, made func(i int, d *fd.FD, err error)) {
	var h linux.Hand
	if n.dir != nil && n.dir.files >= manyTogether {
		h = env.Rings.TakeRing()
		defer env.Rings.Give(h)
	}
	o := opening{env: env, h: h, made: made}
	for i, node := range all {
		if r, ok := node.(*regularNode); ok && r.together() && h.Waits() {
			o.add(i, r)
			continue
		}
		d, err := node.Create(ctx, env)
		made(i, d, err)
	}
	o.run()
}

// together tells whether a file may be opened by a ring, which says at first that it
// will not wait (O_NONBLOCK): a device, or who serves a file system, would see that.
func (n *regularNode) together() bool {
	mode := n.mode & unix.S_IFMT
	return n.remap == nil && n.dir != nil && (mode == unix.S_IFREG || mode == unix.S_IFDIR)
}

// manyTogether is from how many files in a directory on it pays to make a ring.
var manyTogether = 200

// opening are files that are about to be opened.
type opening struct {
	env  *plan.Env
	h    linux.Hand
	made func(i int, d *fd.FD, err error)
	list [16]waitingFile
	n    int
}

type waitingFile struct {
	i    int
	node *regularNode
	seen bool // it is known to be the one that it was
}

// add has a file be opened by the next run, or at once, if it is the one that it was.
func (o *opening) add(i int, r *regularNode) {
	if o.n == len(o.list) {
		o.run()
	}
	at, name := r.dir.place(r.name)
	seen, err := r.look(o.env, at, name)
	near := at != unix.AT_FDCWD && r.dir.near
	if err == nil && near {
		if _, full := o.h.Open(at, name, r.openFlags()); full == nil {
			o.list[o.n] = waitingFile{i, r, seen}
			o.n++
			return
		}
	}
	var d *fd.FD
	if err == nil {
		n, oerr := openat(near, at, name, r.openFlags())
		d, err = r.opened(o.env, seen, n, oerr)
	}
	r.dir.done()
	o.tell(i, r, d, err)
}

// run opens those that wait.
func (o *opening) run() {
	if o.n == 0 {
		return
	}
	_ = o.h.Run() // each has its own result
	results := o.h.Results()
	for k, w := range o.list[:o.n] {
		num, err := -1, error(nil)
		switch {
		case len(results) != o.n: // the ring itself failed
			at, name := w.node.dir.place(w.node.name)
			num, err = unix.Openat(at, name, w.node.openFlags(), 0)
		case results[k] < 0:
			err = unix.Errno(-results[k])
		default:
			num = int(results[k])
		}
		d, err := w.node.opened(o.env, w.seen, num, err)
		w.node.dir.done()
		o.tell(w.i, w.node, d, err)
	}
	o.n = 0
}

func (o *opening) tell(i int, r *regularNode, d *fd.FD, err error) {
	if err != nil {
		err = fmt.Errorf("%s: %w", r.name, err)
	}
	o.made(i, d, err)
}
