package filemem

import (
	"fmt"

	"glis.dev/glis/internal/bpf"
)

// layout is where things are in the running kernel.
type layout struct {
	fown     bool   // struct fown_struct has no file (so before Linux 6.12): it is a part of struct file
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

// Where they are in the list of structures.
const (
	inFunction = iota
	inFile
	inOwner
	inInode
	inSuper
	inTask
	inFiles
	inTable
)

var structures = []bpf.Name{
	inFunction: {Kind: bpf.KindFunc, Name: "bpf_iter_task_file"},
	inFile:     {Kind: bpf.KindStruct, Name: "file"}, inOwner: {Kind: bpf.KindStruct, Name: "fown_struct"},
	inInode: {Kind: bpf.KindStruct, Name: "inode"}, inSuper: {Kind: bpf.KindStruct, Name: "super_block"},
	inTask: {Kind: bpf.KindStruct, Name: "task_struct"}, inFiles: {Kind: bpf.KindStruct, Name: "files_struct"},
	inTable: {Kind: bpf.KindStruct, Name: "fdtable"},
}

func findLayout(x *bpf.Types) (*layout, error) {
	t, err := x.Find(structures...)
	if err != nil {
		return nil, err
	}
	fields, err := x.Fields(&t[inFile], "f_inode", "f_flags", "f_pos", "f_path", "f_owner")
	if err != nil {
		return nil, err
	}
	at := func(in int, name string) int { return x.Member(&t[in], name) }
	l := &layout{function: t[inFunction].ID, file: int(t[inFile].Size), fown: t[inOwner].ID != 0 && at(inOwner, "file") < 0, dev: at(inSuper, "s_dev")}
	l.table = [3]int{at(inTask, "files"), at(inFiles, "fdt"), at(inTable, "close_on_exec")}
	for i, name := range []string{"i_ino", "i_mode", "i_flctx", "i_sb"} {
		l.owned[i] = at(inInode, name)
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
