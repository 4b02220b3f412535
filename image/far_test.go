package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
)

// Payloads that are not too large together are used beside each other, and larger ones
// one after the other.
func TestFarTogether(t *testing.T) {
	const half = mostAtOnce / 2
	store := memory{}
	f, err := store.Create("x")
	check(t, err)
	_, err = f.Write(bytes.Repeat([]byte("abcd"), mostAtOnce/2))
	check(t, errors.Join(err, f.Close()))
	met := make(chan struct{})
	var g errgroup.Group
	for i := range 2 {
		g.Go(func() error {
			p := &Far{store: store, name: "x", at: int64(i), size: half}
			return p.Use(func(b []byte) error {
				if len(b) != half || b[0] != "abcd"[i] {
					return errors.New("it is another one")
				}
				select {
				case met <- struct{}{}:
				case <-met:
				case <-time.After(time.Minute):
					return errors.New("the other one isn't used meanwhile")
				}
				return nil
			})
		})
	}
	check(t, g.Wait())
	alone := make(chan struct{}, 1)
	for range 4 {
		g.Go(func() error {
			p := &Far{store: store, name: "x", size: mostAtOnce + 1}
			return p.Use(func([]byte) error {
				select {
				case alone <- struct{}{}:
				default:
					return errors.New("more are in memory than may be")
				}
				<-alone
				return nil
			})
		})
	}
	check(t, g.Wait())
}

// What is read again of many short files is not garbage afterwards, and is what was there, or
// an error.
func TestFarAgain(t *testing.T) {
	const size, times = 16 << 10, 200
	path, n := t.TempDir(), proto.Uint32
	r := NewRecorder(openDir(t, path), false)
	want := bytes.Repeat([]byte("abcd"), size/4)
	w, err := Create(r, TCPStream, 1)
	check(t, err)
	check(t, w.PutPayload(&tcp_stream.TcpStreamEntry{InqLen: n(size), InqSeq: n(1), OutqLen: n(0), OutqSeq: n(7), OptMask: n(0), SndWscale: n(0), MssClamp: n(5)}, want))
	check(t, errors.Join(w.Close(), r.Seal(context.Background(), someInventory())))
	s, err := Check(openDir(t, path))
	check(t, err)
	_, _, far, err := NewSingles(s, TCPStream, func(int64) bool { return true }).Read(1)
	check(t, err)
	use := func(b []byte) error {
		if !bytes.Equal(b, want) {
			return errors.New("it is another one")
		}
		return nil
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		check(t, far.Use(use))
	}
	runtime.ReadMemStats(&after)
	// With -race a sync.Pool loses some of what it is given.
	if got := after.TotalAlloc - before.TotalAlloc; got > times*size*3/2 {
		t.Errorf("%d bytes were allocated to read %d bytes %d times", got, size, times)
	}
	name := path + "/" + TCPStream.FileName(1)
	raw, err := os.ReadFile(name)
	check(t, err)
	for _, b := range [][]byte{raw[:len(raw)-1], append(bytes.Clone(raw), 0), append(bytes.Clone(raw[:len(raw)-1]), 'x')} {
		check(t, os.WriteFile(name, b, 0o600))
		if err := far.Use(use); !errors.Is(err, ErrChecksum) {
			t.Errorf("%v of a file that was damaged meanwhile", err)
		}
	}
}
