package proc

import "bytes"

// Status is /proc/PID/status (or /proc/PID/task/TID/status). Process numbers
// are those of the engine's PID namespace unless a field says otherwise. A
// zombie has no memory: its sizes are 0. See proc_pid_status(5).
type Status struct {
	Name      string
	Umask     int32 // -1 for a zombie
	State     byte
	Tgid      PID
	Ngid      int32
	Pid       TID
	PPid      PID
	TracerPid TID       // 0 if not traced
	Uid       [4]uint32 // real, effective, saved, file system
	Gid       [4]uint32
	FDSize    uint64
	Groups    []uint32
	// Numbers in every PID namespace from the engine's down to the task's own.
	NStgid, NSpid, NSpgid, NSsid []int32

	Kthread     bool   // Linux 6.8
	VmLck       uint64 // KiB, as the five below
	VmPin       uint64
	RssAnon     uint64
	RssFile     uint64
	RssShmem    uint64
	VmSwap      uint64
	CoreDumping bool
	THPEnabled  bool

	Threads uint32
	SigQ    [2]uint64 // queued signals of the real user, and their limit
	// Sets of signals: bit n-1 is signal n.
	SigPnd, ShdPnd, SigBlk, SigIgn, SigCgt uint64
	// Sets of capabilities: bit n is capability n.
	CapInh, CapPrm, CapEff, CapBnd, CapAmb uint64

	NoNewPrivs     bool
	Seccomp        uint32 // SECCOMP_MODE_*
	SeccompFilters uint32 // Linux 5.9
	// What prctl(PR_SPEC_*) has set, in the kernel's words.
	StoreBypass, IndirectBranch string
	// Shadow stack and its kin, in the kernel's words. x86, Linux 6.6.
	ThreadFeatures, ThreadFeaturesLocked string
}

// statusField reads the value of one line.
type statusField func(s *Status, t *text)

// statusFields are the lines that are decoded. Others are skipped: they count
// what a dump does not carry.
var statusFields = map[string]statusField{
	"Name":            func(s *Status, t *text) { s.Name = unescapeComm(t.rest()) },
	"Umask":           func(s *Status, t *text) { s.Umask = int32(t.number(8, 0o777, "an octal mask")) },
	"State":           func(s *Status, t *text) { s.State = t.state() },
	"Tgid":            func(s *Status, t *text) { s.Tgid = PID(t.int32("a process number")) },
	"Ngid":            func(s *Status, t *text) { s.Ngid = t.int32("a NUMA group") },
	"Pid":             func(s *Status, t *text) { s.Pid = TID(t.int32("a thread number")) },
	"PPid":            func(s *Status, t *text) { s.PPid = PID(t.int32("a process number")) },
	"TracerPid":       func(s *Status, t *text) { s.TracerPid = TID(t.int32("a thread number")) },
	"Uid":             func(s *Status, t *text) { t.ids(&s.Uid) },
	"Gid":             func(s *Status, t *text) { t.ids(&s.Gid) },
	"FDSize":          func(s *Status, t *text) { s.FDSize = t.dec("a number") },
	"Groups":          func(s *Status, t *text) { s.Groups = t.groups() },
	"NStgid":          func(s *Status, t *text) { s.NStgid = t.numbers() },
	"NSpid":           func(s *Status, t *text) { s.NSpid = t.numbers() },
	"NSpgid":          func(s *Status, t *text) { s.NSpgid = t.numbers() },
	"NSsid":           func(s *Status, t *text) { s.NSsid = t.numbers() },
	"Kthread":         func(s *Status, t *text) { s.Kthread = t.flag("0 or 1") },
	"VmLck":           func(s *Status, t *text) { s.VmLck = t.kib() },
	"VmPin":           func(s *Status, t *text) { s.VmPin = t.kib() },
	"RssAnon":         func(s *Status, t *text) { s.RssAnon = t.kib() },
	"RssFile":         func(s *Status, t *text) { s.RssFile = t.kib() },
	"RssShmem":        func(s *Status, t *text) { s.RssShmem = t.kib() },
	"VmSwap":          func(s *Status, t *text) { s.VmSwap = t.kib() },
	"CoreDumping":     func(s *Status, t *text) { s.CoreDumping = t.flag("0 or 1") },
	"THP_enabled":     func(s *Status, t *text) { s.THPEnabled = t.flag("0 or 1") },
	"Threads":         func(s *Status, t *text) { s.Threads = t.dec32("a number") },
	"SigQ":            func(s *Status, t *text) { s.SigQ[0] = t.dec("a number"); t.lit("/"); s.SigQ[1] = t.dec("a number") },
	"SigPnd":          func(s *Status, t *text) { s.SigPnd = t.hex("a signal set") },
	"ShdPnd":          func(s *Status, t *text) { s.ShdPnd = t.hex("a signal set") },
	"SigBlk":          func(s *Status, t *text) { s.SigBlk = t.hex("a signal set") },
	"SigIgn":          func(s *Status, t *text) { s.SigIgn = t.hex("a signal set") },
	"SigCgt":          func(s *Status, t *text) { s.SigCgt = t.hex("a signal set") },
	"CapInh":          func(s *Status, t *text) { s.CapInh = t.hex("a capability set") },
	"CapPrm":          func(s *Status, t *text) { s.CapPrm = t.hex("a capability set") },
	"CapEff":          func(s *Status, t *text) { s.CapEff = t.hex("a capability set") },
	"CapBnd":          func(s *Status, t *text) { s.CapBnd = t.hex("a capability set") },
	"CapAmb":          func(s *Status, t *text) { s.CapAmb = t.hex("a capability set") },
	"NoNewPrivs":      func(s *Status, t *text) { s.NoNewPrivs = t.flag("0 or 1") },
	"Seccomp":         func(s *Status, t *text) { s.Seccomp = t.dec32("a seccomp mode") },
	"Seccomp_filters": func(s *Status, t *text) { s.SeccompFilters = t.dec32("a number") },

	"Speculation_Store_Bypass":   func(s *Status, t *text) { s.StoreBypass = string(t.rest()) },
	"SpeculationIndirectBranch":  func(s *Status, t *text) { s.IndirectBranch = string(t.rest()) },
	"x86_Thread_features":        func(s *Status, t *text) { s.ThreadFeatures = string(bytes.TrimSpace(t.rest())) },
	"x86_Thread_features_locked": func(s *Status, t *text) { s.ThreadFeaturesLocked = string(bytes.TrimSpace(t.rest())) },
}

