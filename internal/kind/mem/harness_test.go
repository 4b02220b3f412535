package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/stub"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/internal/tracee"
	"glis.dev/glis/internal/vmamem"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

// start runs the target with so many children and waits until all of the tree
// are where they want to be.
func start(t testing.TB, program string, count int, args ...string) *testkit.Proc {
	t.Helper()
	testkit.RequireRoot(t)
	dir := testkit.NewDir(t)
	fifo := filepath.Join(dir, "ready")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ready, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	p := testkit.Start(t, dir, append([]string{testkit.BuildC(t, program), fifo}, args...)...)
	var b [1]byte
	for range count {
		if _, err := ready.Read(b[:]); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// sink puts entries straight into images.
type sink struct{ store image.Store }

func (s sink) Put(row *image.Row, m proto.Message, _ []byte, ids ...uint32) error {
	return image.WriteOne(s.store, row, m, ids...)
}

// files numbers the files of a tree, as the stage of that name does.
type files struct{ tree *scan.Tree }

func (f files) Received(*fd.FD, *scan.File) (*scan.File, error) {
	return nil, errors.New("no file is received")
}

func (f files) Named(*scan.File) {}

func (f files) Linked(t *scan.Task, path string, flags uint32) (*scan.File, error) {
	file := &scan.File{ID: uint32(len(f.tree.Files)) + 1, Task: t, FD: -1, Beside: path, Flags: flags}
	if err := file.Stat.At(t.Dir.Fd(), path); err != nil {
		return nil, err
	}
	for _, k := range f.tree.Files {
		if k.Stat.Dev == file.Stat.Dev && k.Stat.Ino == file.Stat.Ino && k.Flags == flags {
			return k, nil
		}
	}
	var err error
	file.Link, err = t.Dir.Link(path)
	f.tree.Files = append(f.tree.Files, file)
	return file, err
}

func (f files) Mapped(t *scan.Task, v *proc.VMA, flags uint32) (*scan.File, error) {
	return f.Linked(t, v.MapFile(), flags)
}

// dumped is a frozen tree and its images.
type frozen struct {
	env    *kind.DumpEnv
	spaces []*Space
	store  *image.Dir
	stats  Stats
}

// freeze stops a tree of single-threaded tasks, parents first. Call it on the
// tracer's thread.
func freeze(root int) (*scan.Tree, error) {
	tree := &scan.Tree{}
	for _, pid := range testkit.Tree(root) {
		th := &scan.Thread{Thread: remote.Thread{Tgid: proc.PID(pid), TID: proc.TID(pid)}}
		if err := tracee.Seize(th.TID, linux.PTRACE_O_TRACESYSGOOD); err != nil {
			return nil, err
		}
		if err := tracee.Interrupt(th.TID); err != nil {
			return nil, err
		}
		if _, err := tracee.WaitTrap(th.TID); err != nil {
			return nil, err
		}
		task := &scan.Task{PID: th.Tgid, VPID: scan.VPID(pid), Threads: []*scan.Thread{th}}
		if err := look(task); err != nil {
			return nil, err
		}
		task.Parent = tree.Task(task.Stat.PPID)
		tree.Add(task)
	}
	return tree, nil
}

func look(t *scan.Task) (err error) {
	th := t.Threads[0]
	if th.Regs, err = tracee.Regs(th.TID); err != nil {
		return err
	}
	if th.Mask, err = tracee.Sigmask(th.TID); err != nil {
		return err
	}
	th.SetSignal(unix.SIGURG)
	if t.Dir, err = proc.Open(t.PID); err != nil {
		return err
	}
	if t.Stat, err = t.Dir.Stat(); err != nil {
		return err
	}
	t.VMAs, err = vmamem.Smaps(t.Dir)
	return err
}

// save dumps a frozen tree's memory into dir.
func save(tree *scan.Tree, dir string) (*frozen, error) {
	f, err := describeAll(tree, dir)
	if err != nil {
		return nil, err
	}
	f.stats, err = Pages(context.Background(), f.env, f.spaces, f.store)
	return f, err
}

// describeAll dumps all but the contents. The answers of Ask come from an
// injected batch.
func describeAll(tree *scan.Tree, dir string) (*frozen, error) {
	store, err := image.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	f := &frozen{store: store, env: &kind.DumpEnv{Log: slog.New(slog.DiscardHandler), Tree: tree, Files: files{tree}, Images: sink{store}}}
	for _, t := range tree.Tasks {
		s, err := Dump(context.Background(), f.env, t)
		if err != nil {
			return nil, err
		}
		if err := ask(f.env, t, s); err != nil {
			return nil, err
		}
		if err := image.WriteOne(store, image.MM, s.Entry, s.PID); err != nil {
			return nil, err
		}
		f.spaces = append(f.spaces, s)
	}
	return f, nil
}

func ask(env *kind.DumpEnv, t *scan.Task, s *Space) error {
	var insn remote.Addr
	var err error
	for _, v := range t.VMAs {
		if v.Name == "[vdso]" {
			insn, err = remote.FindSyscall(t.PID, remote.Addr(v.Start), remote.Addr(v.End))
		}
	}
	if err != nil {
		return err
	}
	th := &t.Threads[0].Thread
	a, err := remote.MapArena(th, insn, 0, 1<<16)
	if err != nil {
		return err
	}
	b := a.Batch(th)
	answer := Ask(&kind.Question{Env: env, Task: t, Thread: t.Threads[0], Batch: b})
	if err := b.Run(); err != nil {
		return err
	}
	told, err := answer()
	if err != nil {
		return err
	}
	told.Put(s.Entry)
	s.List()
	if err := a.Unmap(th, insn); err != nil {
		return err
	}
	return th.Restore()
}

// copyOf is a task whose memory was made from images.
type copyOf struct {
	space  *Space
	thread *remote.Thread
	arena  *remote.Arena
	stats  Stats
}

// rebuild makes the memory of all tasks of a dump again, in processes that
// are cloned as a restore does it, under other numbers.
func rebuild(f *frozen) ([]*copyOf, error) {
	var spaces []*Space
	for _, s := range f.spaces {
		r, err := Read(f.store, s.PID)
		if err != nil {
			return nil, err
		}
		spaces = append(spaces, r)
	}
	if err := CheckVdso(spaces...); err != nil {
		return nil, err
	}
	by, err := startStub(spaces)
	if err != nil {
		return nil, err
	}
	var out []*copyOf
	made := map[*scan.Task]*copyOf{}
	for i, s := range spaces {
		c := &copyOf{space: s}
		from, parent := by, made[f.spaces[i].task.Parent]
		if parent != nil {
			from = parent
		}
		if err := c.clone(from); err != nil {
			return nil, err
		}
		var up *Space
		if parent != nil {
			up = parent.space
		}
		if err := c.make(f, up); err != nil {
			return nil, fmt.Errorf("task %d: %w", s.PID, err)
		}
		out, made[f.spaces[i].task] = append(out, c), c
	}
	for _, c := range out {
		if err := c.finish(f); err != nil {
			return nil, fmt.Errorf("task %d: %w", c.space.PID, err)
		}
	}
	return out, nil
}

// startStub starts the process that the copies are cloned from.
func startStub(spaces []*Space) (*copyOf, error) {
	size := uint64(1 << 20)
	for _, s := range spaces {
		size = max(size, 1<<20+s.BatchSize())
	}
	size = (size + page - 1) &^ (page - 1)
	at, err := Hole(spaces, size+stub.Size+page, 0x10000)
	if err != nil {
		return nil, err
	}
	line, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(line[0]) // the stub ends when this happens before it is stopped
	defer unix.Close(line[1])
	th, err := stub.Start(stub.Options{At: at, Socket: line[1]})
	if err != nil {
		return nil, err
	}
	arena, err := remote.MapArena(th, stub.Syscall(at), at+stub.Size+page, size)
	return &copyOf{thread: th, arena: arena}, err
}

func (c *copyOf) clone(by *copyOf) error {
	b := by.arena.Batch(by.thread)
	args := linux.CloneArgs{Flags: linux.CLONE_PTRACE, ExitSignal: uint64(unix.SIGCHLD)}
	call := b.Call("clone3", unix.SYS_CLONE3, uint64(b.Bytes(args.Bytes())), linux.CloneArgsSize)
	if err := b.Run(); err != nil {
		return err
	}
	pid, err := call.Result()
	if err != nil {
		return err
	}
	by.arena = by.arena.Inherit(by.thread.Tgid)
	c.thread = &remote.Thread{Tgid: proc.PID(pid), TID: proc.TID(pid), Regs: by.thread.Regs}
	c.thread.SetSignal(unix.SIGURG)
	c.arena = by.arena.Inherit(c.thread.Tgid)
	if _, err := tracee.WaitTrap(c.thread.TID); err != nil {
		return err
	}
	c.thread.Regs, err = tracee.Regs(c.thread.TID)
	return err
}

// make maps and fills. The files are opened in the task, through the paths
// that the dump knows.
func (c *copyOf) make(f *frozen, parent *Space) error {
	b := c.arena.Batch(c.thread)
	c.space.Clear(b, parent, Range{Start: c.arena.Base(), Size: c.arena.Size()})
	next := uint64(0)
	if parent == nil {
		b.Call("close", unix.SYS_CLOSE, stub.Socket)
	}
	numbers := map[Use]uint64{}
	for _, u := range c.space.Files() {
		c.open(b, f, u)
		numbers[u] = next
		next++
	}
	if err := c.space.Map(b, func(u Use) uint64 { return numbers[u] }, parent); err != nil {
		return err
	}
	for n := range next {
		b.Call("close", unix.SYS_CLOSE, n)
	}
	if err := b.Run(); err != nil {
		return err
	}
	c.arena = c.arena.Inherit(c.thread.Tgid)
	var err error
	c.stats, err = c.space.Fill(context.Background(), c.thread.Tgid, f.store)
	return err
}

func (c *copyOf) open(b *remote.Batch, f *frozen, u Use) {
	file := f.env.Tree.Files[u.ID-1]
	path := fmt.Sprintf("/proc/%d/%s", file.Task.PID, file.Path())
	b.Call("openat", unix.SYS_OPENAT, 0, uint64(b.String(path)), uint64(u.Access), 0) // absolute: no folder needed
}

func (c *copyOf) finish(f *frozen) error {
	b := c.arena.Batch(c.thread)
	c.open(b, f, Use{ID: plan.ID(c.space.Entry.GetExeFileId())})
	c.space.Finish(b, 0)
	b.Call("close", unix.SYS_CLOSE, 0)
	if err := b.Run(); err != nil {
		return err
	}
	insn := c.insn()
	return c.arena.Unmap(c.thread, insn)
}

func (c *copyOf) insn() remote.Addr {
	v, _ := c.space.kernels()
	at, err := remote.FindSyscall(c.thread.Tgid, remote.Addr(v.Start), remote.Addr(v.End))
	if err != nil {
		panic(err)
	}
	return at
}

// inspect runs f on the tracer's thread; what it still holds there is let go.
func inspect(t *testing.T, f func() error) {
	t.Helper()
	if err := tracee.Run(f); err != nil {
		t.Fatal(err)
	}
}

// sameMemory compares the mappings and contents of two processes.
func sameMemory(a, b proc.PID) error {
	left, err := vmasOf(a)
	if err != nil {
		return err
	}
	right, err := vmasOf(b)
	if err != nil {
		return err
	}
	left, right = join(left), join(right)
	for i := range max(len(left), len(right)) {
		if i >= len(left) || i >= len(right) || describe(&left[i]) != describe(&right[i]) {
			return fmt.Errorf("mapping %d:\n%s\n%s", i, at(left, i), at(right, i))
		}
	}
	for i := range left {
		if err := sameContents(a, b, &left[i]); err != nil {
			return err
		}
	}
	return nil
}

// join joins neighbours that differ in nothing: whether the kernel does
// depends on how they came about.
func join(all []proc.VMA) []proc.VMA {
	var out []proc.VMA
	for _, v := range all {
		if n := len(out); n > 0 && out[n-1].End == v.Start && v.Inode == 0 {
			w := out[n-1]
			w.Start, w.End = v.Start, v.End
			if describe(&w) == describe(&v) {
				out[n-1].End = v.End
				continue
			}
		}
		out = append(out, v)
	}
	return out
}

func vmasOf(pid proc.PID) ([]proc.VMA, error) {
	d, err := proc.Open(pid)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return vmamem.Smaps(d)
}

func describe(v *proc.VMA) string {
	return fmt.Sprintf("%v off %x prot %x shared %v flags [%v] %v", v, v.Offset, v.Prot, v.Shared, v.Flags&^(proc.VmSoftDirty|proc.VmAccount), v.Inode)
}

func at(all []proc.VMA, i int) string {
	if i >= len(all) {
		return "none"
	}
	return describe(&all[i])
}

func sameContents(a, b proc.PID, v *proc.VMA) error {
	if v.Name == "[vsyscall]" || v.Name == "[vvar]" || v.Name == "[vvar_vclock]" {
		return nil
	}
	ma, err := remote.OpenMem(a)
	if err != nil {
		return err
	}
	defer ma.Close()
	mb, err := remote.OpenMem(b)
	if err != nil {
		return err
	}
	defer mb.Close()
	var pa, pb [page]byte
	for at := v.Start; at < v.End; at += page {
		_, ea := ma.ReadAt(pa[:], int64(at))
		_, eb := mb.ReadAt(pb[:], int64(at))
		if (ea == nil) != (eb == nil) {
			return fmt.Errorf("%v: page %x: %v here, %v there", v, at, ea, eb)
		}
		if ea == nil && !bytes.Equal(pa[:], pb[:]) {
			i := 0
			for pa[i] == pb[i] {
				i++
			}
			i = min(i, page-16) &^ 7
			return fmt.Errorf("%v: differs from %x on: %x… and %x…", v, at+uint64(i), pa[i:i+16], pb[i:i+16])
		}
	}
	return nil
}

// own returns the pages that a task has of its own, by address.
func own(pid proc.PID) ([]pages.Span, error) {
	d, err := proc.Open(pid)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	vmas, err := d.Maps()
	if err != nil {
		return nil, err
	}
	sc, err := pages.OpenScanner(d)
	if err != nil {
		return nil, err
	}
	defer sc.Close()
	var areas []pages.Area
	for _, v := range vmas {
		if !v.Shared && v.Name != "[vsyscall]" && v.Name != "[vvar]" && v.Name != "[vvar_vclock]" {
			areas = append(areas, pages.Area{Span: pages.Span{Start: v.Start, End: v.End}})
		}
	}
	var out []pages.Span
	err = sc.Scan(areas, func(_ int, s pages.Span, guard bool) {
		if !guard {
			out = add(out, s)
		}
	})
	return out, err
}
