package socket

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// Fitting finds the options of a socket that nobody has as a descriptor, by its memory: it
// gives new sockets values, and keeps those that make the memory of the two more alike. In
// the end all that counts is the same, or it has failed.
type Fitting struct {
	*Alike
	Want []byte              // memory of the other one
	New  func() (int, error) // makes a new socket
	// Read reads the memory of a new one. Where it may differ it is as Want is.
	Read func(fd int) ([]byte, error)

	set  []setting
	last []byte // memory of one with what was found at first
}

// setting is an option that was found.
type setting struct {
	option int
	value  Value
}

// Try returns a socket that has all options of the other one, -1 if there is none. Most
// have what one before has; else those options are tried first that have changed words
// which differ.
func (f *Fitting) Try() (int, error) {
	for _, known := range f.found {
		f.set = known
		if left, _, err := f.distance(nil); left == 0 || err != nil {
			return f.made(left, err)
		}
	}
	f.set = nil
	left, _, err := f.distance(nil)
	for _, all := range []bool{false, false, true, true} {
		for i := range f.kernel.Table {
			if left == 0 || err != nil {
				break
			}
			if f.kernel.Fresh[i].OK && !f.kernel.fixed[i] && (all || f.concerns(i)) {
				left, err = f.option(i, left)
			}
		}
	}
	return f.made(left, err)
}

// Begin has Try begin with the options of a socket that is known, as far as those that
// count differ from a new one's.
func (f *Fitting) Begin(value func(name string) (Value, bool)) {
	f.set = f.set[:0]
	for i := range f.kernel.Table {
		o := &f.kernel.Table[i]
		v, ok := value(o.Name)
		if ok && v.OK && v != f.kernel.Fresh[i] && f.kernel.Fresh[i].OK && !f.kernel.fixed[i] && len(f.Alike.words[i]) > 0 {
			f.set = append(f.set, setting{i, v})
		}
	}
	f.remember()
}

// mostFound is how many are remembered.
const mostFound = 8

// made is the end of Try.
func (f *Fitting) made(left int, err error) (int, error) {
	if err != nil || left != 0 {
		return -1, err
	}
	f.remember()
	return f.make(nil)
}

// remember has those be tried first that were found last.
func (f *Fitting) remember() {
	known := slices.DeleteFunc(slices.Clone(f.found), func(o []setting) bool { return slices.Equal(o, f.set) })
	f.found = append([][]setting{slices.Clone(f.set)}, known[:min(len(known), mostFound-1)]...)
}

// concerns tells whether a word differs that an option is known to change.
func (f *Fitting) concerns(i int) bool {
	for _, w := range f.Alike.words[i] {
		for at := w.At; at < w.At+w.Size; at++ {
			if f.last[at] != f.Want[at] {
				return true
			}
		}
	}
	return false
}

// option tries values of one option, and returns how much differs then.
func (f *Fitting) option(i, left int) (int, error) {
	var best *setting
	for _, v := range f.values(&f.kernel.Table[i], f.kernel.Fresh[i]) {
		x := &setting{i, v}
		n, ok, err := f.distance(x)
		if err != nil {
			return left, err
		}
		if ok && n < left {
			left, best = n, x
		}
	}
	if best == nil {
		return left, nil
	}
	f.set = append(f.set, *best)
	left, _, err := f.distance(nil)
	return left, err
}

// errUnset says that a socket takes no such value.
var errUnset = errors.New("it can't be set")

// make makes a socket with what was found, and one more option.
func (f *Fitting) make(more *setting) (int, error) {
	n, err := f.New()
	if err != nil {
		return -1, err
	}
	for _, x := range f.set {
		if err := f.kernel.set(linux.Hand{}, n, x.option, x.value); err != nil {
			return -1, errors.Join(err, unix.Close(n))
		}
	}
	if more != nil && f.kernel.set(linux.Hand{}, n, more.option, more.value) != nil {
		return -1, errors.Join(errUnset, unix.Close(n))
	}
	return n, nil
}

// distance is how many bits that count differ if one more option is set; false if it
// can't be.
func (f *Fitting) distance(more *setting) (int, bool, error) {
	own, err := f.make(more)
	if errors.Is(err, errUnset) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer unix.Close(own)
	is, err := f.Read(own)
	if err != nil {
		return 0, false, err
	}
	n := 0
	for _, p := range f.parts {
		for at := p.At; at < p.At+p.Size; at++ {
			n += bits.OnesCount8(is[at] ^ f.Want[at])
		}
	}
	if more == nil {
		f.last = is
	}
	return n, true, nil
}

