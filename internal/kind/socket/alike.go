package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
)

// Alike recognizes TCP or UDP sockets that have the same options by their memory in
// the kernel, so that only one of them has to be asked for its options.
//
// It doesn't know which bytes are which option: it makes sockets of its own,
// sets one option of each, and sees which words of memory that changes. Two
// sockets in which all these words are the same are alike. An option that can't
// be learnt that way is one that every socket is asked for.
type Alike struct {
	kernel *Kernel
	size   int            // of the memory
	parts  []sockmem.Span // that count
	ask    []int          // options that every socket is asked for
	groups map[string]*Group
	key    []byte
	place  *sockmem.TCP // of what is in the memory
	opts   int          // where in a key the address of IP options is
	told   []int        // options that Fill is told
	values []Value
	last   Saved // what Fill returned last, if that wasn't the group's
	lastOf *Group
	words  [][]sockmem.Span // that an option has changed, by option
	found  [][]setting      // what sockets were found to have, see Fitting
}

// Group is sockets that are alike.
type Group struct {
	alike *Alike
	saved Saved
	known bool
	// Fill has found out whether it can be told all: missing if it can't.
	filled, missing bool
}

// Known tells whether the options of one socket of the group are. A nil Group
// is never known.
func (g *Group) Known() bool { return g != nil && g.known }

// Learn notes the options of one socket of the group, which must have nothing
// attached.
func (g *Group) Learn(s Saved) { g.saved, g.known = s, true }

// Save is Kernel.Save for a socket of a group that is known.
func (g *Group) Save(fd int) (Saved, error) {
	k := g.alike.kernel
	values := slices.Clone(g.saved.Values)
	for _, i := range g.alike.ask {
		values[i].OK = false
	}
	for i, o := range k.Table {
		// What has several parts may differ in one that wasn't learnt.
		if o.Size > 4 && values[i] != k.Fresh[i] {
			values[i].OK = false
		}
	}
	if err := k.Read(fd, values); err != nil {
		return Saved{}, err
	}
	if slices.Equal(values, g.saved.Values) {
		return g.saved, nil
	}
	return k.encode(values), nil
}

// Told is the value of an option that is known of one socket.
type Told struct {
	Name string
	Value
}

// Fill is Save for a socket of which the options are told that each is asked
// for; false if that isn't enough.
func (g *Group) Fill(told []Told) (Saved, bool) {
	a := g.alike
	if !g.filled {
		g.missing = g.ask(told)
		g.filled = true
	}
	if g.missing {
		return Saved{}, false
	}
	v := append(a.values[:0], g.saved.Values...)
	a.values = v
	for i, t := range told {
		v[a.told[i]] = t.Value
	}
	switch {
	case slices.Equal(v, g.saved.Values):
		return g.saved, true
	case a.last.Entry == nil || a.lastOf != g || !slices.Equal(v, a.last.Values):
		a.last, a.lastOf = a.kernel.encode(v), g
	}
	return a.last, true
}

// ask tells whether others than those that are told have to be asked for.
func (g *Group) ask(told []Told) bool {
	a, k := g.alike, g.alike.kernel
	a.told = a.told[:0]
	for _, t := range told {
		a.told = append(a.told, k.Table.named(t.Name))
	}
	if slices.Contains(a.told, -1) {
		return true
	}
	for i, o := range k.Table {
		varies := slices.Contains(a.ask, i) || o.Size > 4 && g.saved.Values[i] != k.Fresh[i]
		if varies && !slices.Contains(a.told, i) {
			return true
		}
	}
	return false
}

// Of returns the group of a socket of this family whose memory is given, nil
// if that is too little.
func (a *Alike) Of(memory []byte) *Group {
	if len(memory) < a.size {
		return nil
	}
	a.key = a.key[:0]
	for _, p := range a.parts {
		a.key = append(a.key, memory[p.At:p.At+p.Size]...)
	}
	if n := a.place.Options.Size; n > 0 && a.place.HasNone(memory) {
		clear(a.key[a.opts : a.opts+n]) // as a restore leaves an address of none, see tcp.Stream
	}
	g := a.groups[string(a.key)]
	if g == nil {
		g = &Group{alike: a}
		a.groups[string(a.key)] = g
	}
	return g
}

// FamilyOf returns the address family of a socket whose memory is given, 0 if
// it isn't one of TCP.
func FamilyOf(l *sockmem.TCP, memory []byte) int { return familyOf(l, memory, unix.IPPROTO_TCP) }

// FamilyOfUDP is FamilyOf for sockets of UDP.
func FamilyOfUDP(l *sockmem.TCP, memory []byte) int { return familyOf(l, memory, unix.IPPROTO_UDP) }

func familyOf(l *sockmem.TCP, memory []byte, protocol uint16) int {
	if len(memory) < l.Size || binary.NativeEndian.Uint16(memory[l.Protocol.At:]) != protocol {
		return unix.AF_UNSPEC
	}
	return int(binary.NativeEndian.Uint16(memory[l.Family.At:]))
}

// LearnAlike learns from sockets that sample makes, ends of connections that
// stand still, about 60 of them. ask names options that change by themselves,
// or depend on more than the socket. It fails with sockmem.ErrUnavailable where
// nothing can be learnt.
func LearnAlike(k *Kernel, r *sockmem.Reader, l *sockmem.TCP, family int, sample func() (int, error), ask ...string) (*Alike, error) {
	a := &Alike{kernel: k, size: l.Size, groups: map[string]*Group{}}
	if family == unix.AF_INET {
		a.size = l.Size4
	}
	s := study{alike: a, ask: ask, placed: l.Placed, counts: make([]bool, a.size)}
	defer s.close()
	read := func() error { return s.read(r) }
	for _, step := range []func() error{func() error { return s.samples(sample) }, read, s.change, read} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("%w: %w", sockmem.ErrUnavailable, err)
		}
	}
	s.conclude(l, family)
	return a, nil
}

