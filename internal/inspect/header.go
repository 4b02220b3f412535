package inspect

import (
	"errors"
	"io/fs"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/stats"
)

// header reads what concerns the checkpoint as a whole.
func (r *reader) header() error {
	r.used[image.Inventory.FileName()] = true
	inv, err := image.ReadInventory(r.store)
	if errors.Is(err, fs.ErrNotExist) {
		return image.NotWhole(r.store, err)
	}
	if err != nil {
		return err
	}
	r.rep.ImageVersion = "1.1"
	if inv.GetImgVersion() == image.Version1 {
		r.rep.ImageVersion = "1.0"
	}
	r.rep.MadeBy = "criu"
	r.rep.UptimeUS = inv.GetDumpUptime()
	if r.rep.RunID = inv.GetDumpCriuRunId(); len(r.rep.RunID) > mostName {
		return &image.Error{File: image.Inventory.FileName(), Offset: -1, Err: checkName(r.rep.RunID)}
	}
	if err := r.when(); err != nil {
		return err
	}
	return r.stats()
}

// when looks at the age of the file that a dump writes last.
func (r *reader) when() error {
	f, err := r.plain.Open(image.Inventory.FileName())
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only looked at
	if f.File() == nil {
		return nil
	}
	st, err := f.File().Stat()
	if err != nil {
		return err
	}
	t := st.ModTime().UTC()
	r.rep.When = &t
	return nil
}

func (r *reader) stats() error {
	r.used[image.StatsRestore.FileName()] = true
	return optional(r, image.StatsDump, nil, func(e *stats.StatsEntry) error {
		if d := e.GetDump(); d != nil {
			r.rep.Dump = &Dump{
				FreezingUS: d.GetFreezingTime(), FrozenUS: d.GetFrozenTime(),
				MemdumpUS: d.GetMemdumpTime(), MemwriteUS: d.GetMemwriteTime(), PagesWritten: d.GetPagesWritten(),
			}
		}
		return nil
	})
}
