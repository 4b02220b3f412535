package dump

import (
	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/scan"
)

// Of thousands of processes all that is known takes more memory than the engine is to
// have. So what nobody needs any more is encoded at once, and what is needed later is put
// down in little room.

// thousandsOfTasks is from how many processes on that is worth its time.
var thousandsOfTasks = 500

func (d *dump) many() bool { return len(d.tree.Tasks) >= thousandsOfTasks }

// packMappings puts down the mappings of one of many tasks.
func (d *dump) packMappings(t *scan.Task) {
	if !d.many() {
		return
	}
	if p, ok := d.packer.Pack(t.VMAs); ok {
		t.VMAs, t.Packed = nil, p
	}
}

// unpackMappings has VMAs be as they were before packMappings, until the function is
// called that it returns.
func (d *dump) unpackMappings(t *scan.Task) (pack func()) {
	if t.Packed == nil {
		return func() {}
	}
	t.VMAs = d.packer.Unpack(t.Packed)
	return func() { t.VMAs = nil }
}

// foldLast puts the last space down in little memory.
func (d *dump) foldLast() {
	var before *mem.Space
	if n := len(d.spaces); n > 1 {
		before = d.spaces[n-2]
	}
	d.spaces[len(d.spaces)-1].Fold(before)
}

// shareUnlessMany is share where that was not done before.
func (d *dump) shareUnlessMany() error {
	if d.many() {
		return nil
	}
	return d.share()
}

// putCore hands in the entry of a leader.
func (d *dump) putCore(t *scan.Task, c *criu_core.CoreEntry) error {
	c.Ids = d.kobjIDs(t.IDs)
	task.PutStop(c, t)
	return d.put(image.Core, c, uint32(t.VPID))
}

// stopAfter says in the entry of a leader, which was handed in before, that its task is
// stopped, if that has come since.
func (d *dump) stopAfter(t *scan.Task) error {
	if !task.Stops(t) {
		return nil
	}
	c := &criu_core.CoreEntry{}
	return d.sink.amend(image.Core, uint32(t.VPID), c, func() { task.PutStop(c, t) })
}

// put hands in an entry of an image that each task has, which of many is encoded.
func (d *dump) put(row *image.Row, m proto.Message, pid uint32) error {
	if d.many() {
		return d.sink.PutNow(row, m, nil, pid)
	}
	return d.sink.Put(row, m, nil, pid)
}
