package unix

import (
	"strings"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
)

// Of sockets that are called alike one is bound to the name; which one, the kernel's
// memory tells.
func TestWhose(t *testing.T) {
	const name = "\x00glis-whose"
	s := &sockets{t: t}
	door := s.listener(sys.SOCK_STREAM, name)
	client := s.socket(sys.SOCK_STREAM)
	s.connect(client, name)
	n, _, err := sys.Accept4(door, sys.SOCK_CLOEXEC)
	s.must(err)
	accepted := s.own(n)
	s.close(door)
	a, b := s.pair(sys.SOCK_STREAM)
	s.must(bindRaw(a, []byte(name)))
	memory(t)
	in, err := dumpTree(t, scanned(t, client, accepted, a, b))
	if err != nil {
		t.Fatal(err)
	}
	var named []uint32
	for _, x := range extras(in) {
		if x.GetAccepted() {
			named = append(named, x.GetId())
		}
	}
	if len(named) != 1 || named[0] != 2 {
		t.Errorf("accepted are files %v, want 2", named)
	}
	k := surveyed()
	k.UseMemory(kmem.Share("no_such_structure.member"))
	if _, err := dumpWith(t, k, scanned(t, client, accepted, a, b)); !refused(err) || !strings.Contains(err.Error(), "called \"@glis-whose\"") {
		t.Errorf("without the kernel's memory: %v", err)
	}
}
