package proc

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// parsers are the files of /proc, with text that each may have.
func parsers() []parser {
	fdinfos := []string{fdinfoHead}
	for _, c := range fdinfoCases {
		fdinfos = append(fdinfos, fdinfoHead+c.text)
	}
	mappings := []string{"1000-2000 r--p 00000000 00:00 0 \n"}
	for _, c := range mapsNames {
		mappings = append(mappings, "1000-2000 r--p 00000000 00:00 0 "+c.text+"\n")
	}
	one := "1000-2000 r--p 00000000 00:00 0 [x]\n" + smapsRest + "ProtectionKey: 1\nVmFlags: rd zz \n"
	return []parser{
		of(parseStat, statLine("a) R 1 ("), "1 () Z"),
		of(parseStatus, statusText, "Name:\tx\nState:\n"),
		of(func(b []byte) (FDInfo, error) { return parseFDInfo("fdinfo/3", b) }, fdinfos...),
		of(parseMaps, mappings...),
		{inPieces, []string{one + one, one + "VmFlags:"}},
		of(parseLimits, limitsText()),
		of(parseSyscall, "running\n", "0 0x3 0x7f 0x20000 0x22 0xff 0x0 0x7ffe 0x7f3c\n"),
		of(parseCgroups, "9:name=systemd:/\n0::/x (deleted)\n"),
		of(ParseMountinfo, "36 35 98:0 /m\\0401 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n", "1 1 0:0 / / - - - -\n"),
		of(parseUIDMap, "         0       1000          1\n"),
		of(parseTimers, "ID: 0\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n"),
		of(parseChildren, "12 7 "),
		of(func(b []byte) (Autogroup, error) { return parseSingle("autogroup", b, (*text).autogroup) }, "/autogroup-12 nice -5\n"),
		of(func(b []byte) ([]TID, error) { return appendDirents([]TID(nil), "task", b) }, ""),
		{protocols, []string{"sockets: used 3\nUDP: inuse 3 mem 0\nTCP6: inuse 1\n"}},
		of(parseFlowLabels, flowLabelHead+"00200 1 0      0      7      -9       00000000000000000000000000000001 8   \n"),
		of(func(b []byte) ([]NetSocket, error) { return parseNetSockets("net/raw", b) },
			netSockHead+"   1: 0100007F:0001 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 26341 2 0 0\n"),
	}
}

type parser struct {
	try   func(b []byte) error
	seeds []string
}

// of is a parser whose failures must have a place.
func of[T any](parse func([]byte) (T, error), seeds ...string) parser {
	return parser{func(b []byte) error {
		_, err := parse(b)
		if p := (*ParseError)(nil); err != nil && (!errors.As(err, &p) || p.File == "" || p.Line < 1) {
			return fmt.Errorf("a failure without a place: %w", err)
		}
		return nil
	}, seeds}
}

// inPieces: smaps gives in two pieces what it gives in one.
func inPieces(b []byte) error {
	whole := vmaReader{file: "smaps", flags: true}
	whole.consume(b, true)
	r := vmaReader{file: "smaps", flags: true}
	used := r.consume(bytes.Clone(b[:len(b)/2]), false)
	if r.err == nil {
		r.consume(b[used:], true)
	}
	if (whole.err == nil) != (r.err == nil) || len(whole.out) != len(r.out) {
		return fmt.Errorf("whole: %d, %w; in pieces: %d, %w", len(whole.out), whole.err, len(r.out), r.err)
	}
	return nil
}

// protocols: sockstat has no more of them than lines that say so.
func protocols(b []byte) error {
	out := map[string]int{}
	parseSockstat(b, out)
	if len(out) > bytes.Count(b, []byte(": inuse ")) {
		return fmt.Errorf("%d protocols", len(out))
	}
	return nil
}

// FuzzFiles reads whatever may be in a file of /proc.
func FuzzFiles(f *testing.F) {
	all := parsers()
	for i, p := range all {
		for _, s := range p.seeds {
			f.Add(uint8(i), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		if err := all[int(which)%len(all)].try(b); err != nil {
			t.Error(err)
		}
	})
}
