package proc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func limitsText() string {
	s := fmt.Sprintf("%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units")
	for i, name := range limitNames {
		s += fmt.Sprintf("%-25s %-20d %-20s %-10s\n", name, i, "unlimited", "units")
	}
	return s
}

func TestParseLimits(t *testing.T) {
	l, err := parseLimits([]byte(limitsText()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range l {
		if l[i] != [2]uint64{uint64(i), Unlimited} {
			t.Errorf("limit %d is %v", i, l[i])
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"broken": {limitsText()[:400], "Max core file size"},
		"cut":    {strings.Join(strings.SplitAfter(limitsText(), "\n")[:5], ""), "Max core file size"},
		"more":   {limitsText() + "Max joy  1 2 units\n", "16 limits"},
		"order":  {strings.Replace(limitsText(), "Max file size", "Max fill size", 1), "Max file size"},
		"number": {strings.Replace(limitsText(), " 0 ", " ? ", 1), "a limit"},
	} {
		_, err := parseLimits([]byte(c.text))
		wantParseError(t, name, err, "limits", c.want)
	}
}

func TestParseTimers(t *testing.T) {
	text := "ID: 0\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n" +
		"ID: 7\nsignal: 32/0000000000000000\nnotify: signal/tid.2635\nClockID: 1\n" +
		"ID: 9\nsignal: 0/0000000000000000\nnotify: none/pid.2634\nClockID: -6\n"
	got, err := parseTimers([]byte(text))
	want := []Timer{
		{ID: 0, Signal: 60, Value: 0x7fff86e452a8, Notify: "signal", Target: 2634},
		{ID: 7, Signal: 32, Notify: "signal", Thread: true, Target: 2635, ClockID: 1},
		{ID: 9, Notify: "none", Target: 2634, ClockID: -6},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err, d)
	}
	for _, bad := range []string{"ID: 0\n", "ID: 0\nsignal: 60/7\nnotify: often/pid.2\nClockID: 0\n", "signal: 60/7\n", "ID: 0 1\n"} {
		_, err := parseTimers([]byte(bad))
		wantParseError(t, bad, err, "timers", "")
	}
}

func TestParseSyscall(t *testing.T) {
	for text, want := range map[string]Syscall{
		"running\n":              {Running: true},
		"-1 0x7ffe89 0x7f3c2b\n": {Nr: -1, SP: 0x7ffe89, PC: 0x7f3c2b},
		"0 0x3 0x7f 0x20000 0x22 0xffffffff 0x0 0x7ffe 0x7f3c\n": {
			Args: [6]uint64{3, 0x7f, 0x20000, 0x22, 0xffffffff}, SP: 0x7ffe, PC: 0x7f3c},
	} {
		got, err := parseSyscall([]byte(text))
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Error(text, err, d)
		}
	}
	for _, bad := range []string{"", "runningx", "0 0x3\n", "5", "-1 0x1 0x2 0x3"} {
		_, err := parseSyscall([]byte(bad))
		wantParseError(t, bad, err, "syscall", "")
	}
}

func TestParseCgroups(t *testing.T) {
	got, err := parseCgroups([]byte("9:name=systemd:/\n4:cpu,cpuacct:/a:b\n0::/user.slice/x (deleted)\n"))
	want := []Cgroup{
		{ID: 9, Controllers: "name=systemd", Path: "/"},
		{ID: 4, Controllers: "cpu,cpuacct", Path: "/a:b"},
		{Path: "/user.slice/x", Deleted: true},
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(err, d)
	}
	for _, bad := range []string{"x\n", "1\n", "1:cpu\n", "1:cpu:\n"} {
		_, err := parseCgroups([]byte(bad))
		wantParseError(t, bad, err, "cgroup", "")
	}
}

func TestParseIDMap(t *testing.T) {
	got, err := parseUIDMap([]byte("         0       1000          1\n         1     100000      65536\n"))
	if d := cmp.Diff([]IDMap{{0, 1000, 1}, {1, 100000, 65536}}, got); d != "" || err != nil {
		t.Error(err, d)
	}
	_, err = parseGIDMap([]byte("0 1\n"))
	wantParseError(t, "two columns", err, "gid_map", "an id")
}

func TestParseChildren(t *testing.T) {
	got, err := parseChildren([]byte("12 7 4194304 "))
	if d := cmp.Diff([]PID{12, 7, 4194304}, got); d != "" || err != nil {
		t.Error(err, d)
	}
	if got, err := parseChildren(nil); got != nil || err != nil {
		t.Error(got, err)
	}
	_, err = parseChildren([]byte("12 x"))
	wantParseError(t, "letter", err, "children", "a process number")
}

func TestParseSingle(t *testing.T) {
	for in, want := range map[string]Autogroup{
		"": {}, "/autogroup-12 nice -5\n": {ID: 12, Nice: -5},
	} {
		if g, err := parseSingle("autogroup", []byte(in), (*text).autogroup); g != want || err != nil {
			t.Error(in, g, err)
		}
	}
	_, err := parseSingle("oom_score_adj", []byte("12 13\n"), func(t *text) int32 { return t.int32("a number") })
	wantParseError(t, "two", err, "oom_score_adj", "end of the line")
	for _, name := range nastyNames {
		if c, err := parseComm([]byte(name + "\n")); c != name || err != nil {
			t.Errorf("%q: %q, %v", name, c, err)
		}
	}
}

func TestAppendDirents(t *testing.T) {
	entry := func(size byte, name string) []byte {
		b := make([]byte, size)
		b[16] = size
		copy(b[19:], name)
		return b
	}
	b := append(append(entry(24, "."), entry(24, "..")...), append(entry(24, "7"), entry(32, "4194303")...)...)
	got, err := appendDirents([]TID(nil), "task", b)
	if d := cmp.Diff([]TID{7, 4194303}, got); d != "" || err != nil {
		t.Error(err, d)
	}
	for name, bad := range map[string][]byte{
		"short": make([]byte, 10), "zero": make([]byte, 24), "cut": entry(32, "7")[:24], "name": entry(24, "x"), "tail": entry(24, "7x"),
	} {
		_, err := appendDirents([]TID(nil), "task", bad)
		wantParseError(t, name, err, "task", "")
	}
}
