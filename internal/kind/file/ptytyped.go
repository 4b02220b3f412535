package file

import (
	"errors"
	"fmt"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/standin"
)

// nothingTyped refuses the master of a terminal whose slave nobody has opened if somebody has
// typed: only a slave could take that out and put it back, which its master would notice. The
// kernel's memory tells; where it can't be read nobody does.
func (k *TTY) nothingTyped(master *scan.File, d *fd.FD) error {
	if k.memory == nil {
		m, err := sockmem.OpenMemory(standin.Names()...)
		if errors.Is(err, kmem.ErrUnavailable) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%v: the kernel's memory: %w", master, err)
		}
		k.memory = m
	}
	if !standin.TellsTerminals(k.memory) {
		return nil
	}
	at, err := k.memory.File(d.Int())
	if err != nil {
		return fmt.Errorf("%v: the kernel's memory of it: %w", master, err)
	}
	t, err := standin.ReadTerminal(k.memory, at)
	if errors.Is(err, standin.ErrUnlike) {
		return kind.Unsupported(master, "%v, and nobody has opened its slave yet; let the program open it", err)
	}
	if err != nil {
		return fmt.Errorf("%v: the kernel's memory of it: %w", master, err)
	}
	if n := len(t.Typed) + len(t.Arriving); n > 0 {
		return kind.Unsupported(master, "%d bytes that were typed there wait, and nobody has opened its slave yet, by which alone they could be put back; let the program open it", n)
	}
	return nil
}
