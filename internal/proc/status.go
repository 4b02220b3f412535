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

// set takes the value of one line. Lines that it does not know are skipped: they
// count what a dump does not carry. (A map of them would be made at every start
// of the program.)
func (s *Status) set(key string, t *text) bool {
	return s.setNumber(key, t) || s.setSize(key, t) || s.setSignals(key, t)
}

// setNumber is set for who the task is.
func (s *Status) setNumber(key string, t *text) bool {
	switch key {
	case "Name":
		s.Name = unescapeComm(t.rest())
	case "Umask":
		s.Umask = int32(t.number(8, 0o777, "an octal mask"))
	case "State":
		s.State = t.state()
	case "Tgid":
		s.Tgid = PID(t.int32("a process number"))
	case "Ngid":
		s.Ngid = t.int32("a NUMA group")
	case "Pid":
		s.Pid = TID(t.int32("a thread number"))
	case "PPid":
		s.PPid = PID(t.int32("a process number"))
	case "TracerPid":
		s.TracerPid = TID(t.int32("a thread number"))
	case "Uid":
		t.ids(&s.Uid)
	case "Gid":
		t.ids(&s.Gid)
	case "FDSize":
		s.FDSize = t.dec("a number")
	case "Groups":
		s.Groups = t.groups()
	case "NStgid":
		s.NStgid = t.numbers()
	case "NSpid":
		s.NSpid = t.numbers()
	case "NSpgid":
		s.NSpgid = t.numbers()
	case "NSsid":
		s.NSsid = t.numbers()
	case "Kthread":
		s.Kthread = t.flag("0 or 1")
	default:
		return false
	}
	return true
}

// setSize is set for memory, threads and what may be done.
func (s *Status) setSize(key string, t *text) bool {
	switch key {
	case "VmLck":
		s.VmLck = t.kib()
	case "VmPin":
		s.VmPin = t.kib()
	case "RssAnon":
		s.RssAnon = t.kib()
	case "RssFile":
		s.RssFile = t.kib()
	case "RssShmem":
		s.RssShmem = t.kib()
	case "VmSwap":
		s.VmSwap = t.kib()
	case "CoreDumping":
		s.CoreDumping = t.flag("0 or 1")
	case "THP_enabled":
		s.THPEnabled = t.flag("0 or 1")
	case "Threads":
		s.Threads = t.dec32("a number")
	case "NoNewPrivs":
		s.NoNewPrivs = t.flag("0 or 1")
	case "Seccomp":
		s.Seccomp = t.dec32("a seccomp mode")
	case "Seccomp_filters":
		s.SeccompFilters = t.dec32("a number")
	case "Speculation_Store_Bypass":
		s.StoreBypass = string(t.rest())
	case "SpeculationIndirectBranch":
		s.IndirectBranch = string(t.rest())
	case "x86_Thread_features":
		s.ThreadFeatures = string(bytes.TrimSpace(t.rest()))
	case "x86_Thread_features_locked":
		s.ThreadFeaturesLocked = string(bytes.TrimSpace(t.rest()))
	default:
		return false
	}
	return true
}

// setSignals is set for sets of signals and capabilities.
func (s *Status) setSignals(key string, t *text) bool {
	switch key {
	case "SigQ":
		s.SigQ[0] = t.dec("a number")
		t.lit("/")
		s.SigQ[1] = t.dec("a number")
	case "SigPnd":
		s.SigPnd = t.hex("a signal set")
	case "ShdPnd":
		s.ShdPnd = t.hex("a signal set")
	case "SigBlk":
		s.SigBlk = t.hex("a signal set")
	case "SigIgn":
		s.SigIgn = t.hex("a signal set")
	case "SigCgt":
		s.SigCgt = t.hex("a signal set")
	case "CapInh":
		s.CapInh = t.hex("a capability set")
	case "CapPrm":
		s.CapPrm = t.hex("a capability set")
	case "CapEff":
		s.CapEff = t.hex("a capability set")
	case "CapBnd":
		s.CapBnd = t.hex("a capability set")
	case "CapAmb":
		s.CapAmb = t.hex("a capability set")
	default:
		return false
	}
	return true
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
		t.b = value
		t.blanks()
		if s.set(string(key), t) {
			t.end()
		}
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
