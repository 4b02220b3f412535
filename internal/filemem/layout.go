package filemem

import (
	"fmt"

	"glis.dev/glis/internal/bpf"
)

// layout is where things are in the running kernel.
type layout struct {
	fown     bool   // struct fown_struct has no file: it is a part of struct file yet
	function uint32 // type of what calls programs for each file of a task
	file     int    // size of struct file
	// Offsets in struct file.
	inode, flags, pos, path int
	owner                   int    // of a pointer, since Linux 6.12; -1 before
	owned                   [4]int // offsets of i_ino, i_mode, i_flctx and i_sb in struct inode
	dev                     int    // offset of s_dev in struct super_block
	table                   [3]int // offsets of files in struct task_struct, fdt in struct files_struct, close_on_exec in struct fdtable
}

// Bounds on sizes and offsets that make sense.
const (
	maxFile   = 2048
	maxOffset = 1<<15 - 1
)

func findLayout(x *bpf.Types) (*layout, error) {
	l := &layout{owned: [4]int{-1, -1, -1, -1}, dev: -1, table: [3]int{-1, -1, -1}}
	var file bpf.Type
	err := x.Each(func(t *bpf.Type) bool {
		l.look(x, t, &file)
		return true
	})
	if err != nil {
		return nil, err
	}
	fields, err := x.Fields(&file, "f_inode", "f_flags", "f_pos", "f_path", "f_owner")
	if err != nil {
		return nil, err
	}
	l.inode, l.flags, l.pos, l.path, l.owner = fields[0].Offset, fields[1].Offset, fields[2].Offset, fields[3].Offset, fields[4].Offset
	if l.fown {
		l.owner = -1
	}
	if !l.sound() {
		return nil, fmt.Errorf("%w: the kernel has no iterator over a task's files", ErrUnavailable)
	}
	return l, nil
}

// look takes down what a type tells.
func (l *layout) look(x *bpf.Types, t *bpf.Type, file *bpf.Type) {
	switch {
	case t.Kind == bpf.KindFunc && x.Named(t, "bpf_iter_task_file"):
		l.function = t.ID
	case t.Kind != bpf.KindStruct || t.Size == 0:
	case x.Named(t, "file"):
		l.file, *file = int(t.Size), *t
	case x.Named(t, "fown_struct"):
		l.fown = x.Member(t, "file") < 0 // so since Linux 6.12
	case x.Named(t, "inode"):
		for i, name := range []string{"i_ino", "i_mode", "i_flctx", "i_sb"} {
			l.owned[i] = x.Member(t, name)
		}
	case x.Named(t, "super_block"):
		l.dev = x.Member(t, "s_dev")
	case x.Named(t, "task_struct"):
		l.table[0] = x.Member(t, "files")
	case x.Named(t, "files_struct"):
		l.table[1] = x.Member(t, "fdt")
	case x.Named(t, "fdtable"):
		l.table[2] = x.Member(t, "close_on_exec")
	}
}

func (l *layout) sound() bool {
	for _, n := range append(append(l.owned[:], l.dev), l.table[:]...) {
		if n < 0 || n > maxOffset {
			return false
		}
	}
	for _, n := range []int{l.inode, l.flags, l.pos, l.path} {
		if n < 0 || n+8 > l.file {
			return false
		}
	}
	return l.function != 0 && l.file <= maxFile && l.owner+8 <= l.file
}
