package file

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/pipe"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/plan"
	"glis.dev/glis/internal/scan"
)

// A pipe may be opened with O_PATH, through /proc/PID/fd. That is no end of it: who
// reads still sees the end of the file when the last writer has gone.

// dumpPath dumps such a descriptor. What is in the pipe can be asked of its ends only.
func (k *Pipe) dumpPath(env *kind.DumpEnv, f *scan.File) (*fdinfo.FileEntry, error) {
	if p, err := k.pipes.find(env.Tree, f, k.Match); err != nil || len(p.readers)+len(p.writers) == 0 {
		return nil, kind.Unsupported(f, "it is a pipe that was opened with O_PATH, and nobody in the tree has an end of that; close it")
	}
	return &fdinfo.FileEntry{Pipe: &pipe.PipeEntry{Id: proto.Uint32(f.ID), PipeId: proto.Uint32(uint32(f.Stat.Ino)), Flags: proto.Uint32(f.Flags), Fown: noOwner()}}, nil
}

// pipePath is a pipe that was opened with O_PATH.
type pipePath struct {
	base
	set *pipeSet
}

// Planned implements kind.Planner: each has an end to be opened by.
func (k *Pipe) Planned() error {
	for _, n := range k.paths {
		if len(n.set.nodes) == 0 {
			return fmt.Errorf("file %#x: pipe %#x, opened with O_PATH, and no file is an end of it", n.id, n.set.id)
		}
	}
	return nil
}

// String implements plan.Node.
func (n *pipePath) String() string {
	return fmt.Sprintf("pipe %#x: pipe %#x, by O_PATH", n.id, n.set.id)
}

// Needs implements plan.Node.
func (n *pipePath) Needs() []plan.ID { return []plan.ID{n.set.nodes[0].id} }

// Create implements plan.Node.
func (n *pipePath) Create(_ context.Context, env *plan.Env) (*fd.FD, error) {
	return n.set.again(env, unix.O_PATH)
}
