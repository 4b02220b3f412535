package options

import (
	"reflect"
	"strings"
	"testing"
)

func TestVerbosity(t *testing.T) {
	for in, want := range map[string]Verbosity{"": 3, "v": 4, "vvv": 6, "0": 0, "4": 4, "12": 12, "erbosity=0": 0, "4x": 4, "vv3": 6, "99999999999": maxVerbosity} {
		v := Verbosity(2)
		if err := v.Set(in); err != nil || v != want {
			t.Errorf("%q: %d, %v, want %d", in, v, err, want)
		}
	}
}

func TestCPUCap(t *testing.T) {
	for in, want := range map[string]CPUCap{
		"all": CPUCapAll | CPUCapImage, "none": 0, "fpu": CPUCapFPU | CPUCapImage,
		"all,^fpu": CPUCapCPU | CPUCapIns | CPUCapImage, "^none": CPUCapAll | CPUCapImage,
		"^^cpu": CPUCapCPU | CPUCapImage,
	} {
		var c CPUCap
		if err := c.Set(in); err != nil || c != want {
			t.Errorf("%q: %b, %v, want %b", in, c, err, want)
		}
	}
	for _, in := range []string{"", "foo", "cpu,", "cpu^"} {
		c := CPUCap(CPUCapIns)
		if err := c.Set(in); err == nil || c != CPUCapIns {
			t.Errorf("%q: %b, %v", in, c, err)
		}
	}
}

func TestInherited(t *testing.T) {
	var i InheritFD
	if err := i.Set("fd[3]:pipe[7]"); err != nil || !i.Is("pipe:[7]") || !i.Is("pipe[7]") || i.Is("pipe:[71]") {
		t.Errorf("%+v, %v", i, err)
	}
}

func TestExternal(t *testing.T) {
	for in, want := range map[string]External{
		"tty[8801:5]":         {"tty", "8801:5", ""},
		"mnt[]":               {"mnt", "", ""},
		"mnt[]:ms":            {"mnt", "", "ms"},
		"mnt[/a]:b]:c":        {"mnt", "/a", "b]:c"},
		"veth[eth0]:v0@br0":   {"veth", "eth0", "v0@br0"},
		"net[4026531840]:out": {"net", "4026531840", "out"},
	} {
		var e External
		if err := e.Set(in); err != nil || e != want {
			t.Errorf("%q: %+v, %v", in, e, err)
		}
	}
	for _, in := range []string{"", "tty", "[x]", "tty[5", "tty[5]x"} {
		if err := new(External).Set(in); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

func TestInheritFD(t *testing.T) {
	var i InheritFD
	if err := i.Set("fd[4]:pipe[12]"); err != nil || i != (InheritFD{4, "pipe[12]"}) {
		t.Errorf("%+v, %v", i, err)
	}
	for _, in := range []string{"", "fd[4]", "fd[4]:", "fd[x]:a", "fd[-1]:a", "4:a"} {
		if err := new(InheritFD).Set(in); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

func TestParseConfig(t *testing.T) {
	tests := []struct{ in, want, err string }{
		{"tcp-established\n", "--tcp-established", ""},
		{"\n  # only a comment\n\t\n", "", ""},
		{"work-dir \"/home/me/my \\\"work\\\" dir\"\n", `--work-dir=/home/me/my "work" dir`, ""},
		{"no-restore-sibling   # another\n", "--no-restore-sibling", ""},
		{"verbosity 4", "--verbosity=4", ""},
		{"root\t/a#b", "--root=/a", ""},
		{"root \"/a#b\" # c", "--root=/a#b", ""},
		{"root \"\"", "--root=", ""},
		{"a\r\nb\r\n", "--a|--b", ""},
		{"root a b", "", "line 1: root: more than one value; put a value with blanks in double quotes"},
		{"x\nroot \"a", "", "line 2: root: the closing quote is missing"},
		{"root \"a\" b", "", "line 1: root: more than one value; put a value with blanks in double quotes"},
		{strings.Repeat("#\n", maxConfig), "", "line 524289: the file is larger than 1048576 bytes"},
	}
	for _, test := range tests {
		got, err := ParseConfig(strings.NewReader(test.in))
		msg := ""
		if err != nil {
			msg = err.Error()
		}
		if strings.Join(got, "|") != test.want || msg != test.err {
			t.Errorf("%.40q: %q, %v", test.in, got, err)
		}
	}
}

// FuzzSet gives every type that reads itself any text: no panic, and an error
// changes nothing. As a configuration file it gives options only.
func FuzzSet(f *testing.F) {
	for _, s := range []string{"", "vvv", "10M", "all,^fpu", "10.0.0.1=10.0.0.2", "::1=fe80::1", "cpu:/a", `"cpu":
- "strategy": "merge"
- "properties": ["a", "b"]
`, "fd[3]:a", "mnt[/a]:b", "7,8", "skip", "tcp-established\nroot \"a \\\"b\" # c\nverbosity 4\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		for _, s := range []Setter{new(Verbosity), new(Size), new(NetworkLock), new(CgroupMode), new(FileValidation),
			new(CPUCap), new(External), new(InheritFD), new(ExtUnix), new(CgroupRoot), new(CgroupSpecs), new(RemapAddr)} {
			if err := s.Set(in); err != nil && !reflect.ValueOf(s).Elem().IsZero() {
				t.Errorf("%T after %v: %+v", s, err, s)
			}
		}
		args, err := ParseConfig(strings.NewReader(in))
		for _, a := range args {
			if err == nil && (!strings.HasPrefix(a, "--") || len(a) == 2) {
				t.Errorf("%q gives %q", in, a)
			}
		}
	})
}
