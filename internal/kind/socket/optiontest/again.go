package optiontest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/options"
)

// images keeps what a dump puts, in image form.
type images map[*image.Row][]plan.Entry

// Put is that of kind.DumpEnv.
func (m images) Put(row *image.Row, e proto.Message, payload []byte, _ ...uint32) error {
	b, err := proto.Marshal(e)
	if err != nil {
		return err
	}
	out := row.New()
	m[row] = append(m[row], plan.Entry{Message: out, Payload: payload})
	return proto.Unmarshal(b, out)
}

// Entries implements plan.Source.
func (m images) Entries(row *image.Row, _ ...uint32) ([]plan.Entry, error) { return m[row], nil }

// Again returns what dumps a socket of this process by a kind, closes it, and
// restores it, for Sort: of families whose sockets need nothing of each other.
func Again(t *testing.T, what func() kind.File) func(*testing.T, int) int {
	t.Helper()
	memory := kmem.Share(what().(kind.MemoryUser).KernelNames()...)
	t.Cleanup(func() { memory.Close() })
	return func(t *testing.T, n int) int {
		t.Helper()
		k := what()
		k.(kind.MemoryUser).UseMemory(memory)
		in, err := dumped(t, k, n)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(n)
		made, err := restored(what(), in)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
}

// Dump dumps a socket of this process, for what is refused.
func Dump(t *testing.T, k kind.File, n int) error {
	t.Helper()
	memory := kmem.Share(k.(kind.MemoryUser).KernelNames()...)
	t.Cleanup(func() { memory.Close() })
	k.(kind.MemoryUser).UseMemory(memory)
	_, err := dumped(t, k, n)
	return err
}

func dumped(t *testing.T, k kind.File, n int) (images, error) {
	t.Helper()
	p, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, err
	}
	self := fd.New(p)
	defer self.Close()
	task := &scan.Task{PID: proc.PID(os.Getpid()), VPID: 1, Pidfd: self, Stat: proc.Stat{Comm: "test"}}
	f := &scan.File{ID: 1, Task: task, FD: int32(n), Flags: unix.O_RDWR}
	if err := f.Stat.At(n, ""); err != nil {
		return nil, err
	}
	f.Link = fmt.Sprintf("socket:[%d]", f.Stat.Ino)
	if !k.Match(f) {
		return nil, fmt.Errorf("%v: no match", f)
	}
	tree := &scan.Tree{Root: task, Files: []*scan.File{f}}
	tree.Add(task)
	out := images{}
	e, err := k.Dump(context.Background(), &kind.DumpEnv{Log: slog.New(slog.DiscardHandler), Options: &options.Dump{}, Tree: tree, Images: out}, f)
	if err != nil {
		return nil, err
	}
	e.Type, e.Id = k.Type().Enum(), &f.ID
	return out, out.Put(image.Files, e, nil)
}

func restored(k kind.File, in images) (int, error) {
	p := plan.New(in, &options.Restore{})
	if err := k.Plan(p, in[image.Files][0].Message.(*fdinfo.FileEntry)); err != nil {
		return -1, err
	}
	nodes, err := p.Nodes()
	if err != nil {
		return -1, err
	}
	env := &plan.Env{Log: slog.New(slog.DiscardHandler)}
	own, err := nodes[0].Create(context.Background(), env)
	if err != nil {
		return -1, err
	}
	defer own.Close()
	if l, ok := nodes[0].(plan.Later); ok {
		if err := l.Late(context.Background(), env); err != nil {
			return -1, err
		}
	}
	return unix.FcntlInt(uintptr(own.Int()), unix.F_DUPFD_CLOEXEC, 0)
}
