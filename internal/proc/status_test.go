package proc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const statusText = `Name:	a) R 1 (
Umask:	0022
State:	t (tracing stop)
Tgid:	12
Ngid:	0
Pid:	13
PPid:	1
TracerPid:	77
Uid:	1000	1001	1002	4294967295
Gid:	100	101	102	103
FDSize:	256
Groups:	4 24 100 
NStgid:	12	2
NSpid:	13	3
NSpgid:	10	0
NSsid:	9	0
Kthread:	0
VmPeak:	    3060 kB
VmLck:	       8 kB
VmPin:	       4 kB
RssAnon:	     112 kB
RssFile:	    1516 kB
RssShmem:	      16 kB
VmSwap:	      20 kB
CoreDumping:	0
THP_enabled:	1
untag_mask:	0xffffffffffffffff
Threads:	2
SigQ:	3/96365
SigPnd:	0000000000000001
ShdPnd:	8000000000000000
SigBlk:	0000000000010000
SigIgn:	0000000000001000
SigCgt:	0000000180004002
CapInh:	0000000000000000
CapPrm:	000001fffeffffff
CapEff:	000001fffeffffff
CapBnd:	000001ffffffffff
CapAmb:	0000000000000400
NoNewPrivs:	1
Seccomp:	2
Seccomp_filters:	3
Speculation_Store_Bypass:	thread vulnerable
SpeculationIndirectBranch:	always enabled
Cpus_allowed:	3
x86_Thread_features:	shstk wrss 
x86_Thread_features_locked:	
nonvoluntary_ctxt_switches:	1
`

func TestParseStatus(t *testing.T) {
	got, err := parseStatus([]byte(statusText))
	if err != nil {
		t.Fatal(err)
	}
	want := Status{
		Name: "a) R 1 (", Umask: 0o22, State: 't', Tgid: 12, Pid: 13, PPid: 1, TracerPid: 77,
		Uid: [4]uint32{1000, 1001, 1002, 4294967295}, Gid: [4]uint32{100, 101, 102, 103}, FDSize: 256,
		Groups: []uint32{4, 24, 100}, NStgid: []int32{12, 2}, NSpid: []int32{13, 3}, NSpgid: []int32{10, 0},
		NSsid: []int32{9, 0}, VmLck: 8, VmPin: 4, RssAnon: 112, RssFile: 1516, RssShmem: 16, VmSwap: 20,
		THPEnabled: true, Threads: 2, SigQ: [2]uint64{3, 96365}, SigPnd: 1, ShdPnd: 1 << 63, SigBlk: 1 << 16,
		SigIgn: 1 << 12, SigCgt: 0x180004002, CapPrm: 0x1fffeffffff, CapEff: 0x1fffeffffff, CapBnd: 0x1ffffffffff,
		CapAmb: 0x400, NoNewPrivs: true, Seccomp: 2, SeccompFilters: 3, StoreBypass: "thread vulnerable",
		IndirectBranch: "always enabled", ThreadFeatures: "shstk wrss",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseStatusNames(t *testing.T) {
	escape := strings.NewReplacer("\\", `\\`, "\n", `\n`)
	for _, name := range nastyNames {
		if strings.TrimLeft(name, " \t") != name {
			continue // indistinguishable from the blanks before it; comm and stat have it
		}
		text := strings.Replace(statusText, "a) R 1 (", escape.Replace(name), 1)
		s, err := parseStatus([]byte(text))
		if err != nil || s.Name != name || s.NoNewPrivs != true {
			t.Errorf("%q: %q, %v", name, s.Name, err)
		}
	}
}

func TestParseStatusZombie(t *testing.T) {
	text := statusText
	for _, key := range []string{"Umask", "VmLck", "VmPin", "RssAnon", "RssFile", "RssShmem", "VmSwap", "CoreDumping", "THP_enabled"} {
		from := strings.Index(text, "\n"+key) + 1
		text = text[:from] + text[from+strings.Index(text[from:], "\n")+1:]
	}
	s, err := parseStatus([]byte(text))
	if err != nil || s.Umask != -1 || s.Threads != 2 {
		t.Errorf("umask %d, threads %d, %v", s.Umask, s.Threads, err)
	}
}

func TestParseStatusErrors(t *testing.T) {
	replace := func(a, b string) string { return strings.Replace(statusText, a, b, 1) }
	for name, c := range map[string]struct{ text, want string }{
		"empty":       {"", "a line Name:"},
		"cut":         {statusText[:len(statusText)/2], "a line "},
		"no key":      {"Name\n", "KEY: VALUE"},
		"no state":    {replace("t (tracing stop)", ""), "line 3: expected a state"},
		"short uid":   {replace("1000	1001	1002	4294967295", "1000	1001"), "line 9: expected an id"},
		"long uid":    {replace("4294967295", "4294967295	7"), "the end of the line"},
		"uid of 2^32": {replace("4294967295", "4294967296"), "at most"},
		"group":       {replace("4 24 100", "4 x"), "a group"},
		"umask":       {replace("0022", "1022"), "at most"},
		"no kB":       {replace("       8 kB", "       8"), `"kB"`},
		"no SigIgn":   {replace("SigIgn", "SigIng"), "a line SigIgn:"},
		"seccomp":     {replace("NoNewPrivs:	1", "NoNewPrivs:	2"), "at most 1"},
	} {
		_, err := parseStatus([]byte(c.text))
		wantParseError(t, name, err, "status", c.want)
	}
}
