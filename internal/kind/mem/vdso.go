package mem

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
)

// The kernel maps code of its own into every task, the vdso, and data before
// it, vvar. Programs keep addresses of functions in it, so it must come back
// at its place and with its functions where they were.

// readVdso reads the contents that the image has of the vdso.
func (s *Space) readVdso(from []image.Piece) error {
	a, vvar := s.kernels()
	if a == nil {
		return nil
	}
	if a.Len() > mostVdso || vvar != nil && vvar.Len() > mostVdso {
		return errors.New("the vdso is larger than any")
	}
	s.vdso = make([]byte, a.Len())
	c := contents{resolved: &image.Resolved{Pieces: from}}
	for _, p := range c.cut([]pages.Span{a.Span}) {
		if _, err := p.From.ReadAt(s.vdso[p.Start-a.Start:p.End-a.Start], p.Offset); err != nil {
			return fmt.Errorf("read the vdso: %w", err)
		}
	}
	return nil
}

// kernels returns the areas of vdso and vvar, nil if the task has unmapped
// them.
func (s *Space) kernels() (vdso, vvar *area) {
	for i := range s.areas {
		switch a := &s.areas[i]; {
		case a.is(statusVdso):
			vdso = a
		case a.is(statusVvar):
			vvar = a
		}
	}
	return vdso, vvar
}

// mapVdso has the kernel map vvar and vdso, ARCH_MAP_VDSO_64 of arch_prctl(2)
// (Linux 4.8). The address is a mere hint to it, so what was mapped is looked
// at. Of a task that has unmapped the code alone, as valgrind does, it goes
// again: the kernel maps both or none. Nothing else is there yet.
func (s *Space) mapVdso(b *remote.Batch) {
	vdso, vvar := s.kernels()
	first, last := vvar, vdso
	if first == nil {
		first = vdso
	}
	if last == nil {
		last = vvar
	}
	if first == nil || last.from != nil {
		return
	}
	b.Call("arch_prctl(ARCH_MAP_VDSO_64)", arch.SysArchPrctl, linux.ArchMapVdso64, first.Start)
	there, _ := b.Alloc(int((last.End - first.Start) / page))
	b.Call("mincore(vdso)", unix.SYS_MINCORE, first.Start, last.End-first.Start, uint64(there))
	if vdso == nil {
		b.Call("munmap(vdso)", unix.SYS_MUNMAP, vvar.End, s.codeRoom(vvar)-vvar.End)
	}
}

// codeRoom returns where the place ends at which the kernel maps the code
// behind the data: there may be less, but nothing else.
func (s *Space) codeRoom(vvar *area) uint64 {
	end := vvar.End + mostVdso
	for i := range s.areas {
		if a := &s.areas[i]; a.from != nil && a.Start >= vvar.End {
			end = min(end, a.Start)
		}
	}
	return end
}

// vdsoApart refuses what no restore could have the kernel map.
func (s *Space) vdsoApart() error {
	vdso, vvar := s.kernels()
	if vdso != nil && (vvar == nil || vvar.End != vdso.Start) {
		return kind.Unsupported(fmt.Sprintf("%v, the kernel's code in the task (vdso)", s.task), "the task has moved or unmapped the kernel's data (vvar) that belongs before it, and the kernel maps both together; run a program that leaves it where it was")
	}
	return nil
}

// CheckVdso tells whether this kernel's vdso can take the place of those in
// the images.
func CheckVdso(spaces ...*Space) error {
	var own *kernelVdso
	for _, s := range spaces {
		fold := s.unfold()
		vdso, vvar := s.kernels()
		fold()
		if vdso == nil && vvar == nil {
			continue
		}
		if own == nil {
			var err error
			if own, err = ownVdso(); err != nil {
				return err
			}
		}
		if err := own.fits(vdso, vvar, s.vdso); err != nil {
			return fmt.Errorf("task %d: %w", s.PID, err)
		}
	}
	return nil
}

// kernelVdso is what the running kernel maps.
type kernelVdso struct {
	vvar uint64 // size of what is before the code
	text []byte
	syms map[string]uint64
}

func ownVdso() (*kernelVdso, error) {
	d, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		return nil, err
	}
	defer d.Close() //nolint:errcheck // only read from
	vmas, err := d.Maps()
	if err != nil {
		return nil, err
	}
	k := &kernelVdso{}
	data := uint64(0)
	for i := range vmas {
		switch v := &vmas[i]; v.Name {
		case "[vvar]", "[vvar_vclock]":
			data += v.Len()
		case "[vdso]":
			k.vvar = data
			k.text = make([]byte, v.Len())
			mem, err := os.Open("/proc/self/mem")
			if err != nil {
				return nil, err
			}
			defer mem.Close() //nolint:errcheck // only read from
			if _, err := mem.ReadAt(k.text, int64(v.Start)); err != nil {
				return nil, fmt.Errorf("read the vdso: %w", err)
			}
		}
	}
	if k.text == nil {
		return nil, errors.New("this kernel has no vdso (vdso=0 on its command line?)")
	}
	k.syms, err = symbols(k.text)
	return k, err
}

// errVdso is what a user can do about another vdso.
const errVdso = "it was dumped on another kernel; restore it on the one it was dumped on, or one of the same version"

func (k *kernelVdso) fits(vdso, vvar *area, text []byte) error {
	switch {
	case vdso == nil && vvar.Len() == k.vvar:
		return nil
	case vdso == nil:
		return kind.Unsupported("the kernel's data in the task (vvar)", "it has %d bytes in the images and %d here: %s", vvar.Len(), k.vvar, errVdso)
	case vdso.Len() != uint64(len(k.text)):
		return kind.Unsupported("the kernel's code in the task (vdso)", "it has %d bytes in the images and %d here: %s", vdso.Len(), len(k.text), errVdso)
	case vvar == nil || vvar.End != vdso.Start || vvar.Len() != k.vvar:
		return kind.Unsupported("the kernel's data in the task (vvar)", "it is elsewhere or of another size than here: %s", errVdso)
	case bytes.Equal(text, k.text):
		return nil
	}
	syms, err := symbols(text)
	if err != nil {
		return fmt.Errorf("the vdso in the images: %w", err)
	}
	for name, at := range syms {
		if k.syms[name] != at {
			return kind.Unsupported("the kernel's code in the task (vdso)", "%s is at %#x in the images and at %#x here: %s", name, at, k.syms[name], errVdso)
		}
	}
	return nil
}

// symbols returns the functions of a vdso by name.
func symbols(text []byte) (map[string]uint64, error) {
	f, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("vdso: %w", err)
	}
	all, err := f.DynamicSymbols()
	if err != nil {
		return nil, fmt.Errorf("vdso: %w", err)
	}
	out := map[string]uint64{}
	for _, s := range all {
		if s.Section != elf.SHN_UNDEF && elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			out[s.Name] = s.Value
		}
	}
	return out, nil
}
