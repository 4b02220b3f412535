package tcp

import (
	"math"
	"strings"
	"testing"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
)

// sample is an image of a connection with 3 bytes to be read, and 5 sent and 2
// unsent ones.
func sample() (*tcp_stream.TcpStreamEntry, []byte) {
	n := proto.Uint32
	return &tcp_stream.TcpStreamEntry{
		InqLen: n(3), InqSeq: n(1000), OutqLen: n(7), OutqSeq: n(1), UnsqLen: n(2), OptMask: n(7), SndWscale: n(7), RcvWscale: n(9),
		MssClamp: n(1460), Timestamp: n(77), SndWl1: n(1000), SndWnd: n(500), MaxWindow: n(600), RcvWnd: n(4000), RcvWup: n(990),
	}, []byte("abcdefghij")
}

func parse(e *tcp_stream.TcpStreamEntry, queues []byte) (*Stream, error) {
	return Parse(Established, e, queues)
}

func TestParse(t *testing.T) {
	s, err := parse(sample())
	if err != nil {
		t.Fatal(err)
	}
	in, sent, unsent := s.parts()
	if string(in) != "abc" || string(sent) != "defgh" || string(unsent) != "ij" {
		t.Errorf("%q %q %q", in, sent, unsent)
	}
}

func TestParseBad(t *testing.T) {
	n := proto.Uint32
	tests := []struct {
		name, want string
		change     func(e *tcp_stream.TcpStreamEntry)
	}{
		{"queues", "10 bytes behind", func(e *tcp_stream.TcpStreamEntry) { e.InqLen = n(4) }},
		{"huge queues", "10 bytes behind", func(e *tcp_stream.TcpStreamEntry) { e.InqLen, e.OutqLen = n(1<<32-1), n(11) }},
		{"unsent", "8 bytes were not sent", func(e *tcp_stream.TcpStreamEntry) { e.UnsqLen = n(8) }},
		{"shift", "shifted by 15", func(e *tcp_stream.TcpStreamEntry) { e.SndWscale = n(15) }},
		{"no segment", "segments of 0", func(e *tcp_stream.TcpStreamEntry) { e.MssClamp = n(0) }},
		{"large segment", "segments of 65536", func(e *tcp_stream.TcpStreamEntry) { e.MssClamp = n(1 << 16) }},
		{"window beyond the largest", "windows of 601", func(e *tcp_stream.TcpStreamEntry) { e.SndWnd = n(601) }},
		{"largest window", "windows of", func(e *tcp_stream.TcpStreamEntry) { e.MaxWindow = n(1<<30 + 1) }},
		{"receive window", "windows of", func(e *tcp_stream.TcpStreamEntry) { e.RcvWnd = n(1 << 31) }},
		{"told ahead", "told at 1001", func(e *tcp_stream.TcpStreamEntry) { e.RcvWup = n(1001) }},
		{"heard ahead", "and 5001", func(e *tcp_stream.TcpStreamEntry) { e.SndWl1 = n(5001) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, b := sample()
			tt.change(e)
			if _, err := Parse(Established, e, b); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// What one end has is what the other end need not send again.
func TestJoin(t *testing.T) {
	n := proto.Uint32
	ends := func() (a, b *Stream) {
		e, q := sample()
		f, p := sample()
		f.InqSeq, f.RcvWup = n(1<<32-3), n(1<<32-10) // it has the first 3 of the 7 that end at 1
		f.OutqSeq, f.OutqLen, f.UnsqLen = n(1000), n(7), n(0)
		f.SndWl1 = f.InqSeq
		return &Stream{State: Established, Entry: e, Queues: q}, &Stream{State: Established, Entry: f, Queues: p}
	}
	a, b := ends()
	if err := Join(a, b); err != nil {
		t.Fatal(err)
	}
	in, sent, unsent := a.parts()
	if string(in) != "abc" || len(sent) != 0 || string(unsent) != "ghij" || a.Entry.GetOutqLen() != 4 {
		t.Errorf("%q %q %q", in, sent, unsent)
	}
	if in, sent, unsent = b.parts(); string(in) != "abc" || len(sent)+len(unsent) != 0 {
		t.Errorf("%q %q %q", in, sent, unsent)
	}
	if want := uint32(4000 - 7); a.Entry.GetSndWnd() != want || a.Entry.GetMaxWindow() != want {
		t.Errorf("window %d of %d, want %d", a.Entry.GetSndWnd(), a.Entry.GetMaxWindow(), want)
	}
	if a.checkWindow() != nil || b.checkWindow() != nil {
		t.Error("the windows don't fit")
	}
	a, b = ends()
	b.Entry.InqSeq = n(2)
	if err := Join(a, b); err == nil || !strings.Contains(err.Error(), "not saved at one time") {
		t.Errorf("error %v for ends that don't fit", err)
	}
}

// FuzzParse reads whatever decodes as a connection, as its mate, and as its pace.
func FuzzParse(f *testing.F) {
	e, _ := sample()
	seed, err := proto.Marshal(e)
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []*extra.Pace{{Window: proto.Uint32(10), Threshold: proto.Uint32(20), Ecn: proto.Uint32(1), Time: proto.Uint64(1)},
		{Window: proto.Uint32(math.MaxUint32), Threshold: proto.Uint32(0), Ecn: proto.Uint32(math.MaxUint32), Time: proto.Uint64(math.MaxUint64)}} {
		b, err := proto.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed, []byte("abcdefghij"), seed, b)
	}
	f.Fuzz(func(t *testing.T, b, queues, other, pace []byte) {
		if p := (&extra.Pace{}); (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(pace, p) == nil {
			checkPace(t, p)
		}
		e, o := &tcp_stream.TcpStreamEntry{}, &tcp_stream.TcpStreamEntry{}
		if proto.Unmarshal(b, e) != nil || proto.Unmarshal(other, o) != nil {
			return
		}
		s, err := Parse(Established, e, queues)
		if err != nil {
			return
		}
		s.parts()
		p, err := Parse(Established, o, queues)
		if err == nil && Join(s, p) == nil {
			s.parts()
			p.parts()
		}
	})
}
