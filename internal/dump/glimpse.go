package dump

import (
	"bytes"
	"errors"
	"fmt"

	"glis.dev/glis/image"
	criu_core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/scan"
)

// askAndGlimpse asks those threads that no other one is asked for, and then knows of
// the rest. Should a witness say something else than would have been believed of it,
// the rest is asked.
func (d *dump) askAndGlimpse() error {
	var asked, rest []*scan.Thread
	for _, th := range d.threads() {
		if th.Like == nil || th.Witness {
			asked = append(asked, th)
		} else {
			rest = append(rest, th)
		}
		if th.Witness {
			d.told[th.Like], d.told[th] = nil, nil // filled in when they are asked
		}
	}
	if err := d.ask(asked); err != nil {
		return err
	}
	defer clear(d.told)
	for _, th := range asked {
		if !th.Witness {
			continue
		}
		if err := d.confirm(th); err != nil {
			d.log.Debug("threads are asked one by one", "why", err)
			return d.ask(rest)
		}
	}
	for _, th := range rest {
		if err := errors.Join(d.ended(), d.readPending(th)); err != nil {
			return err
		}
		core, err := d.glimpse(th)
		if err != nil {
			return kind.About(th.Task, err)
		}
		if err := d.sink.Put(image.Core, core, nil, uint32(th.VTID)); err != nil {
			return err
		}
		th.XState = nil // it is in the entry
	}
	return nil
}

// glimpse fills in the entry of a thread that is not asked.
func (d *dump) glimpse(th *scan.Thread) (*criu_core.CoreEntry, error) {
	core := task.CoreHead(th)
	q := &kind.Question{Env: d.env, Task: th.Task, Thread: th}
	for i, f := range d.kinds.Thread {
		g, ok := f.(kind.Glimpser)
		if !ok {
			return nil, fmt.Errorf("thread %d, %s: it has to be asked", th.TID, f.Name())
		}
		answer, err := g.Glimpse(q, d.told[th.Like].answers[i])
		if err == nil && answer != nil {
			err = answer(core)
		}
		if err != nil {
			return nil, fmt.Errorf("thread %d, %s: %w", th.TID, f.Name(), err)
		}
	}
	return core, nil
}

// confirm compares what a witness said with what would have been believed of it.
func (d *dump) confirm(th *scan.Thread) error {
	seen, err := d.glimpse(th)
	if err != nil {
		return err
	}
	said, err := proto.Marshal(d.told[th].core)
	if err != nil {
		return err
	}
	believed, err := proto.Marshal(seen)
	if err == nil && !bytes.Equal(said, believed) {
		err = fmt.Errorf("thread %d is not as it was seen", th.TID)
	}
	return err
}
