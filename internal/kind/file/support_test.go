package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// images is a Sink and a Source in memory.
type images struct {
	rows map[string][]plan.Entry
}

func (i *images) Put(row *image.Row, m proto.Message, payload []byte, ids ...uint32) error {
	if i.rows == nil {
		i.rows = map[string][]plan.Entry{}
	}
	name := row.FileName(ids...)
	i.rows[name] = append(i.rows[name], plan.Entry{Message: m, Payload: payload})
	return nil
}

func (i *images) Entries(row *image.Row, ids ...uint32) ([]plan.Entry, error) {
	return i.rows[row.FileName(ids...)], nil
}

// target is a process that is dumped, as the stages of a dump would have it.
type target struct {
	t     *testing.T
	tree  *scan.Tree
	task  *scan.Task
	env   *kind.DumpEnv
	im    *images
	kinds []kind.File
}

// allKinds is the list in internal/kinds, sockets aside.
func allKinds() []kind.File {
	return []kind.File{PathOnly{}, &Pipe{}, &Fifo{}, &Eventfd{}, &Epoll{}, &Timerfd{}, &Signalfd{}, &Pidfd{}, &Inotify{}, &Fanotify{}, &TTY{}, &Memfd{}, &Regular{}, &Unknown{}}
}

// look makes a target of a process, the test's own if pid is that.
func newTarget(t *testing.T, pid int) *target {
	t.Helper()
	dir, err := proc.Open(proc.PID(pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	pidfd := fd.New(n)
	t.Cleanup(func() { pidfd.Close(); dir.Close() })
	stat, err := dir.Stat()
	if err != nil {
		t.Fatal(err)
	}
	task := &scan.Task{PID: proc.PID(pid), VPID: scan.VPID(pid), Dir: dir, Pidfd: pidfd, Stat: stat}
	g := &target{t: t, tree: &scan.Tree{Root: task}, task: task, im: &images{}, kinds: allKinds()}
	g.tree.Add(task)
	g.env = &kind.DumpEnv{Guard: noGuard{}, Log: slog.New(slog.DiscardHandler), Options: &options.Dump{GhostLimit: 1 << 20}, Undo: func(_ string, f func() error) { t.Cleanup(func() { f() }) }, Tree: g.tree, Images: g.im, Files: g}
	return g
}

func self(t *testing.T) *target { return newTarget(t, os.Getpid()) }

// add makes a descriptor of the target known.
func (g *target) add(n int) *scan.File {
	g.t.Helper()
	f := &scan.File{Task: g.task, FD: int32(n)}
	info, err := g.task.Dir.FDInfo(f.FD)
	if err != nil {
		g.t.Fatal(err)
	}
	f.Told, f.Pos, f.Flags, f.MntID = &info, info.Pos, info.Flags&^unix.O_CLOEXEC, info.MntID
	f.Users = []scan.User{{Task: g.task, FD: f.FD}}
	g.finish(f)
	g.task.FDs = append(g.task.FDs, scan.Ref{FD: f.FD, File: f})
	slices.SortFunc(g.task.FDs, func(a, b scan.Ref) int { return int(a.FD - b.FD) })
	return f
}

func (g *target) finish(f *scan.File) {
	g.t.Helper()
	var err error
	if f.Link, err = g.task.Dir.Link(f.Path()); err != nil {
		g.t.Fatal(err)
	}
	if err := f.Stat.At(g.task.Dir.Fd(), f.Path()); err != nil {
		g.t.Fatal(err)
	}
	g.tree.AddFile(f)
}

// Linked implements kind.Files.
func (g *target) Linked(_ *scan.Task, path string, flags uint32) (*scan.File, error) {
	f := &scan.File{Task: g.task, FD: -1, Beside: path, Flags: flags, MntID: -1}
	g.finish(f)
	return f, nil
}

// Mapped implements kind.Files.
func (g *target) Mapped(t *scan.Task, v *proc.VMA, flags uint32) (*scan.File, error) {
	return g.Linked(t, v.MapFile(), flags)
}

// Named implements kind.Files.
func (g *target) Received(*fd.FD, *scan.File) (*scan.File, error) {
	return nil, errors.New("no file is received")
}

func (g *target) Named(f *scan.File) {
	g.tree.AddFile(f)
}

// dump dumps all files, as internal/dump does.
func (g *target) dump() error {
	for i := 0; i < len(g.tree.Files); i++ {
		f := g.tree.Files[i]
		for _, k := range g.kinds {
			if !k.Match(f) {
				continue
			}
			e, err := k.Dump(context.Background(), g.env, f)
			if err != nil {
				return err
			}
			e.Type, e.Id = k.Type().Enum(), proto.Uint32(f.ID)
			if err := g.im.Put(image.Files, e, nil); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

func (g *target) mustDump() {
	g.t.Helper()
	if err := g.dump(); err != nil {
		g.t.Fatal(err)
	}
	for name, all := range g.im.rows {
		for _, e := range all {
			if _, err := proto.Marshal(e.Message); err != nil {
				g.t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// redo is a restore of files in the test's own process.
type redo struct {
	t    *testing.T
	plan *plan.Plan
	env  *plan.Env
	made map[plan.ID]*fd.FD
}

// plannedNodes is what images are planned to be.
func plannedNodes(t testing.TB, im *images) []plan.Node {
	t.Helper()
	p, err := planAll(im, &options.Restore{})
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := p.Nodes()
	if err != nil {
		t.Fatal(err)
	}
	return nodes
}

// planAll is the planning stage of a restore.
func planAll(im *images, o *options.Restore) (*plan.Plan, error) {
	p := plan.New(im, o)
	kinds := allKinds()
	all, err := im.Entries(image.Files)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		m := e.Message.(*fdinfo.FileEntry)
		i := slices.IndexFunc(kinds, func(k kind.File) bool { return k.Type() == m.GetType() })
		if i < 0 {
			return nil, fmt.Errorf("no kind %v", m.GetType())
		}
		if err := kinds[i].Plan(p, m); err != nil {
			return nil, err
		}
	}
	if _, err := p.Nodes(); err != nil {
		return nil, err
	}
	for _, k := range kinds {
		if k, ok := k.(kind.Planner); ok {
			err = errors.Join(err, k.Planned())
		}
	}
	return p, err
}

func newRedo(t *testing.T, im *images) *redo {
	t.Helper()
	o := &options.Restore{}
	for i, e := range testkit.Twins(t, filesOf(im.rows[image.Files.FileName()])) {
		im.rows[image.Files.FileName()][i].Message = e
	}
	p, err := planAll(im, o)
	if err != nil {
		t.Fatal(err)
	}
	r := &redo{t: t, plan: p, made: map[plan.ID]*fd.FD{}}
	dir, err := image.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r.env = &plan.Env{Log: slog.New(slog.DiscardHandler), Options: o, Store: dir}
	r.env.File = func(id plan.ID) (*fd.FD, error) {
		if d := r.made[id]; d != nil {
			return d, nil
		}
		return nil, fmt.Errorf("file %#x: not created yet", id)
	}
	t.Cleanup(func() {
		for _, d := range r.made {
			d.Close()
		}
		dir.Close()
	})
	return r
}

// create makes all files and returns them by number.
func (r *redo) create() error {
	nodes, err := r.plan.Nodes()
	if err != nil {
		return err
	}
	for _, n := range nodes {
		d, err := n.Create(context.Background(), r.env)
		if err != nil {
			return fmt.Errorf("%v: %w", n, err)
		}
		r.made[n.ID()] = d
		if f, ok := n.(plan.Filler); ok {
			if err := f.Fill(context.Background(), r.env, d); err != nil {
				return fmt.Errorf("%v: %w", n, err)
			}
		}
	}
	return nil
}

func (r *redo) mustCreate() map[plan.ID]*fd.FD {
	r.t.Helper()
	if err := r.create(); err != nil {
		r.t.Fatal(err)
	}
	return r.made
}

// roundTrip dumps what was added to g and makes it again; the files that were
// dumped are in the result by their number.
func (g *target) roundTrip() map[plan.ID]*fd.FD {
	g.t.Helper()
	g.mustDump()
	return newRedo(g.t, g.im).mustCreate()
}

// own closes a descriptor at the end of the test.
func own(t *testing.T, n int, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(n) })
	return n
}

func mustFail(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in error: %v", w, err)
		}
	}
}

// flagsOf is F_GETFL.
func flagsOf(t *testing.T, n int) int {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags
}

func linuxOwner(pid int) linux.FOwnerEx {
	return linux.FOwnerEx{Type: linux.F_OWNER_PID, PID: int32(pid)}
}

func borrowSelf(t *testing.T, n int) *fd.FD {
	t.Helper()
	m, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := fd.New(m)
	t.Cleanup(func() { d.Close() })
	return d
}

// noGuard is a kind.Guard without anybody who outlives the engine.
type noGuard struct{ kind.Guard }

func (noGuard) Name(string, uint64, uint64) error { return nil }

// filesOf returns the entries of open files.
func filesOf(all []plan.Entry) (out []*fdinfo.FileEntry) {
	for _, e := range all {
		out = append(out, e.Message.(*fdinfo.FileEntry))
	}
	return out
}
