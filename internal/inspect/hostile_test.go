package inspect

import (
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/image/criu/vma"
	"glis.dev/glis/image/extra"
)

// procs writes a tree of pairs of PID and parent.
func procs(t *testing.T, pairs ...[2]uint32) func(memory) {
	var all []*pstree.PstreeEntry
	for _, p := range pairs {
		all = append(all, process(p[0], p[1], p[0]))
	}
	return func(s memory) { check(t, image.WriteAll(s, image.PsTree, all)) }
}

func badFiles(t *testing.T, all ...*fdinfo.FileEntry) func(memory) {
	return func(s memory) {
		delete(s, image.Memfd.FileName())
		delete(s, extra.Sockets.FileName())
		delete(s, extra.Waiting.FileName())
		check(t, image.WriteAll(s, image.Files, all))
	}
}

// badMemory writes an address space whose mappings overlap.
func badMemory(t *testing.T) func(memory) {
	zero := u64(0)
	return func(s memory) {
		check(t, image.WriteOne(s, image.MM, &mm.MmEntry{
			MmStartCode: zero, MmEndCode: zero, MmStartData: zero, MmEndData: zero, MmStartStack: zero, MmStartBrk: zero, MmBrk: zero,
			MmArgStart: zero, MmArgEnd: zero, MmEnvStart: zero, MmEnvEnd: zero, ExeFileId: u32(1),
			Vmas: []*vma.VmaEntry{mapping(0x10000, 4, 3, 2, 1|areaAnonPrivate, 0), mapping(0x11000, 4, 3, 2, 1|areaAnonPrivate, 0)},
		}, 100))
	}
}
