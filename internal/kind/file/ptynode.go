package file

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/plan"
)

// ptySet is a pseudo-terminal to be made again.
type ptySet struct {
	index   uint32
	info    *tty.TtyInfoEntry // of the master
	owner   *tty.TtyInfoEntry // whose owner is the slave's: criu writes /dev/ptmx's into the master's
	in, out []byte            // what is on the way to the slave, and to the master
	master  *ptyNode
	ptmx    string  // where a new one is asked for
	path    plan.ID // the slave's file, in which criu has its mode; 0: none
	mode    uint32  // that, 0 for none
	hold    *fd.FD  // the master, as long as slaves are opened
	made    bool
}

// ptyNode is one file description of a pseudo-terminal.
type ptyNode struct {
	base
	set      *ptySet
	isMaster bool
}

// most terminals that there can be (NR_UNIX98_PTY_MAX, linux/devpts_fs.h).
const maxPTY = 1 << 20

// planPair plans a file of a pseudo-terminal both ends of which are in the
// images; nil if it is not one.
func (k *TTY) planPair(p *plan.Plan, e *fdinfo.FileEntry, b base) (plan.Node, error) {
	in := e.GetTty()
	info := k.infos[in.GetTtyInfoId()|1]
	if k.infos[in.GetTtyInfoId()].GetType() == tty.TtyType_CTTY {
		info = k.controls(k.infos[in.GetTtyInfoId()].GetSid())
	}
	if info == nil || info.GetType() != tty.TtyType_PTY {
		return nil, nil
	}
	index := info.GetPty().GetIndex()
	if info.Pty == nil || index >= maxPTY || info.GetId() != index<<1|1 {
		return nil, fmt.Errorf("a pseudo-terminal with number %d (%#x): it can't be", index, info.GetId())
	}
	for _, t := range []*tty.TermiosEntry{info.GetTermios(), info.GetTermiosLocked()} {
		if t != nil && len(t.GetCCc()) != controlChars {
			return nil, fmt.Errorf("a terminal with %d control characters: there are %d", len(t.GetCCc()), controlChars)
		}
	}
	s, err := k.pty(p.Source, index, info)
	if err != nil {
		return nil, err
	}
	n := &ptyNode{base: b, set: s, isMaster: in.GetTtyInfoId() == info.GetId()}
	if in.GetTtyInfoId() == index<<1 {
		s.path = plan.ID(in.GetRegfId())
	}
	if n.isMaster {
		if s.master != nil {
			return nil, fmt.Errorf("terminal %d has two masters", index)
		}
		s.master = n
		p.Binds(fmt.Sprintf("/dev/pts/%d", index), n.id) // whose file in devpts is there as long as it is
	}
	return n, nil
}

// controls returns the master of the terminal that controls a session.
func (k *TTY) controls(sid uint32) *tty.TtyInfoEntry {
	for id, info := range k.infos {
		if id&1 == 1 && sid != 0 && info.GetType() == tty.TtyType_PTY && info.GetSid() == sid {
			return info
		}
	}
	return nil
}

func (k *TTY) pty(src plan.Source, index uint32, info *tty.TtyInfoEntry) (*ptySet, error) {
	if s := k.sets[index]; s != nil {
		return s, nil
	}
	if k.sets == nil {
		k.sets = map[uint32]*ptySet{}
	}
	s := &ptySet{index: index, info: info, owner: info, ptmx: "/dev/ptmx"}
	if slave := k.infos[index<<1]; slave.GetType() == tty.TtyType_PTY {
		s.owner = slave
	}
	k.sets[index] = s
	all, err := src.Entries(image.TTYData)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		m := e.Message.(*tty.TtyDataEntry)
		switch {
		case len(m.GetData()) > mostOnWay:
			return nil, fmt.Errorf("tty-data.img: terminal %#x has %d bytes on the way, more than can be", m.GetTtyId(), len(m.GetData()))
		case m.GetTtyId() == index<<1:
			s.in = m.GetData()
		case m.GetTtyId() == index<<1|1:
			s.out = m.GetData()
		}
	}
	return s, nil
}

