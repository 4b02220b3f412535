package proc

import (
	"encoding/hex"
	"math"
)

// fdinfoLine is the start of a line of fdinfo and what reads the rest.
type fdinfoLine struct {
	key string
	set func(*FDInfo, *text)
}

// fdinfoLines are the lines that are decoded, the frequent ones first.
var fdinfoLines = []fdinfoLine{
	{"pos:", func(i *FDInfo, t *text) { i.Pos = t.int64("an offset") }},
	{"flags:", func(i *FDInfo, t *text) { i.Flags = t.oct32("octal flags") }},
	{"mnt_id:", func(i *FDInfo, t *text) { i.MntID = t.int32("a mount's number") }},
	{"ino:", func(i *FDInfo, t *text) { i.Ino = t.dec("an inode number") }},
	{"scm_fds:", func(i *FDInfo, t *text) { i.SCMFDs = t.dec32("a number") }},
	{"tfd:", func(i *FDInfo, t *text) { i.Epoll = append(i.Epoll, t.epollTarget()) }},
	{"lock:", func(i *FDInfo, t *text) { i.Locks = append(i.Locks, t.lock()) }},
	{"inotify ", func(i *FDInfo, t *text) { i.Inotify = append(i.Inotify, t.inotifyMark()) }},
	{"fanotify flags:", func(i *FDInfo, t *text) { i.fanotify().flags(t) }},
	{"fanotify ", func(i *FDInfo, t *text) { f := i.fanotify(); f.Marks = append(f.Marks, t.fanotifyMark()) }},
	{"eventfd-count:", func(i *FDInfo, t *text) { i.eventfd().Count = t.hex("a hexadecimal count") }},
	{"eventfd-id:", func(i *FDInfo, t *text) { i.eventfd().ID = t.int32("a number") }},
	{"eventfd-semaphore:", func(i *FDInfo, t *text) {
		i.eventfd().Semaphore, i.eventfd().Told = t.flag("0 or 1"), true
	}},
	{"sigmask:", func(i *FDInfo, t *text) { m := t.hex("a signal set"); i.Sigmask = &m }},
	{"clockid:", func(i *FDInfo, t *text) { i.timerfd().ClockID = t.int32("a clock") }},
	{"ticks:", func(i *FDInfo, t *text) { i.timerfd().Ticks = t.dec("a number") }},
	{"settime flags:", func(i *FDInfo, t *text) { i.timerfd().SettimeFlags = t.oct32("octal flags") }},
	{"it_value:", func(i *FDInfo, t *text) { i.timerfd().Value = t.timePair() }},
	{"it_interval:", func(i *FDInfo, t *text) { i.timerfd().Interval = t.timePair() }},
	{"Pid:", func(i *FDInfo, t *text) { i.pidfd().PID = t.int32("a process number") }},
	{"NSpid:", func(i *FDInfo, t *text) { i.pidfd().NSpid = t.numbers() }},
	{"tty-index:", func(i *FDInfo, t *text) { n := t.int32("a number"); i.TTYIndex = &n }},
	{"iff:", func(i *FDInfo, t *text) { s := string(t.rest()); i.TunName = &s }},
}

// fdinfoNeeded is how many of fdinfoLines, from the first, every file has.
const fdinfoNeeded = 3

func parseFDInfo(file string, b []byte) (FDInfo, error) {
	var i FDInfo
	seen := 0
	err := eachLine(file, b, func(t *text) {
		for n := range fdinfoLines {
			l := &fdinfoLines[n]
			if !t.has(l.key) {
				continue
			}
			if n == seen {
				seen++
			}
			t.blanks()
			l.set(&i, t)
			t.end()
			return
		}
		if len(t.b) > 0 {
			i.Rest = append(i.Rest, string(t.rest()))
		}
	})
	if err == nil && seen < fdinfoNeeded {
		err = &ParseError{File: file, Line: 1, Want: "a line " + fdinfoLines[seen].key, Got: excerpt(b)}
	}
	if err != nil {
		return FDInfo{}, err
	}
	return i, nil
}

func (i *FDInfo) eventfd() *Eventfd {
	if i.Eventfd == nil {
		i.Eventfd = &Eventfd{}
	}
	return i.Eventfd
}

func (i *FDInfo) timerfd() *Timerfd {
	if i.Timerfd == nil {
		i.Timerfd = &Timerfd{}
	}
	return i.Timerfd
}

func (i *FDInfo) fanotify() *Fanotify {
	if i.Fanotify == nil {
		i.Fanotify = &Fanotify{}
	}
	return i.Fanotify
}

func (i *FDInfo) pidfd() *Pidfd {
	if i.Pidfd == nil {
		i.Pidfd = &Pidfd{}
	}
	return i.Pidfd
}