// study is the sockets to learn from, one for every option of the table.
type study struct {
	alike  *Alike
	ask    []string
	placed []string    // what counts anyway
	counts []bool      // by byte
	fds    []int       // -1: none
	memory [2][][]byte // before and after the change
	words  [][]sockmem.Span
}

func (s *study) close() {
	for _, n := range s.fds {
		if n >= 0 {
			unix.Close(n)
		}
	}
}

func (s *study) samples(sample func() (int, error)) error {
	k := s.alike.kernel
	for i, o := range k.Table {
		s.fds = append(s.fds, -1)
		if !k.Fresh[i].OK || k.fixed[i] || o.Placed || slices.Contains(s.placed, o.Name) {
			continue // it isn't read either, or counts anyway
		}
		if slices.Contains(s.ask, o.Name) {
			s.alike.ask = append(s.alike.ask, i)
			continue
		}
		n, err := sample()
		if err != nil {
			return fmt.Errorf("make a socket to learn from: %w", err)
		}
		s.fds[i] = n
	}
	return nil
}

// read reads the memory of all samples.
func (s *study) read(r *sockmem.Reader) error {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(self)
	found := make([][]byte, len(s.fds))
	err = r.Each(self, func(m sockmem.Socket) error {
		if i := slices.Index(s.fds, int(m.FD)); i >= 0 {
			found[i] = slices.Clone(m.Sock)
		}
		return nil
	})
	for i, n := range s.fds {
		if err == nil && n >= 0 && len(found[i]) < s.alike.size {
			err = errors.New("the memory of a socket of our own wasn't shown")
		}
	}
	s.memory[0], s.memory[1] = s.memory[1], found
	return err
}

// change sets every sample's option. One that can't be set, or isn't afterwards,
// is one to ask for.
func (s *study) change() error {
	k := s.alike.kernel
	for i, n := range s.fds {
		if n < 0 {
			continue
		}
		o := &k.Table[i]
		before, err := o.get(n)
		if err != nil {
			return err
		}
		set := func(v Value) bool {
			if k.set(linux.Hand{}, n, i, v) != nil {
				return false
			}
			after, err := o.get(n)
			return err == nil && after != before
		}
		if !slices.ContainsFunc(o.learnt(before), set) {
			s.forget(i)
		}
	}
	return nil
}

// forget has every socket asked for an option.
func (s *study) forget(i int) {
	s.alike.ask = append(s.alike.ask, i)
	unix.Close(s.fds[i])
	s.fds[i] = -1
}

// conclude finds out which bytes count.
func (s *study) conclude(l *sockmem.TCP, family int) {
	a := s.alike
	moving := make([]bool, a.size)
	mark(moving, true, l.Moving...)
	s.words = make([][]sockmem.Span, len(s.fds))
	for i, n := range s.fds {
		if n >= 0 && !s.compare(i, moving) {
			a.ask = append(a.ask, i)
		}
	}
	mark(s.counts, false, l.Moving...)
	mark(s.counts, true, l.Fixed...)
	if family == unix.AF_INET6 {
		mark(s.counts, true, l.Fixed6...)
	}
	slices.Sort(a.ask)
	a.parts, a.place, a.words = spans(s.counts), l, s.words
	for _, p := range a.parts {
		if in := l.Options.At - p.At; in >= 0 && in < p.Size {
			a.opts += in
			break
		}
		a.opts += p.Size
	}
}

// compare has the words count that an option has changed, and tells whether
// there are any. Words count whole: an option has more values than two.
func (s *study) compare(i int, moving []bool) bool {
	before, after := s.memory[0][i], s.memory[1][i]
	word, found := 4, false
	if s.alike.kernel.Table[i].Size > 4 {
		word = 8
	}
	for at := range before[:s.alike.size] {
		if before[at] != after[at] && !moving[at] {
			found = true
			start := at / word * word
			changed := sockmem.Span{At: start, Size: min(word, s.alike.size-start)}
			mark(s.counts, true, changed)
			if n := len(s.words[i]); n == 0 || s.words[i][n-1] != changed {
				s.words[i] = append(s.words[i], changed)
			}
		}
	}
	return found
}

func mark(bytes []bool, as bool, all ...sockmem.Span) {
	for _, p := range all {
		for i := range p.Size {
			bytes[p.At+i] = as
		}
	}
}

// spans returns where bytes are true.
func spans(bytes []bool) []sockmem.Span {
	var out []sockmem.Span
	for at, yes := range bytes {
		switch n := len(out); {
		case !yes:
		case n > 0 && out[n-1].At+out[n-1].Size == at:
			out[n-1].Size++
		default:
			out = append(out, sockmem.Span{At: at, Size: 1})
		}
	}
	return out
}

// learnt returns values of the option to learn from, to be tried in turn. They
// change nothing but the option, if possible: far changes how much may be
// queued, and how fast packets go.
func (o *Option) learnt(now Value) []Value {
	if o.Level != unix.SOL_SOCKET {
		n, first := uint32(now.Lo), uint32(1<<24) // interface 1, as in packets
		return []Value{Uint(n ^ 1), Uint(n ^ 4), Uint(n / 2), Uint(first), Uint(1)}
	}
	switch o.Opt {
	case unix.SO_RCVLOWAT:
		return []Value{Uint(2)}
	case unix.SO_MAX_PACING_RATE:
		return []Value{{Lo: 1 << 40, OK: true}}
	}
	return []Value{o.far(now)}
}