// readMode takes the mode of the slave's file from where criu has it.
func (s *ptySet) readMode(p *plan.Plan) {
	if file, ok := p.Node(s.path).(*regularNode); ok && file.mode&unix.S_IFMT == unix.S_IFCHR {
		s.mode = file.mode
	}
}

// checkPairs makes sure that each pseudo-terminal has its master.
func (k *TTY) checkPairs() error {
	for _, s := range k.sets {
		if s.master == nil {
			return fmt.Errorf("terminal %d: its master is in tty-info.img, and no file is it", s.index)
		}
	}
	return nil
}

// String implements plan.Node.
func (n *ptyNode) String() string {
	if n.isMaster {
		return fmt.Sprintf("terminal %#x: master of /dev/pts/%d, controls session %d", n.id, n.set.index, n.set.info.GetSid())
	}
	return fmt.Sprintf("terminal %#x: /dev/pts/%d", n.id, n.set.index)
}

// Check implements plan.Checked.
func (n *ptyNode) Check(*plan.CheckEnv) error {
	if !n.isMaster {
		return nil
	}
	return n.set.free()
}

// free fails if another terminal has the number.
func (s *ptySet) free() error {
	var st unix.Stat_t
	if err := unix.Stat(s.name(), &st); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: the number of a pseudo-terminal of the tree is in use by another one; end what runs there", s.name())
	}
	return nil
}

func (s *ptySet) name() string { return fmt.Sprintf("/dev/pts/%d", s.index) }

// Create implements plan.Node.
func (n *ptyNode) Create(context.Context, *plan.Env) (*fd.FD, error) {
	if err := n.set.create(); err != nil {
		return nil, fmt.Errorf("%s: %w", n.set.name(), err)
	}
	if n.isMaster {
		num, err := unix.FcntlInt(uintptr(n.set.hold.Int()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		return n.ready(fd.New(num))
	}
	return n.set.slaveAs(n.flags)
}

// slaveAs opens the slave of a terminal with the flags that it had.
func (s *ptySet) slaveAs(flags uint32) (*fd.FD, error) {
	d, err := peerAs(s.hold, flags&^(notForOpen|unix.O_NOFOLLOW))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name(), err)
	}
	return d, nil
}

// slave opens the slave of a terminal.
func (s *ptySet) slave(master *fd.FD) (*fd.FD, error) {
	d, err := peer(master)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name(), err)
	}
	return d, nil
}

// create makes the terminal with everything but the files of the tree.
func (s *ptySet) create() error {
	if s.made {
		return nil
	}
	var err error
	if s.hold, err = s.numbered(); err != nil {
		return err
	}
	s.made = true
	if err := unix.IoctlSetPointerInt(s.hold.Int(), unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("unlock it: %w", err)
	}
	return s.set()
}

// numbered makes terminals until one has the number that is wanted, and returns
// that one. The kernel gives the lowest that is free.
func (s *ptySet) numbered() (*fd.FD, error) {
	for range s.index + 1 {
		num, err := unix.Open(s.ptmx, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("make a pseudo-terminal: %w", err)
		}
		d := fd.New(num)
		index, err := unix.IoctlGetUint32(num, unix.TIOCGPTN)
		if err == nil && index == s.index {
			return d, nil
		}
		defer d.Close() // not before, or it would be given again
		if err != nil || index > s.index {
			break
		}
	}
	return nil, errors.New("its number is in use by another terminal; end what runs there")
}

// set gives a new terminal owner, settings, and what was on the way.
func (s *ptySet) set() error {
	if err := s.setInode(); err != nil {
		return err
	}
	if len(s.in) > 0 || len(s.out) > 0 || s.hungUp() {
		if err := s.giveAll(); err != nil {
			return err
		}
	}
	m := s.hold.Int()
	if t := s.info.GetTermios(); t != nil {
		if err := unix.IoctlSetTermios(m, unix.TCSETS, unpackTermios(t)); err != nil {
			return fmt.Errorf("give it its settings: %w", err)
		}
	}
	if err := s.holdBack(); err != nil {
		return err
	}
	return s.setModes(m)
}

