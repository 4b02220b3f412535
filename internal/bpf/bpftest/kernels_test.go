package bpftest

import (
	"encoding/binary"
	"flag"
	"os"
	"slices"
	"testing"

	"glis.dev/glis/internal/bpf"
)

var (
	from = flag.String("btf", "", "file with the types of a kernel (its /sys/kernel/btf/vmlinux), to write those of -release anew")
	as   = flag.String("release", "6.1", "of which kernel they are")
)

// kept are the structures whose places are looked up.
var kept = []string{
	"socket", "sock", "sock_common", "sock_reuseport", "sk_buff_head", "unix_sock", "file", "inode", "task_struct", "files_struct", "fdtable", "fown_struct",
	"tcp6_sock", "tcp_sock", "timer_list", "inet_sock", "inet_connection_sock", "tcp_options_received", "spinlock", "ipv6_pinfo", "udp_sock", "udp6_sock",
	"request_sock_queue", "fastopen_queue", "super_block", "cred", "group_info", "thread_struct", "thread_info", "sched_entity", "seccomp", "sigpending",
	"io_context", "pid", "upid", "vm_area_struct", "sem_undo_list", "tcp_congestion_ops", "proto",
}

// functions are those that call programs.
var functions = []string{"bpf_iter_task", "bpf_iter_task_file", "bpf_iter_task_vma", "bpf_iter_tcp"}

// Each kernel has them, but for what it lacks.
func TestKernels(t *testing.T) {
	if *from != "" {
		write(t)
	}
	for _, release := range Kernels() {
		x, err := bpf.Parse(Kernel(t, release))
		if err != nil {
			t.Fatal(err)
		}
		var names []bpf.Name
		for _, n := range kept {
			names = append(names, bpf.Name{Kind: bpf.KindStruct, Name: n})
		}
		for _, n := range functions {
			names = append(names, bpf.Name{Kind: bpf.KindFunc, Name: n})
		}
		found, err := x.Find(names...)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range found {
			if f.ID == 0 {
				t.Errorf("Linux %s: no %s", release, names[i].Name)
			}
		}
	}
}

// raw is a type as it is in a file.
type raw struct {
	name, info, size uint32
	rest             []uint32
}

func (r *raw) kind() uint8 { return uint8(r.info >> 24 & 31) }

// reduced writes some types of a kernel.
type reduced struct {
	t       *testing.T
	all     []raw
	pointer uint32 // one for all
	names   []byte
	ids     map[uint32]uint32 // in the file that is written, by that in the kernel's
	out     [][]uint32
	text    string
	texts   map[string]uint32
}

func write(t *testing.T) {
	b, err := os.ReadFile(*from)
	if err != nil {
		t.Fatal(err)
	}
	r := &reduced{t: t, ids: map[uint32]uint32{}, text: "\x00", texts: map[string]uint32{"": 0}}
	r.read(b)
	r.pointer = uint32(slices.IndexFunc(r.all, func(x raw) bool { return x.kind() == bpf.KindPointer }))
	for i := range r.all {
		x := &r.all[i]
		name := r.nameOf(x.name)
		if x.kind() == bpf.KindStruct && x.size > 0 && slices.Contains(kept, name) || x.kind() == bpf.KindFunc && slices.Contains(functions, name) {
			r.keep(uint32(i))
		}
	}
	b = File(slices.Concat(r.out...), r.text)
	if err := os.WriteFile("testdata/linux-"+*as+".btf", b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// read reads a whole file, see Documentation/bpf/btf.rst.
func (r *reduced) read(b []byte) {
	le := binary.LittleEndian
	head := le.Uint32(b[4:])
	types := b[head+le.Uint32(b[8:]):][:le.Uint32(b[12:])]
	r.names = b[head+le.Uint32(b[16:]):][:le.Uint32(b[20:])]
	own := map[uint8]int{1: 1, 3: 3, 14: 1, 17: 1}               // words that follow
	each := map[uint8]int{4: 3, 5: 3, 6: 2, 13: 2, 15: 3, 19: 3} // and for each member
	r.all = make([]raw, 1)                                       // void
	for len(types) > 0 {
		x := raw{name: le.Uint32(types), info: le.Uint32(types[4:]), size: le.Uint32(types[8:])}
		types = types[12:]
		for range own[x.kind()] + each[x.kind()]*int(x.info&0xffff) {
			x.rest, types = append(x.rest, le.Uint32(types)), types[4:]
		}
		r.all = append(r.all, x)
	}
}

func (r *reduced) nameOf(at uint32) string {
	b := r.names[at:]
	return string(b[:slices.Index(b, 0)])
}

func (r *reduced) textOf(at uint32) uint32 {
	name := r.nameOf(at)
	n, ok := r.texts[name]
	if !ok {
		n = uint32(len(r.text))
		r.texts[name], r.text = n, r.text+name+"\x00"
	}
	return n
}

// keep keeps a type and, of what it is made of, structures without a name, and which are
// pointers.
func (r *reduced) keep(id uint32) uint32 {
	id = r.plain(id)
	if r.all[id].kind() == bpf.KindPointer {
		id = r.pointer
	}
	if n, ok := r.ids[id]; ok {
		return n
	}
	x := &r.all[id]
	out := []uint32{r.textOf(x.name), x.info, x.size}
	at := len(r.out)
	r.out, r.ids[id] = append(r.out, nil), uint32(at+1)
	switch x.kind() {
	case bpf.KindStruct, bpf.KindUnion:
		for i := 0; i < len(x.rest); i += 3 {
			of := uint32(0)
			if r.inside(x.rest[i+1]) {
				of = r.keep(x.rest[i+1])
			}
			out = append(out, r.textOf(x.rest[i]), of, x.rest[i+2])
		}
	case bpf.KindPointer, bpf.KindFunc:
		out[2] = 0
	}
	r.out[at] = out
	return uint32(at + 1)
}

// plain is a type without other names, const, volatile and restrict, and tags.
func (r *reduced) plain(id uint32) uint32 {
	for slices.Contains([]uint8{bpf.KindTypedef, 9, 10, 11, 18}, r.all[id].kind()) {
		id = r.all[id].size
	}
	return id
}

// inside tells whether a member's type is kept.
func (r *reduced) inside(id uint32) bool {
	switch x := &r.all[r.plain(id)]; x.kind() {
	case bpf.KindStruct, bpf.KindUnion:
		return r.nameOf(x.name) == ""
	case bpf.KindPointer:
		return true
	}
	return false
}
