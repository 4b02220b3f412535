package inet

import (
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"

	"glis.dev/glis/image"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/plan"
)

// oneByOne is a source of images of connections, of which one may be bad. It counts.
type oneByOne struct {
	bad   uint32
	reads []atomic.Int32
}

func (o *oneByOne) Entries(*image.Row, ...uint32) ([]plan.Entry, error) { return nil, nil }

func (o *oneByOne) Singles(*image.Row) func(uint32) (plan.Entry, error) {
	msg := &tcp_stream.TcpStreamEntry{InqLen: new(uint32), InqSeq: new(uint32), OutqLen: new(uint32), OutqSeq: new(uint32), OptMask: new(uint32), SndWscale: new(uint32), MssClamp: proto.Uint32(1000)}
	return func(id uint32) (plan.Entry, error) {
		o.reads[id].Add(1)
		if id == o.bad {
			return plan.Entry{}, errors.New("no luck")
		}
		*msg.InqSeq = id
		return plan.Entry{Message: msg}, nil
	}
}

// The image of each connection is read once, whether others are planned meanwhile or not,
// and one that can't be read is told.
func TestStreams(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	for _, cpus := range []int{1, 2} {
		runtime.GOMAXPROCS(cpus)
		for _, count := range []uint32{1, fewStreams, fewStreams + 10*streamsAtOnce + 3} {
			for _, bad := range []uint32{count, 0, count - 1} {
				src := &oneByOne{bad: bad, reads: make([]atomic.Int32, count)}
				k, p := &Kind{source: src}, plan.New(src, nil)
				for i := range count {
					k.expectStream(p, &node{kind: k, id: plan.ID(i), sort: sort{connected: true}, entry: facts{ino: i, state: tcp.Established}})
				}
				err := k.readStreams()
				p.Beside.Wait()
				if bad < count {
					if err == nil || !strings.Contains(err.Error(), "no luck") {
						t.Errorf("%d CPUs, %d of %d is bad: error %v", cpus, bad, count, err)
					}
					continue
				}
				must(t, err)
				for i, n := range k.streams.live {
					if src.reads[i].Load() != 1 || n.stream.Entry.GetInqSeq() != uint32(i) {
						t.Fatalf("%d CPUs: image %d of %d was read %d times", cpus, i, count, src.reads[i].Load())
					}
				}
			}
		}
	}
}
