package inspect

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/eventpoll"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fsnotify"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	remap "glis.dev/glis/image/criu/remap-file-path"
	"glis.dev/glis/image/criu/timerfd"
	"glis.dev/glis/image/criu/tty"
)

// Types of files that others refer to.
const (
	typeReg   = int32(fdinfo.FdTypes_REG)
	typeEpoll = int32(fdinfo.FdTypes_EVENTPOLL)
	typeMemfd = int32(fdinfo.FdTypes_MEMFD)
)

var errNoDetails = errors.New("the entry says nothing but its type")

// name sets the file's name, in JSON also for names that are not UTF-8.
func (f *File) name(s string) {
	f.Name, f.NameBytes = s, nil
	if !utf8.ValidString(s) {
		f.NameBytes = []byte(s)
	}
}

// readFiles reads the open files and what else belongs to them.
func (r *reader) readFiles() error {
	ttys := map[uint32]*File{}
	err := optional(r, image.Files, nil, func(e *fdinfo.FileEntry) error { return r.fileEntry(e, ttys) })
	if err != nil {
		return err
	}
	for _, f := range r.rep.Files {
		if f.nameFrom != nil && f.Name == "" {
			f.name(r.path(*f.nameFrom))
		}
	}
	err = optional(r, image.TTYInfo, nil, func(e *tty.TtyInfoEntry) error {
		if f := ttys[e.GetId()]; f != nil {
			*f.Terminal = terminal(e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, f := range r.rep.Files {
		// Several files may be open on one terminal.
		if f.Terminal != nil && f.Terminal.Type == "" {
			*f.Terminal = *ttys[f.ttyInfo].Terminal
		}
	}
	if err := r.pipeData(image.PipesData); err != nil {
		return err
	}
	if err := r.pipeData(image.FifoData); err != nil {
		return err
	}
	return r.remaps()
}

func terminal(e *tty.TtyInfoEntry) Terminal {
	t := Terminal{Type: terminalWord(int32(e.GetType())), Session: e.GetSid(), Group: e.GetPgrp()}
	if p := e.GetPty(); p != nil {
		t.Index = p.Index
	}
	return t
}

func (r *reader) fileEntry(e *fdinfo.FileEntry, ttys map[uint32]*File) error {
	f := &File{ID: e.GetId(), Kind: kindWord(int32(e.GetType()))}
	key := fileKey{int32(e.GetType()), f.ID}
	if r.files[key] != nil {
		return fmt.Errorf("%s %d is listed twice", f.Kind, f.ID)
	}
	err := r.describe(f, e)
	if err == nil {
		err = checkName(f.Name)
	}
	if err != nil {
		return fmt.Errorf("%s %d: %w", f.Kind, f.ID, err)
	}
	if f.Terminal != nil && ttys[f.ttyInfo] == nil {
		ttys[f.ttyInfo] = f
	}
	r.files[key] = f
	r.rep.Files = append(r.rep.Files, f)
	return nil
}

// describe takes over what is known of the file.
func (r *reader) describe(f *File, e *fdinfo.FileEntry) error {
	switch e.GetType() {
	case fdinfo.FdTypes_REG, fdinfo.FdTypes_MEMFD, fdinfo.FdTypes_PIPE, fdinfo.FdTypes_FIFO, fdinfo.FdTypes_TTY:
		return r.describeFile(f, e)
	case fdinfo.FdTypes_INETSK, fdinfo.FdTypes_UNIXSK, fdinfo.FdTypes_NETLINKSK, fdinfo.FdTypes_PACKETSK:
		return r.describeSocket(f, e)
	case fdinfo.FdTypes_EVENTFD, fdinfo.FdTypes_EVENTPOLL, fdinfo.FdTypes_SIGNALFD, fdinfo.FdTypes_TIMERFD,
		fdinfo.FdTypes_INOTIFY, fdinfo.FdTypes_FANOTIFY:
		return r.describeEvents(f, e)
	}
	return r.describeOther(f, e)
}

// describeFile is describe for what has contents.
func (r *reader) describeFile(f *File, e *fdinfo.FileEntry) error {
	switch reg, mfd, p, ff, t := e.GetReg(), e.GetMemfd(), e.GetPipe(), e.GetFifo(), e.GetTty(); {
	case reg != nil:
		f.name(reg.GetName())
		f.Flags = r.openWords(reg.GetFlags())
		f.Position, f.Size = reg.Pos, reg.Size
	case mfd != nil:
		f.Flags = r.openWords(mfd.GetFlags())
		f.Position, f.memfdInode = mfd.Pos, mfd.GetInodeId()
	case p != nil:
		f.Flags = r.openWords(p.GetFlags())
		r.end(f, p.GetPipeId(), p.GetFlags())
	case ff != nil:
		// Name and flags are those of the regular file beside it, which
		// comes earlier or later.
		f.nameFrom = ff.RegfId
		f.Pipe = ff.PipeId
	case t != nil:
		f.Flags = r.openWords(t.GetFlags())
		f.nameFrom, f.ttyInfo, f.Terminal = t.RegfId, t.GetTtyInfoId(), &Terminal{}
	default:
		return errNoDetails
	}
	return nil
}

// end notes an end of a pipe.
func (r *reader) end(f *File, id, flags uint32) {
	f.Pipe = &id
	p := r.pipe(id)
	switch flags & accessMask {
	case accessRead:
		p.Readers, p.readers = append(p.Readers, f.ID), append(p.readers, f)
	case accessWrite:
		p.Writers, p.writers = append(p.Writers, f.ID), append(p.writers, f)
	default:
		p.Readers, p.readers = append(p.Readers, f.ID), append(p.readers, f)
		p.Writers, p.writers = append(p.Writers, f.ID), append(p.writers, f)
	}
}

func (r *reader) pipe(id uint32) *Pipe {
	p := r.pipes[id]
	if p == nil {
		p = &Pipe{ID: id}
		r.pipes[id] = p
		r.rep.Pipes = append(r.rep.Pipes, p)
	}
	return p
}

// pipeData reads what is in pipes.
func (r *reader) pipeData(row *image.Row) error {
	return optional(r, row, nil, func(e *pipedata.PipeDataEntry) error {
		p := r.pipe(e.GetPipeId())
		p.QueuedBytes, p.Size = e.GetBytes(), e.GetSize()
		return nil
	})
}

func (r *reader) remaps() error {
	return optional(r, image.RemapFile, nil, func(e *remap.RemapFilePathEntry) error {
		word := remapWord(int32(e.GetRemapType()))
		if e.RemapType == nil {
			word = remapWord(int32(remap.RemapType_GHOST))
		}
		if f := r.files[fileKey{typeReg, e.GetOrigId()}]; f != nil {
			f.Remap = word
		}
		if word == "ghost" {
			r.used[image.GhostFile.FileName(e.GetRemapId())] = true
		}
		return nil
	})
}

// describeEvents is describe for what tells of events.
func (r *reader) describeEvents(f *File, e *fdinfo.FileEntry) error {
	switch efd, epoll, sig, timer, in, fan := e.GetEfd(), e.GetEpfd(), e.GetSgfd(), e.GetTfd(), e.GetIfy(), e.GetFfy(); {
	case efd != nil:
		f.Flags, f.Counter = r.openWords(efd.GetFlags()), efd.Counter
	case epoll != nil:
		f.Flags = r.openWords(epoll.GetFlags())
		return r.members(f, epoll.GetTfd())
	case sig != nil:
		f.Flags, f.Signals = r.openWords(sig.GetFlags()), signalWords(sig.GetSigmask())
	case timer != nil:
		f.Flags, f.Timer = r.openWords(timer.GetFlags()), timerOf(timer)
	case in != nil:
		f.Flags = r.openWords(in.GetFlags())
		return r.inotify(f, in.GetWd())
	case fan != nil:
		f.Flags = r.openWords(fan.GetFlags())
		return r.fanotify(f, fan.GetMark())
	default:
		return errNoDetails
	}
	return nil
}

func (r *reader) members(f *File, all []*eventpoll.EventpollTfdEntry) error {
	for _, e := range all {
		f.Members = append(f.Members, Member{FD: e.GetTfd(), Events: epollWords(e.GetEvents()), Data: fmt.Sprintf("%#x", e.GetData())})
	}
	return r.spend(len(all))
}

func (r *reader) inotify(f *File, all []*fsnotify.InotifyWdEntry) error {
	for _, e := range all {
		path := e.GetFHandle().GetPath()
		if err := checkName(path); err != nil {
			return err
		}
		f.Watches = append(f.Watches, Watch{ID: e.GetWd(), Path: path, Device: e.GetSDev(), Inode: e.GetIIno(), Events: watchWords(e.GetMask())})
	}
	return r.spend(len(all))
}

func (r *reader) fanotify(f *File, all []*fsnotify.FanotifyMarkEntry) error {
	for _, e := range all {
		path := e.GetMe().GetPath()
		if e.GetIe() != nil {
			path = e.GetIe().GetFHandle().GetPath()
		}
		if err := checkName(path); err != nil {
			return err
		}
		f.Watches = append(f.Watches, Watch{ID: e.GetId(), Path: path, Device: e.GetSDev(), Inode: e.GetIe().GetIIno(), Events: watchWords(e.GetMask())})
	}
	return r.spend(len(all))
}

func timerOf(e *timerfd.TimerfdEntry) *Timer {
	return &Timer{
		Clock: clockWord(e.GetClockid()), Ticks: e.GetTicks(),
		RemainsUS: microseconds(e.GetVsec(), e.GetVnsec()), IntervalUS: microseconds(e.GetIsec(), e.GetInsec()),
	}
}

// microseconds is a time, or the largest there is.
func microseconds(sec, nsec uint64) uint64 {
	const perSecond = 1_000_000
	if sec >= math.MaxInt64/perSecond {
		return math.MaxInt64
	}
	return sec*perSecond + min(nsec/1000, perSecond)
}

// describeOther is describe for the rest. Of a kind that is not known the type
// is all there is.
func (r *reader) describeOther(f *File, e *fdinfo.FileEntry) error {
	if ns := e.GetNsf(); ns != nil {
		f.Flags, f.Namespace = r.openWords(ns.GetFlags()), namespaceWord(ns.GetNsCflag())
	}
	if tun := e.GetTunf(); tun != nil {
		f.name(tun.GetNetdev())
	}
	if bpf := e.GetBpf(); bpf != nil {
		f.name(bpf.GetMapName())
		f.Flags = r.openWords(bpf.GetFlags())
	}
	if p := e.GetPidfd(); p != nil {
		f.Flags, f.PID = r.openWords(p.GetFlags()), p.Nspid
	}
	return nil
}

// readTable reads the descriptors of a task.
func (r *reader) readTable(t *Task, id uint32) error {
	seen := map[uint32]bool{}
	return optional(r, image.FdInfo, []uint32{id}, func(e *fdinfo.FdinfoEntry) error {
		d := Descriptor{FD: e.GetFd(), File: e.GetId(), Kind: kindWord(int32(e.GetType())), CloseOn: e.GetFlags()&1 != 0}
		if seen[d.FD] {
			return fmt.Errorf("descriptor %d is listed twice", d.FD)
		}
		seen[d.FD] = true
		d.open = r.files[fileKey{int32(e.GetType()), d.File}]
		if d.open == nil {
			return fmt.Errorf("descriptor %d is %s %d, which is not in %s", d.FD, d.Kind, d.File, image.Files.FileName())
		}
		t.Descriptors = append(t.Descriptors, d)
		d.open.Holders = append(d.open.Holders, Holder{PID: t.PID, FD: d.FD})
		return nil
	})
}

// link finds what descriptors and files refer to among each other.
func (r *reader) link() error {
	for _, f := range r.rep.Files {
		if f.Pipe != nil && len(f.Flags) == 0 && f.nameFrom != nil {
			r.fifoEnd(f)
		}
	}
	for _, t := range r.rep.Tasks {
		var byFD map[uint32]*Descriptor
		for _, d := range t.Descriptors {
			f := d.open
			if len(f.Members) == 0 || f.Holders[0] != (Holder{t.PID, d.FD}) {
				continue
			}
			if byFD == nil {
				byFD = descriptorsByFD(t)
			}
			for j := range f.Members {
				f.Members[j].resolve(byFD)
			}
		}
	}
	return nil
}

func descriptorsByFD(t *Task) map[uint32]*Descriptor {
	m := make(map[uint32]*Descriptor, len(t.Descriptors))
	for i := range t.Descriptors {
		m[t.Descriptors[i].FD] = &t.Descriptors[i]
	}
	return m
}

func (m *Member) resolve(byFD map[uint32]*Descriptor) {
	if d := byFD[m.FD]; d != nil {
		m.File, m.Kind, m.open = &d.File, d.Kind, d.open
	}
}

// fifoEnd completes a FIFO by the regular file that names it.
func (r *reader) fifoEnd(f *File) {
	reg := r.files[fileKey{typeReg, *f.nameFrom}]
	if reg == nil {
		return
	}
	f.Flags = reg.Flags
	flags := uint32(accessRead)
	switch {
	case len(f.Flags) > 0 && strings.HasPrefix(f.Flags[0], "read-"):
		flags = accessBoth
	case len(f.Flags) > 0 && f.Flags[0] == "write":
		flags = accessWrite
	}
	r.end(f, *f.Pipe, flags)
}
