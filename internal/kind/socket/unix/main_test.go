package unix

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// images keeps what a dump puts, in image form.
type images map[*image.Row][]plan.Entry

func (m images) Put(row *image.Row, e proto.Message, payload []byte, _ ...uint32) error {
	if row.Payload != nil && row.Payload(e) != int64(len(payload)) {
		return fmt.Errorf("%v: %d bytes of payload, the entry says %d", row, len(payload), row.Payload(e))
	}
	b, err := proto.Marshal(e)
	if err != nil {
		return err
	}
	out := row.New()
	if err := proto.Unmarshal(b, out); err != nil {
		return err
	}
	m[row] = append(m[row], plan.Entry{Message: out, Payload: payload})
	return nil
}

func (m images) Entries(row *image.Row, _ ...uint32) ([]plan.Entry, error) { return m[row], nil }

// self is this process as a task that was scanned.
func self(t testing.TB) *scan.Task {
	t.Helper()
	p, err := sys.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	d := fd.New(p)
	dir, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(); dir.Close() })
	return &scan.Task{Dir: dir, PID: proc.PID(os.Getpid()), VPID: scan.VPID(os.Getpid()), Pidfd: d, Stat: proc.Stat{Comm: "test"}}
}

// scanned is descriptors of this process as a tree that was scanned.
func scanned(t testing.TB, fds ...int) *scan.Tree {
	t.Helper()
	task := self(t)
	tree := &scan.Tree{Root: task}
	tree.Add(task)
	for i, n := range fds {
		f := &scan.File{ID: uint32(i + 1), Task: task, FD: int32(n)}
		if err := f.Stat.At(n, ""); err != nil {
			t.Fatal(err)
		}
		flags, err := sys.FcntlInt(uintptr(n), sys.F_GETFL, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Flags, f.Link = uint32(flags), fmt.Sprintf("socket:[%d]", f.Stat.Ino)
		tree.Files = append(tree.Files, f)
		task.FDs = append(task.FDs, scan.Ref{FD: f.FD, File: f})
	}
	slices.SortFunc(task.FDs, func(a, b scan.Ref) int { return int(a.FD - b.FD) })
	return tree
}

// dumpTree dumps all files of a tree.
func dumpTree(t testing.TB, tree *scan.Tree) (images, error) {
	t.Helper()
	return dumpWith(t, New(), tree)
}

// surveyed is New for which one socket is many.
func surveyed() *Kind {
	k := New()
	k.seen.from = 1
	return k
}

func dumpWith(t testing.TB, k *Kind, tree *scan.Tree) (images, error) {
	t.Helper()
	out := images{}
	env := &kind.DumpEnv{Log: slog.New(slog.DiscardHandler), Options: &options.Dump{}, Tree: tree, Images: out, Files: &received{t: t, tree: tree}}
	for i := 0; i < len(tree.Files); i++ {
		f := tree.Files[i]
		if !k.Match(f) {
			return nil, fmt.Errorf("%v: no match", f)
		}
		e, err := k.Dump(context.Background(), env, f)
		if err != nil {
			return nil, err
		}
		e.Type, e.Id = k.Type().Enum(), &f.ID
		if err := out.Put(image.Files, e, nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// restored makes everything again and returns the new descriptors in the order
// of files.img.
func restored(t testing.TB, in images) ([]int, error) {
	t.Helper()
	return restoredBy(t, New(), in)
}

func restoredBy(t testing.TB, k *Kind, in images) ([]int, error) {
	t.Helper()
	for i, e := range testkit.Twins(t, filesOf(in[image.Files])) {
		in[image.Files][i].Message = e
	}
	p := plan.New(in, &options.Restore{})
	for _, e := range in[image.Files] {
		if err := k.Plan(p, e.Message.(*fdinfo.FileEntry)); err != nil {
			return nil, err
		}
	}
	if err := k.Planned(); err != nil {
		return nil, err
	}
	nodes, err := p.Nodes()
	if err != nil {
		return nil, err
	}
	made := map[plan.ID]*fd.FD{}
	env := &plan.Env{Log: slog.New(slog.DiscardHandler), Options: &options.Restore{}, File: func(id plan.ID) (*fd.FD, error) {
		if made[id] == nil {
			return nil, fmt.Errorf("file %d isn't made", id)
		}
		return made[id], nil
	}}
	t.Cleanup(func() {
		for _, d := range made {
			d.Close()
		}
	})
	for _, n := range nodes {
		d, err := n.Create(context.Background(), env)
		if err != nil {
			return nil, err
		}
		made[n.ID()] = d
	}
	for _, n := range nodes {
		if err := n.(plan.Filler).Fill(context.Background(), env, made[n.ID()]); err != nil {
			return nil, err
		}
	}
	for _, n := range nodes {
		if x := n.(plan.Stuffed); x.Held() != nil {
			if err := x.Stuff(context.Background(), env); err != nil {
				return nil, err
			}
		}
		n.(plan.Dropper).Drop()
	}
	var out []int
	for _, e := range in[image.Files] {
		out = append(out, made[plan.ID(e.Message.(*fdinfo.FileEntry).GetId())].Int())
	}
	return out, nil
}

// sockets is the descriptors of one test, closed at its end.
type sockets struct {
	t   testing.TB
	fds []int
}

func (s *sockets) pair(typ int) (a, b int) {
	s.t.Helper()
	p, err := sys.Socketpair(sys.AF_UNIX, typ|sys.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	a, b = p[0], p[1]
	s.own(a)
	s.own(b)
	return a, b
}

func (s *sockets) own(n int) int {
	d := fd.New(n)
	s.t.Cleanup(func() { d.Close() })
	s.fds = append(s.fds, n)
	return n
}

// close closes one, which is not part of the checkpoint then.
func (s *sockets) close(n int) {
	s.t.Helper()
	// Something else takes its number, so that the cleanup is harmless.
	null, err := sys.Open("/dev/null", sys.O_RDONLY|sys.O_CLOEXEC, 0)
	s.must(err)
	s.must(sys.Dup3(null, n, sys.O_CLOEXEC))
	s.must(sys.Close(null))
	for i, x := range s.fds {
		if x == n {
			s.fds = append(s.fds[:i:i], s.fds[i+1:]...)
		}
	}
}

func (s *sockets) must(err error) {
	s.t.Helper()
	if err != nil {
		testkit.NotShown(s.t, err.Error())
		s.t.Fatal(err)
	}
}

func (s *sockets) send(n int, messages ...string) {
	s.t.Helper()
	for _, m := range messages {
		s.must(sys.Sendmsg(n, []byte(m), nil, nil, sys.MSG_NOSIGNAL))
	}
}

func (s *sockets) set(n, opt, v int) {
	s.t.Helper()
	s.must(sys.SetsockoptInt(n, sys.SOL_SOCKET, opt, v))
}

// seen is all that can be seen of a socket without changing it.
type seen struct {
	Type, Flags, Owner, Signal int
	Values                     []socket.Value
	Revents                    int16
	Messages                   []string
}

// drained is all that can be seen by using it up.
type drained struct {
	Messages []string
	End      string // what ends the reading
	Write    string // what writing does
}

func look1(t testing.TB, n int) seen {
	t.Helper()
	k := New()
	if err := k.learn(); err != nil {
		t.Fatal(err)
	}
	saved, err := k.kernel.Save(n, make([]socket.Value, len(k.kernel.Table)), true)
	if err != nil {
		t.Fatal(err)
	}
	s := seen{Values: saved.Values}
	s.Type, _ = sys.GetsockoptInt(n, sys.SOL_SOCKET, sys.SO_TYPE)
	s.Flags, _ = sys.FcntlInt(uintptr(n), sys.F_GETFL, 0)
	s.Owner, _ = sys.FcntlInt(uintptr(n), sys.F_GETOWN, 0)
	s.Signal, _ = sys.FcntlInt(uintptr(n), 11, 0)
	fds := []sys.PollFd{{Fd: int32(n), Events: sys.POLLIN | sys.POLLOUT | sys.POLLRDHUP | sys.POLLPRI}}
	if _, err := testkit.PollFds(fds, 0); err != nil {
		t.Fatal(err)
	}
	s.Revents = fds[0].Revents
	return s
}

func drain(n int) drained {
	var d drained
	_ = sys.SetsockoptInt(n, sys.SOL_SOCKET, sys.SO_PEEK_OFF, -1)
	buf := make([]byte, 1<<20)
	empty := 0
	for {
		got, _, err := sys.Recvfrom(n, buf, sys.MSG_DONTWAIT)
		if err != nil {
			d.End = err.Error()
			break
		}
		if got == 0 {
			// An empty message or the end.
			if empty++; empty > 8 {
				d.End = "end"
				break
			}
		}
		d.Messages = append(d.Messages, string(buf[:got]))
	}
	if err := sys.Sendmsg(n, []byte("x"), nil, nil, sys.MSG_DONTWAIT|sys.MSG_NOSIGNAL); err != nil {
		d.Write = err.Error()
	}
	return d
}

// join glues the bytes of a stream together: where one message ended is not
// part of its state.
func (d drained) join(typ int) drained {
	if typ == sys.SOCK_STREAM && len(d.Messages) > 0 {
		all := ""
		for _, m := range d.Messages {
			all += m
		}
		d.Messages = []string{all}
	}
	return d
}

var errRefused = kind.ErrUnsupported

func refused(err error) bool { return errors.Is(err, errRefused) }

func extras(in images) []*extra.SocketEntry {
	var out []*extra.SocketEntry
	for _, e := range in[extra.Sockets] {
		out = append(out, e.Message.(*extra.SocketEntry))
	}
	return out
}

// nowhere forgets what a dump puts.
type nowhere struct{}

func (nowhere) Put(*image.Row, proto.Message, []byte, ...uint32) error { return nil }

// received makes files known that come with messages: those of the tree only.
type received struct {
	kind.Files
	t    testing.TB
	tree *scan.Tree
}

func (r *received) Received(n *fd.FD, at *scan.File) (*scan.File, error) {
	var st sys.Stat_t
	if err := sys.Fstat(n.Int(), &st); err != nil {
		return nil, err
	}
	for _, f := range r.tree.Files {
		if f.Stat.Dev == st.Dev && f.Stat.Ino == st.Ino {
			return f, n.Close()
		}
	}
	r.t.Cleanup(func() { n.Close() })
	f := &scan.File{ID: uint32(len(r.tree.Files) + 1), Task: at.Task, FD: int32(n.Int()), Within: at, Stat: scan.StatOf(&st), Link: "queued"}
	r.tree.Files = append(r.tree.Files, f)
	return f, nil
}

func (r *received) Named(f *scan.File) {
	f.ID = uint32(len(r.tree.Files) + 1)
	r.tree.Files = append(r.tree.Files, f)
}

// filesOf returns the entries of open files.
func filesOf(all []plan.Entry) (out []*fdinfo.FileEntry) {
	for _, e := range all {
		out = append(out, e.Message.(*fdinfo.FileEntry))
	}
	return out
}
