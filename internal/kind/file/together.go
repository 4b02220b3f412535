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
		h = env.Rings.Take()
		defer env.Rings.Give(h)
	}
	o := opening{env: env, h: h, made: made}
	for i, node := range all {
		if r, ok := node.(*regularNode); ok && r.remap == nil && h.Waits() {
			o.add(i, r)
			continue
		}
		d, err := node.Create(ctx, env)
		made(i, d, err)
	}
	o.run()
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
}

// add has a file be opened by the next run, if it is the one that it was.
func (o *opening) add(i int, r *regularNode) {
	if o.n == len(o.list) {
		o.run()
	}
	at, name := r.dir.place(r.entry.GetName())
	err := r.look(o.env, at, name)
	if err == nil {
		_, err = o.h.Open(at, name, r.openFlags())
	}
	if err == unix.ENOBUFS { // names that long are rare
		var d *fd.FD
		d, err = r.opened(unix.Openat(at, name, r.openFlags(), 0))
		r.dir.done()
		o.tell(i, r, d, err)
		return
	}
	if err != nil {
		r.dir.done()
		o.tell(i, r, nil, err)
		return
	}
	o.list[o.n] = waitingFile{i, r}
	o.n++
}

// run opens those that wait.
func (o *opening) run() {
	if o.n == 0 {
		return
	}
	failed := o.h.Run()
	results := o.h.Results()
	for k, w := range o.list[:o.n] {
		var d *fd.FD
		err := failed
		if len(results) == o.n {
			num := int(results[k])
			if err = nil; num < 0 {
				err = unix.Errno(-num)
			}
			d, err = w.node.opened(num, err)
		}
		w.node.dir.done()
		o.tell(w.i, w.node, d, err)
	}
	o.n = 0
}

func (o *opening) tell(i int, r *regularNode, d *fd.FD, err error) {
	if err != nil {
		err = fmt.Errorf("%s: %w", r.entry.GetName(), err)
	}
	o.made(i, d, err)
}
