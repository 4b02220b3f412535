package dump

import (
	"bytes"
	"context"
	"runtime"
	"strings"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fs"
	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
)

// All entries of an image are written that were handed in at once, and one that is there
// already can be changed, be it written or not.
func TestPutAllAndAmend(t *testing.T) {
	for _, spill := range []bool{false, true} {
		d := dirOf(t)
		s := newSink(d)
		var all []proto.Message
		for i := range uint32(2000) { // more than there is room for
			all = append(all, descriptor(i))
		}
		for id := range uint32(3) {
			must(t, s.putAll(image.FdInfo, all[:id*1000], id))
			must(t, s.PutNow(image.FS, &fs.FsEntry{CwdId: proto.Uint32(id), RootId: proto.Uint32(id), Umask: proto.Uint32(7)}, nil, id))
		}
		if spill {
			must(t, s.spill())
		}
		var e fs.FsEntry
		must(t, s.amend(image.FS, 1, &e, func() { e.Umask = proto.Uint32(e.GetCwdId() + 22) }))
		must(t, s.finish(context.Background()))
		for id := range uint32(3) {
			got, err := image.ReadAll[*fdinfo.FdinfoEntry](d, image.FdInfo, id)
			must(t, err)
			if n := int(id) * 1000; len(got) != n || n > 0 && got[n-1].GetFd() != uint32(n-1) {
				t.Errorf("image %d: %d entries", id, len(got))
			}
			f, err := image.ReadOne[*fs.FsEntry](d, image.FS, id)
			must(t, err)
			if want := map[uint32]uint32{0: 7, 1: 23, 2: 7}[id]; f.GetUmask() != want || f.GetCwdId() != id {
				t.Errorf("image %d: %v, want %d", id, f, want)
			}
		}
	}
}

// TestPutNow: a message that is used again is written as it was when it was put, in
// order with others, and so is the entry of a file that has one only.
func TestPutNow(t *testing.T) {
	for _, spill := range []bool{false, true} {
		d := dirOf(t)
		s := newSink(d)
		again, stream := descriptor(0), &tcp_stream.TcpStreamEntry{}
		const count = 10000 // several runs
		for i := range uint32(count) {
			*again.Id, *again.Fd = i, i
			if i%100 == 0 {
				must(t, s.Put(image.FdInfo, descriptor(i), nil, 2))
			} else {
				must(t, s.PutNow(image.FdInfo, again, nil, 2))
			}
			if i%20 == 0 {
				queue := bytes.Repeat([]byte{byte(i)}, int(i%7))
				*stream = tcp_stream.TcpStreamEntry{InqLen: proto.Uint32(i % 7), InqSeq: &i, OutqLen: proto.Uint32(0), OutqSeq: &i, OptMask: proto.Uint32(0), SndWscale: proto.Uint32(0), MssClamp: proto.Uint32(1)}
				must(t, s.PutNow(image.TCPStream, stream, queue, i))
			}
			if spill && i == count/2 {
				must(t, s.spill())
			}
		}
		must(t, s.finish(context.Background()))
		all, err := image.ReadAll[*fdinfo.FdinfoEntry](d, image.FdInfo, 2)
		must(t, err)
		for i, e := range all {
			if len(all) != count || e.GetFd() != uint32(i) {
				t.Fatalf("entry %d of %d is %v", i, len(all), e)
			}
		}
		streams := image.NewSingles(d, image.TCPStream, func(int64) bool { return false })
		for i := uint32(0); i < count; i += 20 {
			m, payload, _, err := streams.Read(i)
			must(t, err)
			if e, ok := m.(*tcp_stream.TcpStreamEntry); !ok || e.GetInqSeq() != i || !bytes.Equal(payload, bytes.Repeat([]byte{byte(i)}, int(i%7))) {
				t.Fatalf("stream %d: %v, payload %q", i, m, payload)
			}
		}
	}
	s := newSink(dirOf(t))
	bad := &tcp_stream.TcpStreamEntry{InqLen: proto.Uint32(5), InqSeq: proto.Uint32(1), OutqLen: proto.Uint32(0), OutqSeq: proto.Uint32(1), OptMask: proto.Uint32(0), SndWscale: proto.Uint32(0), MssClamp: proto.Uint32(1)}
	if err := s.PutNow(image.TCPStream, bad, []byte("abc"), 1); err == nil || !strings.Contains(err.Error(), "payload of 3 bytes") {
		t.Errorf("%v of a payload that is too short", err)
	}
	if err := s.PutNow(image.FdInfo, &fdinfo.FdinfoEntry{}, nil, 2); err == nil {
		t.Error("a message was taken that lacks fields")
	}
}

// Entries that are encoded at once, in turn with others, take no more room than those alone.
func TestPutInTurn(t *testing.T) {
	const count = 2000
	d := dirOf(t)
	s := newSink(d)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range uint32(count) {
		put := s.Put
		if i%2 == 0 {
			put = s.PutNow
		}
		must(t, put(image.FdInfo, descriptor(i), nil, 1))
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 2*count*runSize/8/8 {
		t.Errorf("%d entries took %d bytes", count, got)
	}
	must(t, s.finish(context.Background()))
	got, err := image.ReadAll[*fdinfo.FdinfoEntry](d, image.FdInfo, 1)
	must(t, err)
	if len(got) != count {
		t.Fatalf("%d entries of %d", len(got), count)
	}
	for i, e := range got {
		if e.GetFd() != uint32(i) {
			t.Fatalf("entry %d is of descriptor %d", i, e.GetFd())
		}
	}
}
