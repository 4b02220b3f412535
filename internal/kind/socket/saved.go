package socket

import (
	"fmt"
	"slices"

	sk_opts "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-opts"

	"glis.dev/glis/image/extra"
)

// Saved is the options of a socket, read and encoded. Sockets that have the
// same options share one: don't change it.
type Saved struct {
	Values  []Value
	Entry   *sk_opts.SkOptsEntry
	Options []*extra.SocketOption
}

// Save reads and encodes the options of a socket. What is known already comes
// as values that are OK; their slice is used for the rest. filter is false if
// the socket is known to have no filter.
func (k *Kernel) Save(fd int, values []Value, filter bool) (Saved, error) {
	if err := k.Read(fd, values); err != nil {
		return Saved{}, err
	}
	a, err := ReadAttachment(fd, filter)
	if err != nil {
		return Saved{}, err
	}
	if !a.Empty() {
		s := k.encode(values)
		a.put(s.Entry)
		return s, nil
	}
	// Most sockets have what the one before them has.
	if k.last.Entry == nil || !slices.Equal(k.last.Values, values) {
		k.last = k.encode(values)
	}
	return k.last, nil
}

func (k *Kernel) encode(values []Value) Saved {
	s := Saved{Values: slices.Clone(values)}
	s.Entry, s.Options = k.Table.Encode(s.Values, k.Fresh)
	return s
}

// Load decodes what Save has encoded.
func (t Table) Load(e *sk_opts.SkOptsEntry, more []*extra.SocketOption) (Saved, error) {
	values, err := t.Decode(e, more)
	if err != nil {
		return Saved{}, err
	}
	if n := len(e.GetSoFilter()); n > maxFilter {
		return Saved{}, fmt.Errorf("socket filter of %d instructions, more than %d", n, maxFilter)
	}
	return Saved{Values: values, Entry: e, Options: more}, nil
}
