package file

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// A pseudo-terminal whose master is in the tree comes back whole, with its
// number: master and slaves, settings, what is on the way in both directions,
// and the session it controls. See pty(7).

// isMaster tells whether a file is the master of a pseudo-terminal.
func isMaster(f *scan.File) bool {
	return unix.Major(f.Stat.Rdev) == auxMajor && unix.Minor(f.Stat.Rdev) == minorPTMX && f.Info().TTYIndex != nil
}

const minorPTMX = 2

// mastersOf finds the masters of the tree, by the number of their terminal.
func (k *TTY) mastersOf(t *scan.Tree) map[uint32]*scan.File {
	if k.masters == nil {
		k.masters = map[uint32]*scan.File{}
	}
	for ; k.among < len(t.Files); k.among++ { // there are more, since terminals have names
		if f := t.Files[k.among]; k.Match(f) && isMaster(f) {
			k.masters[k.indexOf(f)] = f
		}
	}
	return k.masters
}

// pair returns the master of a terminal's other end, if it is in the tree, and
// the terminal's number. d is the terminal, borrowed.
func (k *TTY) pair(env *kind.DumpEnv, f *scan.File, d *fd.FD) (*scan.File, uint32, error) {
	index := uint32(0)
	switch {
	case isMaster(f):
		index = k.indexOf(f)
	case isSlave(f.Stat.Rdev):
		index = unix.Minor(f.Stat.Rdev)
	case isCTTY(f.Stat.Rdev):
		dev, err := unix.IoctlGetUint32(d.Int(), unix.TIOCGDEV)
		if err != nil || dev>>8&0xfff != slaveMajor {
			return nil, 0, nil
		}
		index = dev&0xff | dev>>12&0xfff00
	default:
		return nil, 0, nil
	}
	master := k.mastersOf(env.Tree)[index]
	if master == nil && env.Discover != nil { // it may be in a message
		if err := env.Discover(); err != nil {
			return nil, 0, err
		}
		master = k.mastersOf(env.Tree)[index]
	}
	return master, index, nil
}

// dumpPair dumps one file of a pseudo-terminal that is whole in the tree.
func (k *TTY) dumpPair(env *kind.DumpEnv, f, master *scan.File, index uint32, d *fd.FD) (*fdinfo.FileEntry, error) {
	own, err := readOwner(env, f, d)
	if err != nil {
		return nil, err
	}
	if k.pairs[index] == nil {
		if k.pairs == nil {
			k.pairs = map[uint32]*scan.File{}
		}
		k.pairs[index] = master
		if err := k.putPair(env, master, index); err != nil {
			return nil, fmt.Errorf("%v: %w", master, err)
		}
	}
	reg, err := env.Files.Linked(f.Task, f.Path(), f.Flags)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", f, err)
	}
	id := index << 1
	if f == master {
		id |= 1
	}
	return &fdinfo.FileEntry{Tty: &tty.TtyFileEntry{Id: proto.Uint32(f.ID), TtyInfoId: &id, Flags: proto.Uint32(f.Flags), Fown: own, RegfId: proto.Uint32(reg.ID)}}, nil
}

// putPair writes what both ends share.
func (k *TTY) putPair(env *kind.DumpEnv, master *scan.File, index uint32) error {
	d, err := master.Borrow()
	if err != nil {
		return err
	}
	defer d.Close()
	e, err := ttyInfo(master, d)
	if err != nil {
		return err
	}
	for _, q := range []struct {
		req uint
		to  **bool
	}{{unix.TIOCGPTLCK, &e.Locked}, {unix.TIOCGEXCL, &e.Exclusive}, {unix.TIOCGPKT, &e.PacketMode}} {
		on, err := unix.IoctlGetInt(d.Int(), q.req)
		if err != nil {
			return fmt.Errorf("read its state (%#x): %w", q.req, err)
		}
		*q.to = proto.Bool(on != 0)
	}
	controls, err := unix.IoctlGetInt(d.Int(), unix.TIOCGSID)
	if err != nil && !errors.Is(err, unix.ENOTTY) { // it controls none
		return fmt.Errorf("%v: TIOCGSID: %w", master, err)
	}
	if controls != 0 && env.Tree.Task(proc.PID(controls)) == nil {
		return kind.Unsupported(master, "its terminal /dev/pts/%d controls session %d, which is outside of the tree; dump that, too", index, controls)
	}
	if *e.Sid, *e.Pgrp, err = session(env.Tree, master, index); err != nil {
		return err
	}
	if l := k.loneOf(master); l != nil && l.was.Controls && *e.Sid == 0 {
		return kind.Unsupported(master, "its terminal /dev/pts/%d controls a session that is outside of the tree; dump that, too", index)
	}
	st, err := slaveInode(index, e)
	if err != nil {
		return err
	}
	e.Type, e.Pty = tty.TtyType_PTY.Enum(), &tty.TtyPtyEntry{Index: &index}
	hung, err := hungUp(d)
	if err != nil {
		return fmt.Errorf("%v: %w", master, err)
	}
	if hung {
		putVarint(e, ttyHungUp, 1)
	}
	if err := k.putHeld(env, master, d, index, e, hung || k.hasSlave(env.Tree, index)); err != nil {
		return err
	}
	slave := *e
	slave.Rdev, slave.Dev = proto.Uint32(uint32(st.Rdev)), proto.Uint32(uint32(st.Dev))
	e.Id, slave.Id = proto.Uint32(index<<1|1), proto.Uint32(index<<1)
	k.mark(&slave, e)
	if err := env.Images.Put(image.TTYInfo, e, nil); err != nil {
		return err
	}
	return env.Images.Put(image.TTYInfo, &slave, nil)
}

