package dump

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
)

// Received implements kind.Files.
func (f *files) Received(n *fd.FD, at *scan.File) (*scan.File, error) {
	if err := f.openSelf(); err != nil {
		return nil, err
	}
	file, err := describe(f.self, int32(n.Int()))
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	file.Flags &^= unix.O_CLOEXEC
	file.Within = at
	known, err := f.once(file)
	if err != nil || known != file {
		return known, errors.Join(err, n.Close())
	}
	f.received = append(f.received, n)
	return file, nil
}

// lone asks the kinds for a file like one that only messages have.
func (d *dump) lone(m *sockmem.Memory, x *sockmem.Lone) (own *fd.FD, why string, err error) {
	for _, k := range d.kinds.Files {
		l, ok := k.(kind.Loner)
		if !ok {
			continue
		}
		own, reason, err := l.Lone(m, x)
		if own != nil || err != nil {
			return own, "", err
		}
		if reason != "" {
			why = reason
		}
	}
	return nil, why, nil
}

// discover asks the kinds for all files that are in others.
func (d *dump) discover() error {
	for _, k := range d.kinds.Files {
		if x, ok := k.(kind.Discoverer); ok {
			if err := x.Discover(d.env); err != nil {
				return err
			}
		}
	}
	return nil
}

// openSelf makes the engine a task whose descriptors can be looked at.
func (f *files) openSelf() error {
	if f.self != nil {
		return nil
	}
	dir, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		return err
	}
	own, err := fd.Process(os.Getpid())
	if err != nil {
		return errors.Join(fmt.Errorf("pidfd_open: %w", err), dir.Close())
	}
	f.self = &scan.Task{PID: proc.PID(os.Getpid()), Dir: dir, Pidfd: own, Stat: proc.Stat{Comm: "glis"}}
	return nil
}

// drop closes what was received: once the tree runs, whoever waits for the end
// of a file is to see it when the tree closes it.
func (f *files) drop() error {
	var errs []error
	for _, n := range f.received {
		errs = append(errs, n.Close())
	}
	f.received = nil
	return errors.Join(errs...)
}

// close closes all that was opened.
func (f *files) close() error {
	errs := []error{f.drop(), f.sockets.close(), f.plain.close()}
	f.sockets, f.plain = nil, nil
	if f.self != nil {
		errs = append(errs, f.self.Dir.Close(), f.self.Pidfd.Close())
		f.self = nil
	}
	return errors.Join(errs...)
}
