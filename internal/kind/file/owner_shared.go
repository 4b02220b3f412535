package file

import (
	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/scan"
)

// Owner is whom the signals of a file go to, for the kinds of files that live
// elsewhere (sockets).
type Owner = owner

// NoOwner is the entry of a file whose signals go nowhere.
func NoOwner() *fown.FownEntry { return noOwner() }

// ReadOwner reads who is told of I/O on a file, through a borrowed descriptor.
func ReadOwner(env *kind.DumpEnv, f *scan.File, d *fd.FD) (*fown.FownEntry, error) {
	return readOwner(env, f, d)
}

// PlanOwner checks an owner from an image.
func PlanOwner(e *fown.FownEntry) (Owner, error) { return planOwner(e) }

// Set makes this the owner of a file of the engine's. Its process must exist.
func (o owner) Set(d *fd.FD) error { return o.set(d) }