// holdBack stops the slave's output, and what the master types, as it was.
func (s *ptySet) holdBack() error {
	v, _, _ := extra(s.info, ttyHeld)
	held := ttyFlow(v)
	if held&^ofMaster == flowing {
		return held.stopMaster(s.hold)
	}
	d, err := s.slave(s.hold)
	if err != nil {
		return err
	}
	defer d.Close()
	if held&exclusive != 0 {
		if err := unix.IoctlSetInt(d.Int(), unix.TIOCEXCL, 0); err != nil {
			return fmt.Errorf("TIOCEXCL: %w", err)
		}
	}
	return errors.Join(held.hold(s.hold, d), held.stopMaster(s.hold))
}

// setInode gives the file of a new terminal its owner and mode.
func (s *ptySet) setInode() error {
	mode, _, ok := extra(s.info, ttyMode)
	if !ok {
		mode, ok = uint64(s.mode), s.mode != 0
	}
	if s.owner.Uid != nil {
		if err := unix.Chown(s.name(), int(s.owner.GetUid()), int(s.owner.GetGid())); err != nil {
			return fmt.Errorf("give it to user %d: %w", s.owner.GetUid(), err)
		}
	}
	if ok {
		if err := unix.Chmod(s.name(), uint32(mode&0o7777)); err != nil {
			return fmt.Errorf("set its mode: %w", err)
		}
	}
	return nil
}

func (s *ptySet) setModes(m int) error {
	var errs []error
	if t := s.info.GetTermiosLocked(); t != nil {
		errs = append(errs, unix.IoctlSetTermios(m, unix.TIOCSLCKTRMIOS, unpackTermios(t)))
	}
	if w := s.info.GetWinsize(); w != nil {
		size := &unix.Winsize{Row: uint16(w.GetWsRow()), Col: uint16(w.GetWsCol()), Xpixel: uint16(w.GetWsXpixel()), Ypixel: uint16(w.GetWsYpixel())}
		errs = append(errs, unix.IoctlSetWinsize(m, unix.TIOCSWINSZ, size))
	}
	if s.info.GetExclusive() {
		errs = append(errs, unix.IoctlSetInt(m, unix.TIOCEXCL, 0))
	}
	if s.info.GetPacketMode() {
		errs = append(errs, unix.IoctlSetPointerInt(m, unix.TIOCPKT, 1))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("set its size and modes: %w", err)
	}
	return nil
}

func (s *ptySet) hungUp() bool {
	v, _, _ := extra(s.info, ttyHungUp)
	return v == 1
}

// giveAll puts back what was on the way. Lines are told apart by the settings
// that the terminal had.
func (s *ptySet) giveAll() error {
	d, err := s.slave(s.hold)
	if err != nil {
		return err
	}
	defer d.Close() // the last slave: the master is told, if it was
	if t := s.info.GetTermios(); t != nil {
		if err := unix.IoctlSetTermios(d.Int(), unix.TCSETS, unpackTermios(t)); err != nil {
			return err
		}
	}
	if err := giveInput(s.hold, d, s.in); err != nil {
		return err
	}
	return giveOutput(s.hold, d, s.out)
}

// Session implements plan.Terminal.
func (n *ptyNode) Session() (sid, group uint32) {
	if !n.isMaster {
		return 0, 0
	}
	return n.set.info.GetSid(), n.set.info.GetPgrp()
}

// Slave implements plan.Terminal.
func (n *ptyNode) Slave(*plan.Env) (*fd.FD, error) {
	if err := n.set.create(); err != nil {
		return nil, fmt.Errorf("%s: %w", n.set.name(), err)
	}
	return n.set.slave(n.set.hold)
}

// Late implements plan.Later: all have taken their terminals.
func (n *ptyNode) Late(context.Context, *plan.Env) error {
	defer n.Drop()
	if n.set.hold == nil || !n.set.info.GetLocked() {
		return nil
	}
	if err := unix.IoctlSetPointerInt(n.set.hold.Int(), unix.TIOCSPTLCK, 1); err != nil {
		return fmt.Errorf("%s: lock it: %w", n.set.name(), err)
	}
	return nil
}

// Drop implements plan.Dropper.
func (n *ptyNode) Drop() {
	if n.set.hold != nil {
		n.set.hold.Close()
		n.set.hold = nil
	}
}
