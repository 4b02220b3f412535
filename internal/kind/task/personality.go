package task

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
)

// Personality is the execution domain with its flags, see personality(2).
// Every thread has its own; criu has one field for the process (and does not
// restore it).
type Personality struct{}

// Name implements kind.Facet.
func (Personality) Name() string { return "personality" }

// Dump implements kind.Facet.
func (Personality) Dump(q *kind.Question) (kind.Answer, error) {
	const query = 0xffffffff
	call := q.Batch.Call("personality", unix.SYS_PERSONALITY, query)
	return func(c *core.CoreEntry) error {
		v, err := call.Result()
		if err != nil {
			return err
		}
		putPersonality(c, uint32(v))
		return nil
	}, nil
}

func putPersonality(c *core.CoreEntry, own uint32) {
	if c.Tc != nil {
		c.Tc.Personality = &own
	}
	if own != usualPersonality {
		putExtra(c, extraPersonality, binary.LittleEndian.AppendUint32(nil, own))
	}
}

const usualPersonality = 0 // PER_LINUX

// Restore implements kind.Facet.
func (Personality) Restore(r *kind.Redo) error {
	own := r.Leader.GetTc().GetPersonality()
	leaders, err := ReadExtra(r.Leader)
	if err != nil {
		return err
	}
	b, err := sized(r.Extra, extraPersonality, 4)
	switch {
	case err != nil:
		return err
	case b != nil:
		own = binary.LittleEndian.Uint32(b)
	case leaders[extraPersonality] != nil:
		own = usualPersonality // each thread's was looked at, and this one's is none
	}
	r.Batch.Call("personality", unix.SYS_PERSONALITY, uint64(own))
	return nil
}
