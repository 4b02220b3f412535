package unix

import (
	"strings"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// waitingImages are a listener, number 1, two clients that wait at it, 2 and 3,
// and what the images say of it.
func waitingImages(all ...plan.Entry) (images, []*fdinfo.FileEntry) {
	l := listenerEntry("\x00door", "")
	one, two := entry(2, 20, 10), entry(3, 30, 10)
	who := &extra.SocketIdentity{Pid: proto.Uint32(7), Uid: new(uint32), Gid: new(uint32)}
	return images{extra.Waiting: all, extra.Identities: {{Message: who}}}, []*fdinfo.FileEntry{one, l, two}
}

// waitingEntry is a connection of a client with messages.
func waitingEntry(client uint32, messages ...string) plan.Entry {
	e := &extra.WaitingConnection{Listener: proto.Uint32(1), Client: &client, Who: proto.Uint32(1), Data: []byte(strings.Join(messages, ""))}
	if client == 0 {
		e.Client = nil
	}
	for _, m := range messages {
		e.Messages = append(e.Messages, &extra.WaitingMessage{Length: proto.Uint32(uint32(len(m)))})
	}
	return plan.Entry{Message: e}
}

func TestPlanWaiting(t *testing.T) {
	in, entries := waitingImages(waitingEntry(3, "hello", "x"), waitingEntry(0, "gone"))
	got, err := planAll(in, entries...)
	if err != nil {
		t.Fatal(err)
	}
	want := "unix SOCK_STREAM, waits to be accepted by file 0x1\n" +
		"unix SOCK_STREAM, listening at \"@door\", backlog 5, 3 connections wait to be accepted\n" +
		"unix SOCK_STREAM, waits to be accepted by file 0x1"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPlanWaitingBad(t *testing.T) {
	change := func(f func(*extra.WaitingConnection)) plan.Entry {
		e := waitingEntry(2, "hello")
		f(e.Message.(*extra.WaitingConnection))
		return e
	}
	long := waitingEntry(2, "hello")
	long.Message.(*extra.WaitingConnection).Data = []byte("hellox")
	tests := []struct {
		name, want string
		in         []plan.Entry
	}{
		{"twice", "file 0x2, is missing", []plan.Entry{waitingEntry(2), waitingEntry(2)}},
		{"no client", "file 0x63, is missing", []plan.Entry{waitingEntry(99)}},
		{"itself", "file 0x1, is missing", []plan.Entry{waitingEntry(1)}},
		{"not a listener", "doesn't listen", []plan.Entry{change(func(e *extra.WaitingConnection) { e.Listener = proto.Uint32(2) })}},
		{"nobody", "identity 0", []plan.Entry{change(func(e *extra.WaitingConnection) { e.Who = new(uint32) })}},
		{"unknown identity", "identity 2", []plan.Entry{change(func(e *extra.WaitingConnection) { e.Who = proto.Uint32(2) })}},
		{"cut", "message 1 is cut", []plan.Entry{change(func(e *extra.WaitingConnection) { e.Messages[0].Length = proto.Uint32(1 << 31) })}},
		{"too long", "1 bytes more", []plan.Entry{long}},
		{"shut down before", "was not shut down", []plan.Entry{change(func(e *extra.WaitingConnection) { e.Early = proto.Uint32(2) })}},
		{"missing file", "file 0x63, which comes along", []plan.Entry{change(func(e *extra.WaitingConnection) { e.Messages[0].Files = []uint32{99} })}},
		{"many files", "more than 253", []plan.Entry{change(func(e *extra.WaitingConnection) { e.Messages[0].Files = make([]uint32, 300) })}},
		{"urgent data", "can't be", []plan.Entry{change(func(e *extra.WaitingConnection) { e.Messages[0].Urgent = proto.Bool(true) })}},
		{"name", "name", []plan.Entry{change(func(e *extra.WaitingConnection) { e.Client, e.Name = nil, make([]byte, 109) })}},
		{"its listener's name", "can't have been free", []plan.Entry{change(func(e *extra.WaitingConnection) { e.Client, e.Name = nil, []byte("\x00door") })}},
	}
	for _, tt := range tests {
		in, entries := waitingImages(tt.in...)
		if _, err := planAll(in, entries...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
	in, entries := waitingImages()
	entries[0].Usk.Type = proto.Uint32(sys.SOCK_SEQPACKET)
	if _, err := planAll(in, entries...); err == nil || !strings.Contains(err.Error(), "can't be connected to file 0x1") {
		t.Errorf("a client of another type: %v", err)
	}
}
