package proc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	pad  = "                    "
	dead = " (deleted)"
)

// mapsNames are names as maps prints them, and what becomes of them.
var mapsNames = []struct {
	text, name string
	deleted    bool
}{
	{"", "", false},
	{"/usr/bin/head", "/usr/bin/head", false},
	{"/usr/bin/head" + dead, "/usr/bin/head", true},
	{"/tmp/a b  c", "/tmp/a b  c", false},
	{`/tmp/new\012line`, "/tmp/new\nline", false},
	{`/tmp/back\slash`, `/tmp/back\slash`, false},
	{"/tmp/really (deleted)" + dead, "/tmp/really (deleted)", true},
	{"/tmp/x(deleted)", "/tmp/x(deleted)", false},
	{" (deleted)", "(deleted)", false},
	{"/SYSV00000000" + dead, "/SYSV00000000", true},
	{"/memfd:x" + dead, "/memfd:x", true},
	{"/memfd:" + dead, "/memfd:", true},
	{"/dev/zero" + dead, "/dev/zero", true},
	{"anon_inode:[perf_event]", "anon_inode:[perf_event]", false},
	{"socket:[123]", "socket:[123]", false},
	{"[heap]", "[heap]", false}, {"[stack]", "[stack]", false}, {"[vdso]", "[vdso]", false}, {"[vvar]", "[vvar]", false},
	{"[vvar_vclock]", "[vvar_vclock]", false}, {"[vsyscall]", "[vsyscall]", false}, {"[uprobes]", "[uprobes]", false},
	{"[anon:x]", "[anon:x]", false}, {"[anon: glibc: malloc]", "[anon: glibc: malloc]", false},
	{"[anon:a] (deleted)", "[anon:a] (deleted)", false},
	{"[anon_shmem:x]", "[anon_shmem:x]", false},
	{"[anon:VmFlags: rd]", "[anon:VmFlags: rd]", false},
}

const smapsRest = "Size:                  8 kB\nKernelPageSize:        4 kB\nRss:                   8 kB\nTHPeligible:           0\n"

