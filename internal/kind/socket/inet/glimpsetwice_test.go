package inet

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/options"
)

// TestCompare: two pictures in turn have to be the same; the second of two that are not is
// the first of the next, and what was peeked at before is of no use any more.
func TestCompare(t *testing.T) {
	var p sockmem.Picture
	p.Family = unix.AF_INET
	for _, w := range []sockmem.Word{sockmem.Saddr, sockmem.Daddr, sockmem.Sport, sockmem.Dport} {
		p.Word[w] = 0x0100007f
	}
	p.Word[sockmem.State], p.Word[sockmem.RcvNxt], p.Word[sockmem.PeekOff] = tcp.Established, 5, ^uint32(0)
	later := p
	later.Word[sockmem.RcvNxt], later.Word[sockmem.SegsIn] = 7, 1
	busy := later
	busy.Word[sockmem.Owned] = 1

	for _, c := range []struct {
		name        string
		seen        []sockmem.Picture
		same, still bool
		moved       bool // by the last
		peeked      bool // what was peeked at before is right
	}{
		{"the same", []sockmem.Picture{p, p}, true, true, false, true},
		{"a packet came", []sockmem.Picture{p, later}, false, true, true, false},
		{"and then none", []sockmem.Picture{p, later, later}, true, true, false, false},
		{"in use", []sockmem.Picture{p, busy}, false, false, false, false},
		{"the same, but in use", []sockmem.Picture{busy, busy}, true, false, false, true},
		{"what comes after is of no matter", []sockmem.Picture{p, p, later}, true, true, false, true},
	} {
		var g glimpse
		g.see(&c.seen[0])
		g.queue = []byte("asked")
		moved := false
		for _, next := range c.seen[1:] {
			moved = g.compare(&next)
		}
		if g.same != c.same || g.still != c.still || moved != c.moved || (g.queue != nil) != c.peeked {
			t.Errorf("%s: same %v, still %v, moved %v, queue %q", c.name, g.same, g.still, moved, g.queue)
		}
	}
}

// What segments had for a time stamp that left before packets were held back is not later
// than what is saved.
func TestClockOfLock(t *testing.T) {
	var fds []int
	for range severalDescriptors {
		p := paired(t, tcp4, "127.0.0.1")
		fds = append(fds, p.ends[0].Int(), p.ends[1].Int())
	}
	stamp := func(n int) uint32 {
		v, err := unix.GetsockoptInt(n, unix.IPPROTO_TCP, unix.TCP_TIMESTAMP)
		must(t, err)
		return uint32(v)
	}
	o, out := &options.Dump{}, images{}
	o.TCPEstablished = true
	env, _ := environment(t, o, out, fds...)
	k := New()
	k.PrepareFor(severalDescriptors, memory(t))
	must(t, k.alike.survey(env))
	must(t, k.PeekAhead(env, func() bool { return false }))
	for from := stamp(fds[0]); stamp(fds[0])-from < 5; { // ms
		runtime.Gosched()
	}
	var sent []uint32
	for _, n := range fds {
		sent = append(sent, stamp(n))
	}
	for _, f := range env.Tree.Files {
		if !k.Match(f) {
			t.Fatalf("%v: no match", f)
		}
		_, err := k.Dump(t.Context(), env, f)
		must(t, err)
	}
	if k.alike.still == 0 {
		t.Fatal("none was dumped by memory alone")
	}
	for _, f := range env.Tree.Files {
		e := out[stored{image.TCPStream, fmt.Sprint([]uint32{uint32(f.Stat.Ino)})}][0].Message.(*tcp_stream.TcpStreamEntry)
		if now := stamp(int(f.FD)); now-e.GetTimestamp() > now-sent[f.ID-1] {
			t.Errorf("%v: time stamp %d, %d ms before one that was sent", f, e.GetTimestamp(), sent[f.ID-1]-e.GetTimestamp())
		}
	}
}

// Once sockets were shown none are looked for, while queues are peeked at: those of a task
// that could not be looked at are not known.
func TestShownOnce(t *testing.T) {
	var fds []int
	for range severalDescriptors {
		p := paired(t, tcp4, "127.0.0.1")
		fds = append(fds, p.ends[0].Int(), p.ends[1].Int())
	}
	env, f := environment(t, &options.Dump{}, images{}, fds...)
	m := memory(t)
	k := New()
	k.PrepareFor(severalDescriptors, m)
	other := *f.Task
	must(t, m.Each(f.Task.Pidfd.Int(), func(s sockmem.Socket) error {
		k.SeeSocket(&other, s)
		return nil
	}))
	if g := k.groupOf(env, f); g != nil || len(k.alike.tasks) != 1 || k.alike.tasks[&other] == nil {
		t.Errorf("group %v, sockets of %d tasks are known", g, len(k.alike.tasks))
	}
}
