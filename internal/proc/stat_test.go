package proc

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// statTail is everything of a stat line behind the name.
const statTail = " R 6974 18181 6973 34816 -1 4194304 98 0 1 0 7 8 -9 10 20 -5 3 0 146458 3133440 350 18446744073709551615" +
	" 94804418023424 94804418043305 140729603188912 0 0 0 0 0 0 0 0 0 17 0 99 1 0 0 0 94804418059312 94804418060928" +
	" 94805266534400 140729603197635 140729603197655 140729603197656 140729603198955 256\n"

func statLine(comm string) string { return "18184 (" + comm + ")" + statTail }

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte(statLine("cat")))
	if err != nil {
		t.Fatal(err)
	}
	want := Stat{
		PID: 18184, Comm: "cat", State: 'R', PPID: 6974, Pgrp: 18181, Session: 6973, TTY: 34816, Tpgid: -1,
		Flags: 4194304, UTime: 7, STime: 8, CUTime: -9, CSTime: 10, Priority: 20, Nice: -5, NumThreads: 3,
		StartTime: 146458, VSize: 3133440, StartCode: 94804418023424, EndCode: 94804418043305,
		StartStack: 140729603188912, ExitSignal: 17, RTPriority: 99, Policy: 1, StartData: 94804418059312,
		EndData: 94804418060928, StartBrk: 94805266534400, ArgStart: 140729603197635, ArgEnd: 140729603197655,
		EnvStart: 140729603197656, EnvEnd: 140729603198955, ExitCode: 256,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

var nastyNames = []string{
	"", " ", "(", ")", "a) R 1 (", ") R 1 2 3 4 5 6", "a\nb", "a\\b", `\n`, `a\`, "((sd-pam))", "x (deleted)", "\xff\x01", "tab\there",
}

func TestParseStatNames(t *testing.T) {
	for _, comm := range nastyNames {
		s, err := parseStat([]byte(statLine(comm)))
		if err != nil || s.Comm != comm || s.State != 'R' || s.ExitCode != 256 {
			t.Errorf("%q: %q, state %c, exit code %d, %v", comm, s.Comm, s.State, s.ExitCode, err)
		}
	}
}

func TestParseStatMoreFields(t *testing.T) {
	line := strings.TrimSuffix(statLine("x"), "\n") + " 7 8\n"
	if s, err := parseStat([]byte(line)); err != nil || s.ExitCode != 256 {
		t.Errorf("a newer kernel's line: %+v, %v", s, err)
	}
}

func TestParseStatErrors(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":         {"", "a process number"},
		"no name":       {"12 R 1 2", `" ("`},
		"open name":     {"12 (cat R 1 2", "parentheses"},
		"no state":      {"12 (cat) ", "a state"},
		"long state":    {"12 (cat) RR 1", "one letter"},
		"short":         {"12 (cat) R 1 2 3", "a number"},
		"letters":       {strings.Replace(statLine("x"), "6974", "69x4", 1), "a number"},
		"too large":     {strings.Replace(statLine("x"), "146458", "18446744073709551616", 1), "at most"},
		"pid too large": {"4294967297 (x)" + statTail, "at most"},
	} {
		_, err := parseStat([]byte(c.text))
		wantParseError(t, name, err, "stat", c.want)
	}
}

// wantParseError demands an error that names the file and what was expected.
func wantParseError(t *testing.T, name string, err error, file, want string) {
	t.Helper()
	var p *ParseError
	if !errors.As(err, &p) {
		t.Errorf("%s: error %v, want a ParseError", name, err)
		return
	}
	if p.File != file || p.Line < 1 || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: error %q, want one about %s that has %q", name, err, file, want)
	}
}