// plainDiscipline refuses an end of a terminal of which something else than a terminal's line
// discipline (N_TTY) makes what it is: what is on the way there isn't known, and it would be lost.
func plainDiscipline(f *scan.File, d *fd.FD) error {
	n, err := unix.IoctlGetInt(d.Int(), unix.TIOCGETD)
	if errors.Is(err, unix.EIO) {
		return nil // it was hung up
	}
	if err != nil {
		return fmt.Errorf("%v: TIOCGETD: %w", f, err)
	}
	if n != 0 {
		return kind.Unsupported(f, "an end of the terminal has another line discipline than a terminal's (number %d, TIOCSETD), which isn't carried over; let the program set it back", n)
	}
	return nil
}

// putHeld writes what is on the way in a terminal, and how that is held back. A master without
// a slave may have been stopped, too.
func (k *TTY) putHeld(env *kind.DumpEnv, master *scan.File, d *fd.FD, index uint32, e *tty.TtyInfoEntry, hadSlave bool) error {
	if hadSlave {
		return putOnWay(env, master, d, index, e)
	}
	// To open its slave would be noticed: the master hears that it was closed again.
	if e.GetSid() != 0 {
		return kind.Unsupported(master, "its terminal controls session %d (TIOCSCTTY), and nobody in the tree has its slave, which only to open would be noticed; let a process of the tree open it", e.GetSid())
	}
	if n, err := settleTTY(d); err != nil || n > 0 {
		return errors.Join(err, kind.Unsupported(master, "%d bytes wait to be read from it, and nobody has opened its slave yet, by which alone they could be put back; let the program read them, or open it", n))
	}
	if err := k.nothingTyped(master, d); err != nil {
		return err
	}
	held, err := letMaster(d)
	if held != flowing {
		putVarint(e, ttyHeld, uint64(held))
	}
	return errors.Join(err, held.stopMaster(d))
}

// putOnWay writes what is on the way in a terminal. One that was locked
// again since its slave was opened is unlocked for that.
func putOnWay(env *kind.DumpEnv, file *scan.File, d *fd.FD, index uint32, e *tty.TtyInfoEntry) error {
	lock := func(on int) error {
		if !e.GetLocked() {
			return nil
		}
		return unix.IoctlSetPointerInt(d.Int(), unix.TIOCSPTLCK, on)
	}
	if err := lock(0); err != nil {
		return err
	}
	held, err := putTTYData(env, file, d, index, e.GetPacketMode())
	if held != flowing {
		putVarint(e, ttyHeld, uint64(held))
	}
	return errors.Join(err, lock(1))
}

// hasSlave tells whether a terminal's slave is open in the tree.
func (k *TTY) hasSlave(t *scan.Tree, index uint32) bool {
	return slices.ContainsFunc(t.Files, func(f *scan.File) bool {
		return k.Match(f) && isSlave(f.Stat.Rdev) && unix.Minor(f.Stat.Rdev) == index
	})
}

// mark keeps entries from being written by who meets the terminal later.
func (k *TTY) mark(all ...*tty.TtyInfoEntry) {
	if k.infos == nil {
		k.infos = map[uint32]*tty.TtyInfoEntry{}
	}
	for _, e := range all {
		k.infos[e.GetId()] = e
	}
}

// hungUp tells whether a master has had slaves, and has none.
func hungUp(d *fd.FD) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(d.Int())}}
	n, err := linux.PollNow(fds)
	if err != nil {
		return false, fmt.Errorf("ask whether it is hung up: poll: %w", err)
	}
	return n > 0 && fds[0].Revents&unix.POLLHUP != 0, nil
}

// session returns the session that a terminal controls, and the group in its
// foreground; 0 if none of that is there.
func session(t *scan.Tree, master *scan.File, index uint32) (sid, pgrp uint32, err error) {
	dev := slaveMajor<<8 | index&0xff | index&^0xff<<12
	for _, task := range t.Tasks {
		s := &task.Stat
		lead := t.Task(s.Session)
		switch {
		case task.Zombie || lead == nil || lead.Stat.TTY != dev && s.TTY != dev:
			continue
		case lead.Stat.TTY != s.TTY:
			if s.TTY == 0 && task.Ended == nil {
				continue // see task.NoTerminal
			}
			return 0, 0, kind.Unsupported(task, "it has not the terminal that its session has (TIOCNOTTY, or it was there before that had one), and its first thread has ended, by which alone it could have none again; end that process first")
		}
		sid = uint32(lead.VPID)
		if fg := t.Task(proc.PID(s.Tpgid)); fg != nil {
			pgrp = uint32(fg.VPID)
		} else if groupThere(t, s.Tpgid) {
			pgrp = uint32(s.Tpgid)
		}
	}
	return sid, pgrp, nil
}

func groupThere(t *scan.Tree, pgrp int32) bool {
	for _, task := range t.Tasks {
		if int32(task.Stat.Pgrp) == pgrp {
			return true
		}
	}
	return false
}

// slaveInode notes who owns the slave, and its mode. The device in criu's entry
// tells masters from slaves.
func slaveInode(index uint32, e *tty.TtyInfoEntry) (st unix.Stat_t, err error) {
	name := fmt.Sprintf("/dev/pts/%d", index)
	if err := unix.Stat(name, &st); err != nil {
		return st, fmt.Errorf("its slave %s is not there; is another devpts in the way? %w", name, err)
	}
	e.Uid, e.Gid = &st.Uid, &st.Gid
	putVarint(e, ttyMode, uint64(st.Mode&0o7777))
	return st, nil
}