// statusNeeded are lines whose absence would be taken for zeros: every task
// has them.
var statusNeeded = []string{
	"Name", "State", "Tgid", "Pid", "PPid", "TracerPid", "Uid", "Gid", "Groups", "Threads",
	"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "NoNewPrivs",
}

func parseStatus(b []byte) (Status, error) {
	s := Status{Umask: -1}
	seen := 0 // how many of statusNeeded, in the order in which they come
	err := eachLine("status", b, func(t *text) {
		key, value, ok := bytes.Cut(t.b, []byte(":"))
		if !ok {
			t.fail("a line of the form KEY: VALUE")
			return
		}
		if seen < len(statusNeeded) && string(key) == statusNeeded[seen] {
			seen++
		}
		set := statusFields[string(key)]
		if set == nil {
			return
		}
		t.b = value
		t.blanks()
		set(&s, t)
		t.end()
	})
	if err == nil && seen < len(statusNeeded) {
		err = &ParseError{File: "status", Line: 1 + bytes.Count(b, []byte("\n")), Want: "a line " + statusNeeded[seen] + ":"}
	}
	if err != nil {
		return Status{}, err
	}
	return s, nil
}

// state reads "S (sleeping)".
func (t *text) state() byte {
	w := t.word("a state")
	t.rest()
	if len(w) != 1 {
		t.fail("a state of one letter")
		return 0
	}
	return w[0]
}

// ids reads real, effective, saved and file system id.
func (t *text) ids(to *[4]uint32) {
	for i := range to {
		to[i] = t.dec32("an id")
		t.blanks()
	}
}

func (t *text) groups() []uint32 {
	var out []uint32
	for t.blanks(); len(t.b) > 0; t.blanks() {
		out = append(out, t.dec32("a group"))
	}
	return out
}

func (t *text) numbers() []int32 {
	out := make([]int32, 0, 2)
	for t.blanks(); len(t.b) > 0; t.blanks() {
		out = append(out, t.int32("a process number"))
	}
	return out
}

func (t *text) kib() uint64 {
	n := t.dec("a size in kB")
	t.blanks()
	t.lit("kB")
	return n
}

// unescapeComm undoes what the kernel does to names in status (not in stat
// and comm): newline and backslash are written \n and \\.
func unescapeComm(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
			if b[i] == 'n' {
				out = append(out, '\n')
				continue
			}
		}
		out = append(out, b[i])
	}
	return string(out)
}

func parseComm(b []byte) (string, error) { return string(bytes.TrimSuffix(b, []byte("\n"))), nil }
