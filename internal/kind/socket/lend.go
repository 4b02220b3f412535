package socket

import (
	"errors"
	"fmt"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/linux"
)

// Lend gives a socket other options for a while. What it returns gives it back those that
// it had, and fails if it can't. So does Lend, which then has given them back.
func (k *Kernel) Lend(fd int, other []Told) (back func() error, err error) {
	own := make([]Value, len(k.Table))
	if err := k.Read(fd, own); err != nil {
		return nil, err
	}
	back = func() error { return k.bring(fd, own) }
	want := append([]Value(nil), own...)
	for _, t := range other {
		k.Know(want, t.Name, t.Value)
	}
	if err := k.bring(fd, want); err != nil {
		return nil, errors.Join(err, back())
	}
	return back, nil
}

// rounds is how often options are set anew that others have changed: what is to wait a
// size, a size its lock, a type of service the priority.
const rounds = 5

// bring gives a socket all options as they are wanted.
func (k *Kernel) bring(fd int, want []Value) error {
	is := make([]Value, len(k.Table))
	for range rounds {
		clear(is)
		if err := k.Read(fd, is); err != nil {
			return err
		}
		same := true
		for i := range k.Table {
			if k.as(i, is[i]) == k.as(i, want[i]) {
				continue
			}
			same = false // what this kernel doesn't have is no option of either, or refused by set
			if err := k.set(linux.Hand{}, fd, i, k.usual(i, want[i])); err != nil {
				return err
			}
		}
		if same {
			return nil
		}
	}
	return errors.New("an option that is set doesn't stay so")
}

// as is a value without what nobody can set: that a size is odd.
func (k *Kernel) as(i int, v Value) Value {
	if k.Table[i].Force != 0 {
		v.Lo &^= 1
	}
	return v
}

// usual is what sets an option: where a new socket has what the machine's default is at
// the time, or its route's, that again.
func (k *Kernel) usual(i int, v Value) Value {
	const whatever = 1<<32 - 1 // -1
	if v != k.Fresh[i] {
		return v
	}
	switch k.Table[i].Name {
	case "IP_TTL", "IPV6_UNICAST_HOPS":
		return Uint(whatever)
	case "TCP_MAXSEG":
		return Uint(0)
	}
	return v
}

// EntryOf is an option as an image has it.
func (t Table) EntryOf(x Told) *extra.SocketOption { return t[t.named(x.Name)].entry(x.Value) }

// ToldBy decodes what EntryOf has encoded, of options of this table.
func (t Table) ToldBy(all []*extra.SocketOption) ([]Told, error) {
	var out []Told
	for _, x := range all {
		i := t.index(int(x.GetLevel()), int(x.GetName()))
		if i < 0 {
			return nil, fmt.Errorf("socket option %d of level %d: this Glis doesn't know it", x.GetName(), x.GetLevel())
		}
		if len(x.Value) != t[i].Size {
			return nil, fmt.Errorf("%s: value of %d bytes, it should have %d", t[i].Name, len(x.Value), t[i].Size)
		}
		out = append(out, Told{t[i].Name, valueOf(x.Value)})
	}
	return out, nil
}