// key demands "name:" and skips the blanks around it.
func (t *text) key(name string) {
	t.blanks()
	t.lit(name)
	t.blanks()
}

func (t *text) epollTarget() (e EpollTarget) {
	e.FD = t.int32("a descriptor")
	t.key("events:")
	e.Events = t.hex32("hexadecimal events")
	t.key("data:")
	e.Data = t.hex("hexadecimal data")
	t.key("pos:")
	e.Pos = t.int64("an offset")
	t.key("ino:")
	e.Ino = t.hex("a hexadecimal inode number")
	t.key("sdev:")
	e.Dev = t.hex32("a hexadecimal device number")
	return e
}

// timePair reads "(SECONDS, NANOSECONDS)" and returns nanoseconds.
func (t *text) timePair() uint64 {
	const second uint64 = 1e9
	t.lit("(")
	s := t.number(10, math.MaxUint64/second-1, "seconds")
	t.lit(",")
	t.blanks()
	ns := t.number(10, second-1, "nanoseconds")
	t.lit(")")
	return s*second + ns
}

func (t *text) inotifyMark() (m InotifyMark) {
	t.lit("wd:")
	m.WD = int32(t.number(16, math.MaxInt32, "a hexadecimal watch"))
	t.key("ino:")
	m.Ino = t.hex("a hexadecimal inode number")
	t.key("sdev:")
	m.Dev = t.hex32("a hexadecimal device number")
	t.key("mask:")
	m.Mask = t.hex32("a hexadecimal mask")
	t.key("ignored_mask:")
	t.hex32("a hexadecimal mask")
	m.Handle = t.handle()
	return m
}

func (f *Fanotify) flags(t *text) {
	f.Flags = t.hex32("hexadecimal flags")
	t.key("event-flags:")
	f.EventFlags = t.hex32("hexadecimal flags")
}

func (t *text) fanotifyMark() (m FanotifyMark) {
	switch {
	case t.has("ino:"):
		m.On, m.Ino = "inode", t.hex("a hexadecimal inode number")
		t.key("sdev:")
		m.Dev = t.hex32("a hexadecimal device number")
	case t.has("mnt_id:"):
		m.On, m.MntID = "mount", int32(t.number(16, math.MaxInt32, "a hexadecimal mount's number"))
	case t.has("sdev:"):
		m.On, m.Dev = "filesystem", t.hex32("a hexadecimal device number")
	case t.has("mnt_ns:"):
		m.On, m.MntNS = "mntns", t.dec("a mount namespace's number")
	default:
		t.fail("a mark: ino:, mnt_id:, sdev: or mnt_ns:")
	}
	t.key("mflags:")
	m.MFlags = t.hex32("hexadecimal flags")
	t.key("mask:")
	m.Mask = t.hex32("a hexadecimal mask")
	t.key("ignored_mask:")
	m.Ignored = t.hex32("a hexadecimal mask")
	m.Handle = t.handle()
	return m
}

// handle reads "fhandle-bytes:N fhandle-type:T f_handle:HEX", or nothing.
func (t *text) handle() (h FileHandle) {
	if t.blanks(); len(t.b) == 0 {
		return h
	}
	t.key("fhandle-bytes:")
	n := t.number(16, 128, "a hexadecimal size") // MAX_HANDLE_SZ
	t.key("fhandle-type:")
	h.Type = t.hex32("a hexadecimal type")
	t.key("f_handle:")
	if t.err != nil {
		return h
	}
	if uint64(len(t.b)) < 2*n {
		t.fail("as many bytes as fhandle-bytes says")
		return h
	}
	h.Data = make([]byte, n)
	if _, err := hex.Decode(h.Data, t.b[:2*n]); err != nil {
		t.fail("hexadecimal bytes")
		return h
	}
	t.b = t.b[2*n:]
	return h
}

// lock reads "1: POSIX  ADVISORY  WRITE 7 fe:00:13 0 EOF".
func (t *text) lock() (l Lock) {
	t.dec("a number")
	t.key(":")
	l.Kind = string(t.word("the kind of lock"))
	l.Mode = string(t.word("the mode of a lock"))
	l.Access = string(t.word("READ or WRITE"))
	l.PID = t.int32("a process number")
	t.blanks()
	if !t.has("<none>:0") {
		l.DevMajor = t.hex32("a hexadecimal device number")
		t.lit(":")
		l.DevMinor = t.hex32("a hexadecimal device number")
		t.lit(":")
		l.Ino = t.dec("an inode number")
	}
	t.blanks()
	l.Start = t.int64("an offset")
	t.blanks()
	if l.End = LockEOF; !t.has("EOF") {
		l.End = t.int64("an offset or EOF")
	}
	return l
}
