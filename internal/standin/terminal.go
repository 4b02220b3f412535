package standin

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
)

// Terminal is a pseudo-terminal whose master is only in a message, as the kernel's memory
// tells of it.
type Terminal struct {
	Index           uint32
	Settings, Fixed unix.Termios // of the slave; what is locked of them
	Size            unix.Winsize
	Locked          bool // TIOCSPTLCK
	HungUp          bool // there were slaves, and there are none
	Exclusive       bool // TIOCEXCL, of the master
	SlaveExclusive  bool // of the slave
	Controls        bool // it controls a session
	Typed           []byte
	Arriving        []byte // was typed, too, but the slave has no room for it yet
	Shown           []byte
	// Flow is how the slave's output is held back, Modes the master's packet mode: as
	// they are in the kernel, to be compared with another one's.
	Flow, Modes []byte
	slave       kmem.Addr // inode of its file
}

func terminalNames() []string {
	return []string{
		"inode.i_rdev", "tty_file_private.tty", "tty_struct.link", "tty_struct.index", "tty_struct.termios", "tty_struct.termios_locked", "tty_struct.flags",
		"tty_struct.winsize", "tty_struct.flow", "tty_struct.ctrl", "tty_struct.hw_stopped", "tty_struct.disc_data", "tty_struct.port", "tty_struct.driver_data", "tty_struct",
		"n_tty_data", "n_tty_data.read_head", "n_tty_data.read_tail", "n_tty_data.read_buf", "n_tty_data.echo_head", "n_tty_data.echo_tail",
		"tty_port.buf", "tty_bufhead.head", "tty_buffer", "tty_buffer.next", "tty_buffer.commit", "tty_buffer.read", "tty_buffer.data", "dentry.d_inode",
	}
}

// Flags of a terminal, numbers of bits of include/linux/tty.h.
const (
	otherClosed  = 2
	exclusiveBit = 3
	ptyLock      = 16 // where it has no name, which it has got with another number
	ptyLockName  = "tty_struct_flags.TTY_PTY_LOCK"
)

// Numbers of a master's device, /dev/ptmx.
const (
	masterMajor = 5
	masterMinor = 2
)

// IsMaster tells whether a file is the master of a pseudo-terminal, and can be told of.
func IsMaster(m *sockmem.Memory, x *sockmem.Lone) (bool, error) {
	if !TellsTerminals(m) {
		return false, nil
	}
	if x.Mode&unix.S_IFMT != unix.S_IFCHR {
		return false, nil
	}
	dev, err := m.Pointer(x.Inode + m.Off("inode.i_rdev"))
	return uint32(dev) == masterMajor<<20|masterMinor, err
}

// TellsTerminals tells whether this kernel's memory of terminals can be read.
func TellsTerminals(m *sockmem.Memory) bool {
	return !slices.ContainsFunc(terminalNames(), func(n string) bool { return !m.Has(n) })
}

// ReadTerminal reads what a master is of. file is where the kernel has it. What is still on
// its way from one end to the other it reads once more when it has come.
func ReadTerminal(m *sockmem.Memory, file kmem.Addr) (*Terminal, error) {
	at, err := m.Private(file)
	if err == nil {
		at, err = m.Pointer(at + m.Off("tty_file_private.tty"))
	}
	if err != nil {
		return nil, err
	}
	var last *terminal
	for range mostLooks {
		t, err := look(m, at)
		if err != nil {
			return nil, err
		}
		if last != nil && last.same(t) {
			return t.tell()
		}
		last = t
	}
	return nil, unlike("it is a pseudo-terminal that changes while it is looked at")
}

// mostLooks is how often a terminal is looked at until it is twice the same.
const mostLooks = 100

// terminal is the kernel's memory of both ends.
type terminal struct {
	m             *sockmem.Memory
	master, slave *kmem.Struct
	ends          [2]*kmem.Struct // struct n_tty_data: of the slave, of the master
	buffered      [2][]byte       // what didn't get there yet
}

