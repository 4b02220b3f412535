package proc

import (
	"bytes"
	"testing"
)

// fuzz looks for text that makes a parser panic, and checks that no failure
// goes without a place.
func fuzz[T any](f *testing.F, parse func([]byte) (T, error), seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parse(b); err != nil {
			wantParseError(t, "fuzzed", err, err.(*ParseError).File, "line")
		}
	})
}

func FuzzStat(f *testing.F) {
	fuzz(f, parseStat, statLine("a) R 1 ("), "1 () Z")
}

func FuzzStatus(f *testing.F) { fuzz(f, parseStatus, statusText, "Name:\tx\nState:\n") }

func FuzzFDInfo(f *testing.F) {
	seeds := []string{fdinfoHead}
	for _, c := range fdinfoCases {
		seeds = append(seeds, fdinfoHead+c.text)
	}
	fuzz(f, func(b []byte) (FDInfo, error) { return parseFDInfo("fdinfo/3", b) }, seeds...)
}

func FuzzMaps(f *testing.F) {
	seeds := []string{"1000-2000 r--p 00000000 00:00 0 \n"}
	for _, c := range mapsNames {
		seeds = append(seeds, "1000-2000 r--p 00000000 00:00 0 "+c.text+"\n")
	}
	fuzz(f, parseMaps, seeds...)
}

// FuzzSmaps also checks that text in two pieces gives what it gives in one.
func FuzzSmaps(f *testing.F) {
	one := "1000-2000 r--p 00000000 00:00 0 [x]\n" + smapsRest + "ProtectionKey: 1\nVmFlags: rd zz \n"
	f.Add([]byte(one+one), 60)
	f.Add([]byte(one+"VmFlags:"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		whole := vmaReader{file: "smaps", flags: true}
		whole.consume(b, true)
		r := vmaReader{file: "smaps", flags: true}
		n := max(0, min(cut, len(b)))
		used := r.consume(bytes.Clone(b[:n]), false)
		if r.err == nil {
			r.consume(b[used:], true)
		}
		if (whole.err == nil) != (r.err == nil) || len(whole.out) != len(r.out) {
			t.Errorf("whole: %d, %v; in pieces: %d, %v", len(whole.out), whole.err, len(r.out), r.err)
		}
	})
}

func FuzzLimits(f *testing.F) { fuzz(f, parseLimits, limitsText()) }
func FuzzSyscall(f *testing.F) {
	fuzz(f, parseSyscall, "running\n", "0 0x3 0x7f 0x20000 0x22 0xff 0x0 0x7ffe 0x7f3c\n")
}
func FuzzCgroups(f *testing.F) { fuzz(f, parseCgroups, "9:name=systemd:/\n0::/x (deleted)\n") }
func FuzzUIDMap(f *testing.F)  { fuzz(f, parseUIDMap, "         0       1000          1\n") }
func FuzzTimers(f *testing.F) {
	fuzz(f, parseTimers, "ID: 0\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n")
}
func FuzzChildren(f *testing.F) { fuzz(f, parseChildren, "12 7 ") }
func FuzzAutogroup(f *testing.F) {
	fuzz(f, func(b []byte) (Autogroup, error) { return parseSingle("autogroup", b, (*text).autogroup) }, "/autogroup-12 nice -5\n")
}
func FuzzDirents(f *testing.F) {
	fuzz(f, func(b []byte) ([]TID, error) { return appendDirents([]TID(nil), "task", b) }, "")
}
func FuzzSockstat(f *testing.F) {
	f.Add([]byte("sockets: used 3\nUDP: inuse 3 mem 0\nTCP6: inuse 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		out := map[string]int{}
		parseSockstat(b, out)
		if len(out) > bytes.Count(b, []byte(": inuse ")) {
			t.Errorf("%d protocols", len(out))
		}
	})
}
