package proc

import "bytes"

// Stat is /proc/PID/stat (or /proc/PID/task/TID/stat). Numbers of processes
// are those of the engine's PID namespace, addresses are the task's. Without
// ptrace rights over the task the kernel shows addresses and ExitCode as 0.
type Stat struct {
	PID        PID
	Comm       string
	State      byte // R S D T t Z X I …
	PPID       PID
	Pgrp       PID
	Session    PID
	TTY        uint32 // device number of the terminal, 0 if none
	Tpgid      int32  // foreground group of that terminal, -1 if none
	Flags      uint64 // PF_* of include/linux/sched.h: not a stable interface
	UTime      uint64 // clock ticks, as the three below
	STime      uint64
	CUTime     int64
	CSTime     int64
	Priority   int64
	Nice       int64
	NumThreads int64
	StartTime  uint64 // clock ticks after boot
	VSize      uint64 // bytes
	StartCode  uint64
	EndCode    uint64
	StartStack uint64
	ExitSignal int32
	RTPriority uint32
	Policy     uint32 // SCHED_*
	StartData  uint64
	EndData    uint64
	StartBrk   uint64
	ArgStart   uint64
	ArgEnd     uint64
	EnvStart   uint64
	EnvEnd     uint64
	ExitCode   int32 // in the form of waitpid(2)
}

// PFExiting is PF_EXITING of include/linux/sched.h, a flag in Stat.Flags.
const PFExiting = 4

// pfWorker is PF_IO_WORKER and PF_USER_WORKER (Linux 6.4), which those of io_uring have both.
const pfWorker = 0x10 | 0x4000

// Worker tells whether a thread is one that the kernel made for itself: it never runs the program.
func (s *Stat) Worker() bool { return s.Flags&pfWorker != 0 }

// Exiting tells whether the process, or thread, has ended or is at it.
func (s *Stat) Exiting() bool { return s.State == 'Z' || s.State == 'X' || s.Flags&PFExiting != 0 }

// SetMemory takes over from another thread of the process what memory they have,
// of which a thread that has ended tells nothing.
func (s *Stat) SetMemory(o *Stat) {
	s.VSize, s.StartCode, s.EndCode, s.StartStack = o.VSize, o.StartCode, o.EndCode, o.StartStack
	s.StartData, s.EndData, s.StartBrk = o.StartData, o.EndData, o.StartBrk
	s.ArgStart, s.ArgEnd, s.EnvStart, s.EnvEnd = o.ArgStart, o.ArgEnd, o.EnvStart, o.EnvEnd
}

// statFields is the number of the last field that Linux 6.1 prints, counted as
// in proc_pid_stat(5).
const statFields = 52

// parseStat reads the one line of stat. The name in the second field is not
// escaped: it may hold spaces, newlines and parentheses. No field after it
// can, so it ends at the last one.
func parseStat(b []byte) (Stat, error) {
	t := oneLine("stat", b)
	s := Stat{PID: PID(t.int32("a process number"))}
	t.lit(" (")
	end := bytes.LastIndexByte(t.b, ')')
	if end < 0 {
		t.fail("a name in parentheses")
		return Stat{}, t.err
	}
	s.Comm, t.b = string(t.b[:end]), t.b[end+1:]
	t.lit(" ")
	state := t.word("a state")
	if len(state) != 1 {
		t.fail("a state of one letter")
		return Stat{}, t.err
	}
	s.State = state[0]
	var f [statFields + 1]uint64
	for i := 4; i <= statFields; i++ {
		f[i] = t.either()
		t.blanks()
	}
	if t.err != nil {
		return Stat{}, t.err
	}
	s.set(&f)
	return s, nil
}

// either reads a decimal number with or without sign; a negative one comes
// back in two's complement.
func (t *text) either() uint64 {
	if len(t.b) > 0 && t.b[0] == '-' {
		return uint64(t.int64("a number"))
	}
	return t.dec("a number")
}

// set takes the fields by their numbers in proc_pid_stat(5).
func (s *Stat) set(f *[statFields + 1]uint64) {
	s.PPID, s.Pgrp, s.Session = PID(f[4]), PID(f[5]), PID(f[6])
	s.TTY, s.Tpgid, s.Flags = uint32(f[7]), int32(f[8]), f[9]
	s.UTime, s.STime, s.CUTime, s.CSTime = f[14], f[15], int64(f[16]), int64(f[17])
	s.Priority, s.Nice, s.NumThreads = int64(f[18]), int64(f[19]), int64(f[20])
	s.StartTime, s.VSize = f[22], f[23]
	s.StartCode, s.EndCode, s.StartStack = f[26], f[27], f[28]
	s.ExitSignal, s.RTPriority, s.Policy = int32(f[38]), uint32(f[40]), uint32(f[41])
	s.StartData, s.EndData, s.StartBrk = f[45], f[46], f[47]
	s.ArgStart, s.ArgEnd, s.EnvStart, s.EnvEnd = f[48], f[49], f[50], f[51]
	s.ExitCode = int32(f[52])
}