func look(m *sockmem.Memory, at kmem.Addr) (t *terminal, err error) {
	t = &terminal{m: m}
	if t.master, err = m.Struct("tty_struct", at); err != nil {
		return nil, err
	}
	if t.slave, err = m.Struct("tty_struct", t.master.Pointer("tty_struct.link")); err != nil {
		return nil, err
	}
	for i, end := range []*kmem.Struct{t.slave, t.master} {
		if t.buffered[i], err = buffered(m, end.Pointer("tty_struct.port")); err != nil {
			return nil, err
		}
		data := end.Pointer("tty_struct.disc_data")
		if data == 0 {
			return nil, unlike("it is the master of a pseudo-terminal that is about to be closed")
		}
		if t.ends[i], err = m.Struct("n_tty_data", data); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// mostBuffers is more buffers than a terminal has.
const mostBuffers = 4096

// buffered reads what a port's buffers have, and the end has not. Of a pseudo-terminal that
// is only characters: errors and breaks (tty_buffer.flags, which are 1 for none in Linux 6.1,
// and 0 in later ones) are a line's.
func buffered(m *sockmem.Memory, port kmem.Addr) (all []byte, err error) {
	at, err := m.Pointer(port + m.Off("tty_port.buf") + m.Off("tty_bufhead.head"))
	for n := 0; err == nil && at != 0; n++ {
		b, err := m.Struct("tty_buffer", at)
		if err != nil {
			return nil, err
		}
		from, to := b.U32("tty_buffer.read"), b.U32("tty_buffer.commit")
		if n == mostBuffers || from > to || to-from > mostPiece {
			return nil, unlike("it is a pseudo-terminal that changes while it is looked at")
		}
		data := make([]byte, to-from)
		if err := m.ReadAt(data, at+m.Off("tty_buffer.data")+kmem.Addr(from)); err != nil {
			return nil, err
		}
		all, at = append(all, data...), b.Pointer("tty_buffer.next")
	}
	return all, err
}

func (t *terminal) same(o *terminal) bool {
	same := bytes.Equal(t.master.Bytes, o.master.Bytes) && bytes.Equal(t.slave.Bytes, o.slave.Bytes)
	for i := range t.ends {
		same = same && bytes.Equal(t.ends[i].Bytes, o.ends[i].Bytes) && bytes.Equal(t.buffered[i], o.buffered[i])
	}
	return same
}

// waits is what an end has to read.
func (t *terminal) waits(end int) ([]byte, error) {
	s := t.ends[end]
	head, tail := uint64(s.Pointer("n_tty_data.read_head")), uint64(s.Pointer("n_tty_data.read_tail"))
	size := uint64(unix.Getpagesize()) // N_TTY_BUF_SIZE
	if size > 4096 {
		size = 4096
	}
	if head-tail > size || s.Pointer("n_tty_data.echo_head") != s.Pointer("n_tty_data.echo_tail") {
		return nil, unlike("it is a pseudo-terminal with echoes that are held back, or that changes while it is looked at")
	}
	ring := s.Raw("n_tty_data.read_buf", int(size))
	out := make([]byte, 0, head-tail)
	for ; tail != head; tail++ {
		out = append(out, ring[tail%size])
	}
	return out, nil
}

// tell says what memory means.
func (t *terminal) tell() (out *Terminal, err error) {
	flag := func(s *kmem.Struct, bit int) bool { return s.Pointer("tty_struct.flags")>>bit&1 != 0 }
	locked := ptyLock
	if t.m.Has(ptyLockName) {
		locked = int(t.m.Off(ptyLockName))
	}
	out = &Terminal{
		Index: t.master.U32("tty_struct.index"), Locked: flag(t.master, locked), HungUp: flag(t.master, otherClosed),
		Exclusive: flag(t.master, exclusiveBit), SlaveExclusive: flag(t.slave, exclusiveBit), Arriving: t.buffered[0],
	}
	if out.Typed, err = t.waits(0); err != nil {
		return nil, err
	}
	if out.Shown, err = t.waits(1); err != nil {
		return nil, err
	}
	out.Shown = append(out.Shown, t.buffered[1]...)
	for name, to := range map[string]any{"tty_struct.termios": &out.Settings, "tty_struct.termios_locked": &out.Fixed, "tty_struct.winsize": &out.Size} {
		if err := binary.Read(bytes.NewReader(t.slave.In(name).Bytes), binary.NativeEndian, to); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	between := func(s *kmem.Struct, from, to string, skip int) []byte {
		return bytes.Clone(s.Raw(from, int(t.m.Off(to)-t.m.Off(from)))[skip:])
	}
	const pointers = 2 * 8 // the session, and its group
	out.Flow = between(t.slave, "tty_struct.flow", "tty_struct.ctrl", 0)
	out.Modes = between(t.master, "tty_struct.ctrl", "tty_struct.hw_stopped", pointers)
	session := t.slave.Raw("tty_struct.ctrl", pointers)[8:]
	out.Controls = binary.NativeEndian.Uint64(session) != 0
	entry := t.slave.Pointer("tty_struct.driver_data")
	out.slave, err = t.m.Pointer(entry + t.m.Off("dentry.d_inode"))
	return out, err
}

// IsSlave tells whether a file (O_PATH does) is a terminal's slave.
func (t *Terminal) IsSlave(m *sockmem.Memory, own int) (bool, error) {
	at, err := m.File(own)
	if err != nil {
		return false, err
	}
	x, err := m.Lone(at)
	return err == nil && x.Inode == t.slave, err
}
