package dump

import (
	"slices"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/netlock"
)

// lastLook lets kinds dump who has come to their files since those were dumped, right before
// the images are written. Who comes after that tries again, and finds the restored tree.
func (d *dump) lastLook() error {
	for _, k := range d.kinds.Files {
		l, ok := k.(kind.LastLooker)
		if !ok {
			continue
		}
		if err := l.LastLook(d.env); err != nil {
			return err
		}
	}
	return nil
}

// shut has who begins to connect to listeners try again. Where that can't be, as without
// nf_tables, such clients are reset.
func (d *dump) shut(listeners []netlock.Flow) error {
	if d.skipsLock() {
		return nil
	}
	if err := d.guard.Lock().Shut(d.lockName(), listeners); err != nil {
		d.log.Warn("Clients that begin to connect in the last instant are reset", "err", err)
		return nil
	}
	d.shuts = true
	return nil
}

// keepComers has those who have tried to connect since then be held back until the restore,
// too: else they would be told that nobody is there.
func (d *dump) keepComers() {
	flows, err := d.guard.Lock().Comers()
	if err == nil && len(flows) > 0 {
		err = d.guard.Lock().Keep(netlock.KeptName(d.runID), slices.Concat(d.flows, d.away, flows))
	}
	if err != nil {
		d.log.Warn("Clients that began to connect in the last instant may be told that nobody is there", "err", err)
	}
}
