package dump

import (
	"glis.dev/glis/image"
	"glis.dev/glis/internal/kind/cgroup"
	"glis.dev/glis/internal/scan"
)

// openCgroups opens the hierarchies, before the freeze.
func (d *dump) openCgroups() (err error) {
	d.cgroups, err = cgroup.NewSaver(d.opts, d.freezer.held)
	return err
}

// placeOf reads where the threads of a task are. With alike, all are where its
// leader is.
func (d *dump) placeOf(t *scan.Task, alike bool) error { return d.cgroups.Look(t, alike, d.ended) }

// putCgroups writes what was found, if it says anything.
func (d *dump) putCgroups() error {
	if e := d.cgroups.Entry(); e != nil {
		return d.sink.Put(image.Cgroup, e, nil)
	}
	return nil
}