// ticks are how many units of the kernel's time (CONFIG_HZ) a second may have, and how
// many ms.
var ticks = [...]uint32{1000, 250, 300, 100}

// values are what an option may be: the other one of two, a number that is in the
// other socket's memory where this one's differs, or what a new one has, which differs
// from that if it was set.
func (f *Fitting) values(o *Option, now Value) (out []Value) {
	add := func(v Value) {
		if v.OK = true; !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	add(now)
	switch o.Size {
	case 16:
		f.times(add)
		return out
	case 8:
		f.longs(add)
	}
	add(Value{Lo: now.Lo ^ 1})
	f.numbers(func(n uint32) {
		if o.Size == 8 { // struct linger
			add(Value{Lo: 1 | uint64(n)<<32})
			return
		}
		add(Uint(n))
	})
	return out
}

// numbers calls fn with all numbers that an option may have been made of.
func (f *Fitting) numbers(fn func(uint32)) {
	f.differing(f.last, func(w uint32) {
		fn(w)
		for _, hz := range ticks {
			if w%hz == 0 {
				fn(w / hz)
			}
			if 1000%hz == 0 { // of ms, and of µs
				fn(w * (1000 / hz))
				fn(w * (1000 / hz) * 1000)
			}
		}
		for shift := 0; shift < 32; shift += 8 {
			fn(w >> shift & 0xff)
			fn(secondsOf(w >> shift & 0xff))
		}
		fn(w & 0xffff)
		fn(w >> 16)
	})
}

// secondsOf is how long some tries of a handshake take, each twice as long as the one before
// but two minutes at most: what a listener waits for first data (TCP_DEFER_ACCEPT) is kept so.
func secondsOf(tries uint32) (all uint32) {
	const most = 120 // TCP_RTO_MAX
	for one := uint32(1); tries > 0; tries-- {
		all += one
		one = min(2*one, most)
	}
	return all
}

// times calls fn with each word as a struct timeval.
func (f *Fitting) times(fn func(Value)) {
	const second = 1_000_000
	f.differing(f.last, func(w uint32) {
		for _, hz := range ticks {
			fn(Value{Lo: uint64(w / hz), Hi: uint64(w%hz) * second / uint64(hz)})
		}
	})
}

// longs calls fn with each word of 8 bytes.
func (f *Fitting) longs(fn func(Value)) {
	for _, p := range f.parts {
		for at := (p.At + 7) &^ 7; at+8 <= p.At+p.Size; at += 8 {
			if v := binary.NativeEndian.Uint64(f.Want[at:]); v != binary.NativeEndian.Uint64(f.last[at:]) {
				fn(Value{Lo: v})
			}
		}
	}
}

// differing calls fn with each word of the other one's memory that counts and differs.
func (f *Fitting) differing(is []byte, fn func(uint32)) {
	last := -1
	for _, p := range f.parts {
		for at := p.At; at < p.At+p.Size; at++ {
			if word := at / 4; is[at] != f.Want[at] && word != last && word*4+4 <= len(f.Want) {
				last = word
				fn(binary.NativeEndian.Uint32(f.Want[word*4:]))
			}
		}
	}
}

// Size is how much memory of a socket is looked at, in bytes.
func (a *Alike) Size() int { return a.size }

// Asked returns the options that memory doesn't tell of.
func (a *Alike) Asked() (names []string) {
	for _, i := range a.ask {
		names = append(names, a.kernel.Table[i].Name)
	}
	return names
}

// SetNamed sets one option of a socket, as Restore does.
func (k *Kernel) SetNamed(fd int, name string, v Value) error {
	i := k.Table.named(name)
	if i < 0 || k.Fresh[i] == v {
		return nil
	}
	return k.set(linux.Hand{}, fd, i, v)
}

// Settable tells whether a new socket takes an option at all.
func (k *Kernel) Settable(fd int, name string) bool {
	i := k.Table.named(name)
	if i < 0 {
		return false
	}
	v, err := k.Table[i].get(fd)
	return err == nil && k.set(linux.Hand{}, fd, i, v) == nil
}