func TestParseMaps(t *testing.T) {
	text := "56554f8bb000-56554f8bd000 r--p 00002000 fe:1f 247278 " + pad + "/usr/bin/head\n" +
		"7ffe8a0b3000-7ffe8a0d4000 rwxs 00000000 00:00 0 \n" +
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 " + pad + "[vsyscall]"
	got, err := parseMaps([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []VMA{
		{Start: 0x56554f8bb000, End: 0x56554f8bd000, Offset: 0x2000, Prot: unix.PROT_READ, DevMajor: 0xfe, DevMinor: 0x1f, Inode: 247278, Name: "/usr/bin/head"},
		{Start: 0x7ffe8a0b3000, End: 0x7ffe8a0d4000, Prot: unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC, Shared: true},
		{Start: 0xffffffffff600000, End: 0xffffffffff601000, Prot: unix.PROT_EXEC, Name: "[vsyscall]"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseMapsNames(t *testing.T) {
	for _, c := range mapsNames {
		line := "1000-2000 r--p 00000000 00:00 7 " + pad + c.text + "\n"
		for _, flags := range []bool{false, true} {
			text := line
			if flags {
				text += smapsRest + "VmFlags: rd mr \n"
			}
			v, err := parseVMAs("maps", []byte(text), flags)
			if err != nil || len(v) != 1 || v[0].Name != c.name || v[0].Deleted != c.deleted || v[0].Flags.Has(VmRead) != flags {
				t.Errorf("%q: %+v, %v", c.text, v, err)
			}
		}
	}
}

func TestParseSmaps(t *testing.T) {
	head := func(at, name string) string { return at + " rw-p 00000000 00:00 0 " + pad + name + "\n" + smapsRest }
	text := head("1000-2000", "[heap]") + "VmFlags: rd wr mr mw me gd lo io sr rr dc de ac nr ht sf wf dd mm hg nh mg \n" +
		head("2000-3000", "") + "ProtectionKey:         5\nVmFlags: um uw ui sl dp zz ?? \n" +
		head("3000-4000", "[stack]") + "VmFlags: \n"
	got, err := parseSmaps([]byte(text))
	if err != nil || len(got) != 3 {
		t.Fatal(got, err)
	}
	if s := got[0].Flags.String(); s != "rd wr mr mw me gd lo io sr rr dc de ac nr ht sf wf dd mm hg nh mg" {
		t.Errorf("first flags %q", s)
	}
	if f := got[1].Flags; f != VmUffdMissing|VmUffdWP|VmUffdMinor|VmSealed|VmDroppable || got[1].Pkey != 5 {
		t.Errorf("second: flags %v, key %d", f, got[1].Pkey)
	}
	if d := cmp.Diff([]string{"zz", "??"}, got[1].Unknown); d != "" {
		t.Error(d)
	}
	if got[2].Flags != 0 || got[2].Name != "[stack]" || got[2].Pkey != 0 {
		t.Errorf("third: %+v", got[2])
	}
}

// TestConsumePieces cuts the text at every place: the result must not depend
// on how the kernel hands it out.
func TestConsumePieces(t *testing.T) {
	text := []byte("1000-2000 rw-p 00000000 00:00 0 " + pad + "[anon:VmFlags:]\n" + smapsRest + "ProtectionKey: 1\nVmFlags: rd gd \n" +
		"2000-3000 rw-p 00000000 00:00 0 \n" + smapsRest + "VmFlags: wr \n")
	want, err := parseSmaps(text)
	if err != nil || len(want) != 2 {
		t.Fatal(want, err)
	}
	for cut := range text {
		r := vmaReader{file: "smaps", flags: true}
		used := r.consume(text[:cut], false)
		r.consume(text[used:], true)
		if d := cmp.Diff(want, r.out); d != "" || r.err != nil {
			t.Fatalf("cut at %d: %v\n%s", cut, r.err, d)
		}
	}
}

func TestParseMapsErrors(t *testing.T) {
	const ok = "1000-2000 r--p 00000000 00:00 0 \n"
	for name, c := range map[string]struct{ text, want string }{
		"empty line": {ok + "\n", "line 2: expected a hexadecimal address"},
		"no dash":    {"1000 2000 r--p 0 0:0 0", `"-"`},
		"backwards":  {"2000-1000 r--p 0 0:0 0", "an end above"},
		"empty":      {"1000-1000 r--p 0 0:0 0", "an end above"},
		"too large":  {"10000000000000000-2 r--p 0 0:0 0", "at most"},
		"prot":       {"1000-2000 rr-p 0 0:0 0", "permissions"},
		"short prot": {"1000-2000 r--", "permissions"},
		"share":      {"1000-2000 r--x 0 0:0 0", "permissions"},
		"device":     {"1000-2000 r--p 0 00 0", `":"`},
		"inode":      {"1000-2000 r--p 0 00:00 ", "an inode"},
	} {
		_, err := parseMaps([]byte(c.text))
		wantParseError(t, name, err, "maps", c.want)
	}
	_, err := parseSmaps([]byte(ok + smapsRest))
	wantParseError(t, "no flags", err, "smaps", "VmFlags:")
	_, err = parseSmaps([]byte(ok + "ProtectionKey: x\nVmFlags: rd \n"))
	wantParseError(t, "key", err, "smaps", "a protection key")
}

func TestVmFlagsCodes(t *testing.T) {
	for i := 0; i < len(vmFlagNames); i += 2 {
		code := vmFlagNames[i : i+2]
		if f := flagOf([]byte(code)); f.String() != code {
			t.Errorf("%s becomes %v", code, f)
		}
	}
	for code, want := range map[string]VmFlags{
		"rd": VmRead, "gd": VmGrowsDown, "lo": VmLocked, "io": VmIO, "dc": VmDontCopy, "lf": VmLockOnFault, "nr": VmNoReserve,
		"ht": VmHugeTLB, "wf": VmWipeOnFork, "dd": VmDontDump, "hg": VmHugePage, "nh": VmNoHugePage, "mg": VmMergeable,
		"uw": VmUffdWP, "ui": VmUffdMinor, "mt": VmMTE, "ss": VmShadowStack, "sl": VmSealed, "dp": VmDroppable, "gu": VmGuard,
		"nl": VmNonlinear, "zz": 0, "": 0, "a": 0, "rdx": 0, "RD": 0, "\xff\xff": 0,
	} {
		if got := flagOf([]byte(code)); got != want {
			t.Errorf("%q becomes %b, want %b", code, got, want)
		}
	}
	if len(vmFlagNames)%2 != 0 || VmNonlinear != 1<<(len(vmFlagNames)/2-1) {
		t.Error("the codes and the constants differ in number")
	}
	if strings.Contains(VmFlags(^uint64(0)).String(), "rd ?? ??") {
		t.Error("unknown bits")
	}
}
