package task

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/seccomp"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/arch"
	"glis.dev/glis/internal/kind"
)

// FuzzParsers reads whatever may be where an image, or the kernel's list of CPUs,
// is read: which is told by a number.
func FuzzParsers(f *testing.F) {
	c := &core.CoreEntry{}
	putExtra(c, extraRestart, make([]byte, restartSize))
	keys := &sessionKeyring{userKey: userKey{perm: 0x3f1f0000, name: "login"}, linked: true, keys: []*userKey{{name: "n", payload: []byte("p")}}}
	x := &seccomp.SeccompFilter{Filter: make([]byte, 8), Flags: new(uint32)}
	filters, err := proto.Marshal(&seccomp.SeccompEntry{SeccompFilters: []*seccomp.SeccompFilter{x, {Filter: x.Filter, Flags: x.Flags, Prev: new(uint32)}}})
	if err != nil {
		f.Fatal(err)
	}
	all := []struct {
		try  func(b []byte) error
		seed []byte
	}{
		{extras, c.Unknown()},
		{cpus, []byte("0-3,5")},
		{restarts, (&restart{Nr: 35, Code: arch.RestartBlock, Rest: unix.Timespec{Sec: 1}}).encode()},
		{keyrings, keys.encode()},
		{chains, filters},
		{described, []byte("keyring;0;0;3f1f0000;_ses")},
	}
	for i, p := range all {
		f.Add(uint8(i), p.seed)
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		if err := all[int(which)%len(all)].try(b); err != nil {
			t.Error(err)
		}
	})
}

// extras: none is taken that is not known.
func extras(b []byte) error {
	c := &core.CoreEntry{}
	c.SetUnknown(b)
	x, err := ReadExtra(c)
	if err != nil {
		return nil
	}
	for name := range x {
		if !knownExtra(name) {
			return fmt.Errorf("unknown %q is accepted", name)
		}
	}
	return nil
}

func cpus(b []byte) error {
	if set, err := parseCPUs(string(b)); err == nil && len(set) > cpuSetSize {
		return fmt.Errorf("%d bytes", len(set))
	}
	return nil
}

func restarts(b []byte) error {
	if r, err := decodeRestart(b); err == nil && string(r.encode()) != string(b) {
		return fmt.Errorf("%x comes back as %x", b, r.encode())
	}
	return nil
}

func keyrings(b []byte) error {
	s, err := decodeKeyring(kind.Extra{extraKeyring: b})
	if err != nil {
		return nil
	}
	if again, err := decodeKeyring(kind.Extra{extraKeyring: s.encode()}); err != nil || !reflect.DeepEqual(s, again) {
		return fmt.Errorf("%+v becomes %+v: %w", s, again, err)
	}
	return nil
}

// described: a name that the kernel says in answer to KEYCTL_DESCRIBE is one of its answer's words.
func described(b []byte) error {
	if s, err := parseKeyring(string(b)); err == nil && !strings.HasSuffix(string(b), s.name) {
		return fmt.Errorf("%q is called %q", b, s.name)
	}
	return nil
}

// chains: what is taken as filters leads from each to an older one only.
func chains(b []byte) error {
	e := &seccomp.SeccompEntry{}
	if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(b, e) != nil || checkFilters(e.GetSeccompFilters()) != nil {
		return nil
	}
	n := len(e.GetSeccompFilters())
	for _, first := range []uint32{0, 1, uint32(n / 2), uint32(n)} {
		if all, err := chain(e.GetSeccompFilters(), first); err == nil && (len(all) == 0 || len(all) > n) {
			return fmt.Errorf("%d filters of %d", len(all), n)
		}
	}
	return nil
}
