package dump

import (
	"sync/atomic"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/par"
)

// ahead is what goes on beside the work with the tracer, of trees with many descriptors.
type ahead struct {
	found  *par.Errand // descriptors
	peeked *par.Errand // what waits in queues, as far as kinds can tell already
	enough *atomic.Bool
}

// lookAhead begins to find descriptors when all tasks stand still. Who they are shared by
// isn't asked of thousands of tasks at this point, see askAround.
func (d *dump) lookAhead() {
	found, enough := par.Later(d.findFiles), new(atomic.Bool)
	if d.descriptorsSeen < manyDescriptors || d.many() || !par.CanAside() {
		d.ahead = ahead{found, par.Later(func() error { return nil }), enough} // kinds peek on all CPUs later
		return
	}
	d.ahead = ahead{found, par.Aside(func() error {
		if found.Wait() != nil {
			return nil // who waits for found says so
		}
		return d.peekAhead(enough.Load)
	}), enough}
}

// peekEnough has nobody begin to look at another queue.
func (d *dump) peekEnough() error {
	d.ahead.enough.Store(true)
	return d.ahead.peeked.Wait()
}

// endAhead returns when nothing goes on beside any more.
func (d *dump) endAhead() {
	d.ahead.enough.Store(true)
	d.ahead.peeked.End()
	d.ahead.found.End()
}

func (d *dump) findFiles() error {
	if err := d.shareUnlessMany(); err != nil {
		return err
	}
	return d.files.scanAll(d.ended)
}

// peekAhead has kinds look at queues.
func (d *dump) peekAhead(enough func() bool) error {
	for _, k := range d.kinds.Files {
		if p, ok := k.(kind.PeekerAhead); ok {
			if err := p.PeekAhead(d.env, enough); err != nil {
				return err
			}
		}
	}
	return nil
}
