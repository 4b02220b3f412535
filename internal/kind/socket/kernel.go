package socket

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// Kernel is the options of a family as the running kernel has them.
type Kernel struct {
	Table Table
	Fresh []Value // of a new socket; not OK: the kernel doesn't have the option
	fixed []bool  // can't be set on this family
	after []int   // index of Table[i].After, or -1
	// allowed are the sizes that were set last and that the kernel has taken.
	allowed []atomic.Uint32
	last    Saved  // what Save returned last
	fresh   Saved  // what New returns
	plain   *Value // the first of some that Default has found to be a new socket's
	// unlike is what SetBut looked at last: most sockets have what others have.
	unlike atomic.Pointer[unlike]
}

// unlike are the options that a socket has otherwise than a new one, by their place in the
// table, and such as others may change when they are set.
type unlike struct {
	of *Value // the first of its options
	at []int
}

// NewKernel learns what the kernel has from a new socket, which it changes.
func NewKernel(t Table, fd int) (*Kernel, error) {
	k := &Kernel{Table: t, Fresh: make([]Value, len(t)), fixed: make([]bool, len(t)), after: make([]int, len(t)), allowed: make([]atomic.Uint32, len(t))}
	for i := range t {
		k.after[i] = -1
		if t[i].After != "" {
			k.after[i] = t.named(t[i].After)
		}
		v, err := t[i].get(fd)
		switch {
		case errors.Is(err, unix.ENOPROTOOPT), errors.Is(err, unix.EOPNOTSUPP):
			continue
		case err != nil:
			return nil, err
		}
		k.Fresh[i] = v
		if t[i].Ask {
			k.fixed[i] = linux.Setsockopt(fd, t[i].Level, t[i].Opt, Uint(uint32(1^v.Lo)).bytes(t[i].Size)) != nil
		}
	}
	return k, nil
}

// Read reads the option of a socket.
func (o *Option) Read(fd int) (Value, error) { return o.get(fd) }

// Write sets the option of a socket.
func (o *Option) Write(fd int, v Value) error { return o.set(linux.Hand{}, fd, o.Opt, v) }

func (o *Option) get(fd int) (Value, error) {
	var buf [16]byte
	n, err := linux.Getsockopt(fd, o.Level, o.Opt, buf[:o.Size])
	if err != nil {
		return Value{}, fmt.Errorf("read %s: %w", o.Name, err)
	}
	if n != o.Size {
		return Value{}, fmt.Errorf("read %s: the kernel tells %d bytes, not %d", o.Name, n, o.Size)
	}
	return valueOf(buf[:n]), nil
}

// Read reads the options of a socket that are not OK in values yet. It makes
// one system call for each, some 0.15 µs.
func (k *Kernel) Read(fd int, values []Value) error {
	for i := range k.Table {
		if values[i].OK {
			continue
		}
		values[i] = k.Fresh[i]
		if !k.Fresh[i].OK || k.fixed[i] && !k.Table[i].locks() || k.after[i] >= 0 && values[k.after[i]].Lo == 0 {
			continue
		}
		v, err := k.Table[i].get(fd)
		if err != nil {
			return err
		}
		values[i] = v
	}
	return nil
}

// locks tells whether it is SO_BUF_LOCK: what sets a size changes that, too, also where it
// can't be set itself.
func (o *Option) locks() bool { return o.Opt == unix.SO_BUF_LOCK && o.Level == unix.SOL_SOCKET }

// Know marks the value of an option as read, if the table has that option.
func (k *Kernel) Know(values []Value, name string, v Value) {
	if i := k.Table.named(name); i >= 0 {
		values[i] = v
	}
}

// Value returns the value of an option among values.
func (k *Kernel) Value(values []Value, name string) (Value, bool) {
	return k.Table.Value(values, name)
}

// Value returns the value of an option among values.
func (t Table) Value(values []Value, name string) (Value, bool) {
	i := t.named(name)
	if i < 0 {
		return Value{}, false
	}
	return values[i], values[i].OK
}

// Set sets those options of a socket that are due from one point to another
// and that a new socket has otherwise. touched are names of options that the
// restore itself has changed since the socket was new.
func (k *Kernel) Set(fd int, want []Value, from, to When, touched ...string) error {
	return k.SetBut(linux.Hand{}, fd, want, "", from, to, touched...)
}

