package file

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/options"
)

// With EXTPROC whoever has the master makes lines, and what was typed reads as it is.
func TestPTYExtproc(t *testing.T) {
	m, s := newTerminal(t)
	settings, err := unix.IoctlGetTermios(s, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	settings.Lflag |= unix.ICANON | unix.EXTPROC
	if err := unix.IoctlSetTermios(s, unix.TCSETS, settings); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"begun", "whole\n", "one\ntwo", "no\x00end\x04"} {
		if _, err := unix.Write(m, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, err := settleTTY(fd.New(s)); err != nil {
			t.Fatal(err)
		}
		g := self(t)
		g.add(m)
		g.add(s)
		g.mustDump()
		if got, err := takeAll(fd.New(s)); string(got) != text || err != nil {
			t.Errorf("%q reads as %q, %v", text, got, err)
		}
		if now, err := unix.IoctlGetTermios(s, unix.TCGETS); err != nil || *now != *settings {
			t.Errorf("settings are %v, %v", now, err)
		}
	}
}

// What is on the way in a terminal is read without being lost, lines that were
// only begun included.
func TestPTYData(t *testing.T) {
	m, s := newTerminal(t)
	settings, err := unix.IoctlGetTermios(s, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "begun", "whole\n", "one\ntwo\nthree", "end of file\x04", strings.Repeat("x", 4000)} {
		if _, err := unix.Write(m, []byte(text)); err != nil {
			t.Fatal(err)
		}
		g := self(t)
		g.add(m)
		g.add(s)
		g.mustDump()
		all, _ := g.im.Entries(image.TTYData)
		seen := ""
		for _, e := range all {
			if d := e.Message.(*tty.TtyDataEntry); d.GetTtyId()&1 == 0 {
				seen = string(d.GetData())
			}
		}
		if want := strings.ReplaceAll(text, "\x04", "\x00"); seen != want {
			t.Errorf("%q became %q", text, seen)
		}
		if now, err := unix.IoctlGetTermios(s, unix.TCGETS); err != nil || *now != *settings {
			t.Errorf("settings are %v, %v", now, err)
		}
		if text == "" {
			continue
		}
		whole := strings.TrimSuffix(text, "\x04")
		if whole == text && !strings.HasSuffix(text, "\n") {
			if _, err := unix.Write(m, []byte("\n")); err != nil { // the end of what was begun
				t.Fatal(err)
			}
			whole += "\n"
		}
		if got := readLines(t, s, len(whole)); got != whole {
			t.Errorf("%q reads as %q", text, got)
		}
		if _, err := takeAll(fd.New(m)); err != nil { // the echo
			t.Fatal(err)
		}
	}
}

func readLines(t *testing.T, n, most int) string {
	t.Helper()
	b, got := make([]byte, 5000), ""
	for len(got) < most {
		k, err := unix.Read(n, b)
		if err != nil {
			t.Fatal(err)
		}
		got += string(b[:k])
	}
	return got
}

// In criu's images only the entry of a slave tells who owns it.
func TestPTYOwner(t *testing.T) {
	m, s := newTerminal(t)
	g := self(t)
	g.add(m)
	g.add(s)
	g.mustDump()
	infos, _ := g.im.Entries(image.TTYInfo)
	for _, e := range infos {
		i := e.Message.(*tty.TtyInfoEntry)
		*i.Uid, *i.Gid = 0, 0
		if i.GetId()&1 == 0 {
			*i.Uid, *i.Gid = 13333, 44444
		}
	}
	nodes := plannedNodes(t, g.im)
	for _, n := range nodes {
		if n, ok := n.(*ptyNode); ok && (n.set.owner.GetUid() != 13333 || n.set.owner.GetGid() != 44444) {
			t.Errorf("%v: belongs to %d:%d", n, n.set.owner.GetUid(), n.set.owner.GetGid())
		}
	}
}

// In criu's images only the file of a slave tells its mode, also of one that was hung up.
func TestPTYMode(t *testing.T) {
	for _, hung := range []bool{false, true} {
		m, s := newTerminal(t)
		g := self(t)
		if err := unix.Fchmod(s, 0o604); err != nil {
			t.Fatal(err)
		}
		if !hung {
			g.add(m)
		} else if err := unix.Dup3(open(t, "/dev/null", unix.O_RDONLY), m, unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		g.add(s)
		g.mustDump()
		infos, _ := g.im.Entries(image.TTYInfo)
		for _, e := range infos {
			e.Message.(*tty.TtyInfoEntry).SetUnknown(nil)
		}
		p, err := planAll(g.im, &options.Restore{})
		if err != nil {
			t.Fatal(err)
		}
		modes := 0
		nodes, _ := p.Nodes()
		for _, n := range nodes {
			switch n := n.(type) {
			case *ptyNode:
				modes |= int(n.set.mode)
			case *hungNode:
				modes |= int(n.set.pty.mode)
			}
		}
		if modes != unix.S_IFCHR|0o604 {
			t.Errorf("hung up: %t: mode %#o", hung, modes)
		}
	}
}

// The slave of openpty(3) doesn't have O_LARGEFILE, which open(2) always gives.
func TestPTYSlaveFlags(t *testing.T) {
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	own(t, m, err)
	if err := unix.IoctlSetPointerInt(m, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(m, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	opened := open(t, fmt.Sprintf("/dev/pts/%d", number), unix.O_RDWR|unix.O_NOCTTY)
	s := &ptySet{index: number, hold: borrowSelf(t, m), made: true}
	peer, err := peerAs(s.hold, unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	for _, n := range []int{opened, peer.Int()} {
		was := flagsOf(t, n)
		d, err := (&ptyNode{base: base{flags: uint32(was)}, set: s}).Create(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		how, err := unix.FcntlInt(uintptr(d.Int()), unix.F_GETFD, 0)
		if is := flagsOf(t, d.Int()); is != was || how != unix.FD_CLOEXEC || err != nil {
			t.Errorf("flags %#o, were %#o; of the descriptor %d, %v", is, was, how, err)
		}
	}
}

// So does one whose master is closed.
func TestPTYHungFlags(t *testing.T) {
	var s *hungSet
	for tries := 0; ; tries++ {
		s = hungAt(freeTerminal(t))
		err := s.create()
		if err == nil {
			break
		}
		if tries == 20 || !strings.Contains(err.Error(), "is in use by another terminal") { // of another program
			t.Fatal(err)
		}
	}
	defer s.nodes[0].Drop()
	if flags := flagsOf(t, s.nodes[0].own.Int()); flags != unix.O_RDWR {
		t.Errorf("flags %#o", flags)
	}
}

// freeTerminal is a number that no terminal has.
func freeTerminal(t *testing.T) uint32 {
	t.Helper()
	m, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetUint32(m, unix.TIOCGPTN)
	if err := errors.Join(err, unix.Close(m)); err != nil {
		t.Fatal(err)
	}
	return number
}

// hungAt is a terminal of a number that has hung up.
func hungAt(number uint32) *hungSet {
	info := &tty.TtyInfoEntry{}
	s := &hungSet{pty: ptySet{index: number, info: info, owner: info, ptmx: "/dev/ptmx"}}
	s.nodes = []*hungNode{{base: base{flags: unix.O_RDWR}, set: s}}
	return s
}
