package plan

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/options"
)

// Inherited returns which of the engine's own descriptors takes a file's place
// (--inherit-fd), nil if none does. The key is what criu calls the file:
// "pipe:[INODE]", "socket:[INODE]", "tty[RDEV:DEV]", a path without its leading
// slash.
func (p *Plan) Inherited(key string) *options.InheritFD {
	if p.Options == nil {
		return nil
	}
	i := slices.IndexFunc(p.Options.InheritFD, func(g options.InheritFD) bool { return g.Is(key) })
	if i < 0 {
		return nil
	}
	if p.taken == nil {
		p.taken = map[string]bool{}
	}
	p.taken[p.Options.InheritFD[i].Key] = true
	return &p.Options.InheritFD[i]
}

// InheritedInode is Inherited by a key with a number: "pipe:[INODE]" for example. There
// may be very many of these, and most restores are handed nothing.
func (p *Plan) InheritedInode(what string, ino uint32) *options.InheritFD {
	if p.Options == nil || len(p.Options.InheritFD) == 0 {
		return nil
	}
	return p.Inherited(fmt.Sprintf("%s:[%d]", what, ino))
}

// LeftOver returns the descriptors that no file was found for.
func (p *Plan) LeftOver() []options.InheritFD {
	var out []options.InheritFD
	if p.Options == nil {
		return nil
	}
	for _, g := range p.Options.InheritFD {
		if !p.taken[g.Key] {
			out = append(out, g)
		}
	}
	return out
}

// Heir is a node that is made of a descriptor the user hands in. Nothing that
// the file had comes back: neither contents nor options.
type Heir struct {
	id     ID
	given  options.InheritFD
	format uint32
	open   func(*fd.FD) (*fd.FD, error)
	filler Filler
}

// NewHeir returns the node for a file of a format (S_IFIFO, …; 0: any). open
// makes of a copy of the descriptor, which it may not keep, what tasks get; nil
// if that is the copy itself. filler, which may be nil, then gives that what
// belongs to the tasks, as who gets its signals.
func NewHeir(id ID, given *options.InheritFD, format uint32, open func(*fd.FD) (*fd.FD, error), filler Filler) *Heir {
	return &Heir{id, *given, format, open, filler}
}

// ID implements Node.
func (h *Heir) ID() ID { return h.id }

// Needs implements Node.
func (h *Heir) Needs() []ID { return nil }

// String implements Node.
func (h *Heir) String() string {
	return fmt.Sprintf("%s, which is descriptor %d of Glis (--inherit-fd)", h.given.Key, h.given.FD)
}

// Check implements Checked.
func (h *Heir) Check(*CheckEnv) error {
	var st unix.Stat_t
	if err := unix.Fstat(h.given.FD, &st); err != nil {
		return fmt.Errorf("--inherit-fd fd[%d]:%s: Glis was started without descriptor %d: %w", h.given.FD, h.given.Key, h.given.FD, err)
	}
	if h.format != 0 && st.Mode&unix.S_IFMT != h.format {
		return fmt.Errorf("--inherit-fd fd[%d]:%s: descriptor %d is of another sort (mode %#o)", h.given.FD, h.given.Key, h.given.FD, st.Mode)
	}
	return nil
}

// Create implements Node.
func (h *Heir) Create(context.Context, *Env) (*fd.FD, error) {
	n, err := unix.FcntlInt(uintptr(h.given.FD), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("take descriptor %d of Glis: %w", h.given.FD, err)
	}
	d := fd.New(n)
	if h.open == nil {
		return d, nil
	}
	defer d.Close()
	return h.open(d)
}

// Fill implements Filler.
func (h *Heir) Fill(ctx context.Context, env *Env, own *fd.FD) error {
	if h.filler == nil {
		return nil
	}
	return h.filler.Fill(ctx, env, own)
}
