package linux

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func message(typ uint16, flags uint16, seq uint32, body ...byte) []byte {
	ne := binary.NativeEndian
	b := ne.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = ne.AppendUint16(ne.AppendUint16(b, typ), flags)
	b = append(ne.AppendUint32(ne.AppendUint32(b, seq), 0), body...)
	return append(b, make([]byte, -len(b)&3)...)
}

func TestAnswers(t *testing.T) {
	eio := binary.NativeEndian.AppendUint32(nil, ^uint32(unix.EIO)+1)
	for _, c := range []struct {
		name string
		b    []byte
		got  string
		done bool
		err  error
	}{
		{"one", message(20, 0, 7, 'a'), "a", true, nil},
		{"more to come", message(20, unix.NLM_F_MULTI, 7, 'a'), "a", false, nil},
		{"the last", append(message(20, unix.NLM_F_MULTI, 7, 'a'), message(unix.NLMSG_DONE, unix.NLM_F_MULTI, 7, 0, 0, 0, 0)...), "a", true, nil},
		{"to another question", append(message(20, 0, 6, 'x'), message(20, 0, 7, 'a')...), "a", true, nil},
		{"only to another", message(unix.NLMSG_ERROR, 0, 6, eio...), "", false, nil},
		{"an error", message(unix.NLMSG_ERROR, 0, 7, eio...), "", true, unix.EIO},
		{"an error at the end", message(unix.NLMSG_DONE, unix.NLM_F_MULTI, 7, eio...), "", true, unix.EIO},
		{"acknowledged", message(unix.NLMSG_ERROR, 0, 7, 0, 0, 0, 0), "", true, nil},
		{"cut", message(20, 0, 7, 'a', 'b', 'c', 'd')[:18], "", false, unix.EINVAL},
	} {
		got := ""
		done, err := answers(c.b, 7, func(_ uint16, body []byte) { got += string(body) })
		if got != c.got || done != c.done || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v, %v", c.name, got, done, err)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add(message(20, unix.NLM_F_MULTI, 7, 'a'), uint32(7))
	f.Add(message(unix.NLMSG_DONE, 0, 7, 1, 2, 3, 4), uint32(7))
	f.Fuzz(func(t *testing.T, b []byte, seq uint32) {
		total := 0
		_, _ = answers(b, seq, func(_ uint16, body []byte) { total += len(body) })
		if total > len(b) {
			t.Errorf("%d bytes of answers in %d", total, len(b))
		}
	})
}

// What does not come is not waited for, and spoils nothing.
func TestNetlinkNoAnswer(t *testing.T) {
	n, err := DialNetlink(unix.NETLINK_ROUTE, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if _, err := n.receive(); !errors.Is(err, ErrNoAnswer) || !errors.Is(err, unix.EAGAIN) {
		t.Errorf("nobody has asked: %v", err)
	}
	// Without NLM_F_ACK there is no answer to this but an error.
	const none = 0xffff
	if err := n.Ask(none, 0, nil, nil); !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a request that there is not: %v", err)
	}
	links := 0
	stop := errors.New("stop")
	err = n.Ask(unix.RTM_GETLINK, netlink.Dump, make([]byte, unix.SizeofIfInfomsg), func(typ uint16, _ []byte) error {
		if typ == unix.RTM_NEWLINK {
			links++
		}
		return stop
	})
	if links != 1 || !errors.Is(err, stop) {
		t.Errorf("%d links (%v)", links, err)
	}
}