// SetBut is Set by a hand, for which the kernel's answers may have to wait, but for one
// option, which is left as it is; "": for none.
func (k *Kernel) SetBut(h linux.Hand, fd int, want []Value, but string, from, to When, touched ...string) error {
	sized := false
	for _, i := range k.differing(want, touched) {
		o := &k.Table[i]
		if o.When < from || o.When > to || !want[i].OK || o.Name == but {
			continue
		}
		locks := sized && o.locks()
		if want[i] == k.Fresh[i] && !locks && !slices.Contains(touched, o.Name) {
			continue
		}
		if err := k.set(h, fd, i, want[i]); err != nil {
			return err
		}
		// A size that was set is locked against the kernel's own tuning.
		sized = sized || o.Force != 0
	}
	return nil
}

// differing returns the places of the options that may have to be set, in their order.
// Values that are shared never change.
func (k *Kernel) differing(want []Value, touched []string) []int {
	if len(want) == 0 {
		return nil
	}
	known := k.unlike.Load()
	if known == nil || known.of != &want[0] {
		known = &unlike{of: &want[0]}
		for i := range want {
			if want[i].OK && (want[i] != k.Fresh[i] || k.Table[i].locks()) {
				known.at = append(known.at, i)
			}
		}
		k.unlike.Store(known)
	}
	all := known.at
	for _, name := range touched {
		if i := k.Table.named(name); i >= 0 && !slices.Contains(all, i) {
			all = append(slices.Clip(all), i)
		}
	}
	if len(all) > len(known.at) {
		slices.Sort(all)
	}
	return all
}

// Default tells whether options are those of a new socket.
func (k *Kernel) Default(s Saved) bool {
	if len(s.Entry.GetSoFilter()) > 0 || s.Entry.GetSoBoundDev() != "" {
		return false
	}
	if len(s.Values) == 0 || k.plain == &s.Values[0] {
		return true
	}
	for i, v := range s.Values {
		if v.OK && v != k.Fresh[i] && !k.fixed[i] {
			return false
		}
	}
	k.plain = &s.Values[0]
	return true
}

func (k *Kernel) set(h linux.Hand, fd, i int, v Value) error {
	o := &k.Table[i]
	switch {
	case k.fixed[i]:
		// An older kernel let it be set; on this family it never did anything.
		return nil
	case !k.Fresh[i].OK:
		return fmt.Errorf("%s: this kernel doesn't have it", o.Name)
	case o.Force != 0:
		return k.setSize(h, fd, i, uint32(v.Lo))
	case k.markOfTCP(o):
		return k.setMark(h, fd, o, v)
	case o.Opt == unix.SO_LINGER && o.Level == unix.SOL_SOCKET && uint32(v.Lo) == 0:
		// The seconds of a lingering that is off stay from when it was on.
		if err := o.set(h, fd, o.Opt, Value{Lo: v.Lo | 1}); err != nil {
			return err
		}
	}
	return o.set(h, fd, o.Opt, v)
}

func (o *Option) set(h linux.Hand, fd, opt int, v Value) error {
	err := h.Setsockopt(fd, o.Level, opt, v.bytes(o.Size))
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("set %s to %#x: it needs CAP_NET_ADMIN: %w", o.Name, v.Lo, err)
	}
	if err != nil {
		return fmt.Errorf("set %s to %#x: %w", o.Name, v.Lo, err)
	}
	return nil
}

// setSize sets a buffer size, of which the kernel makes twice as much, beyond
// the limits of sysctl(8) if that is allowed.
func (k *Kernel) setSize(h linux.Hand, fd, i int, bytes uint32) error {
	o, half := &k.Table[i], Uint(bytes/2)
	err := o.set(h, fd, o.Force, half)
	if errors.Is(err, unix.EPERM) {
		err = o.set(h, fd, o.Opt, half)
	}
	if err != nil || bytes != 0 && k.allowed[i].Load() == bytes {
		return err
	}
	if err := h.Run(); err != nil {
		return err
	}
	got, err := o.get(fd)
	if err != nil {
		return err
	}
	// An odd size can only come from sysctl(8), and can't be set.
	if uint32(got.Lo) != bytes&^1 {
		return fmt.Errorf("set %s to %d bytes: the kernel allows %d; more needs CAP_NET_ADMIN or a higher net.core.[rw]mem_max", o.Name, bytes, uint32(got.Lo))
	}
	k.allowed[i].Store(bytes)
	return nil
}
