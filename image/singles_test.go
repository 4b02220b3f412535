package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
)

// TestSingles: what is read in the same memory is what each file has, with its
// payload; a damaged one is an error, with checksums and without.
func TestSingles(t *testing.T) {
	path, n := t.TempDir(), proto.Uint32
	r := NewRecorder(openDir(t, path), false)
	var want []*tcp_stream.TcpStreamEntry
	payload := func(i uint32) []byte { return bytes.Repeat([]byte{byte(i)}, int(3*i)) }
	for i := range uint32(5) {
		e := &tcp_stream.TcpStreamEntry{InqLen: n(i), InqSeq: n(i + 1), OutqLen: n(2 * i), OutqSeq: n(7), OptMask: n(0), SndWscale: n(i), MssClamp: n(5)}
		want = append(want, e)
		w, err := Create(r, TCPStream, i)
		check(t, err)
		check(t, w.PutPayload(e, payload(i)))
		check(t, w.Close())
	}
	check(t, r.Seal(context.Background(), someInventory()))
	plain := openDir(t, path)
	checked, err := Check(plain)
	check(t, err)
	for _, s := range []Store{plain, checked} {
		all := NewSingles(s, TCPStream, func(int64) bool { return false })
		far := NewSingles(s, TCPStream, func(int64) bool { return true })
		for _, i := range []uint32{4, 0, 3, 3, 1} {
			m, p, _, err := all.Read(i)
			_, _, f, err2 := far.Read(i)
			check(t, err2)
			if f.Len() != len(p) {
				t.Errorf("%d: %d bytes stay in the file, and there are %d", i, f.Len(), len(p))
			}
			if f != nil {
				check(t, f.Use(func(b []byte) error {
					if !bytes.Equal(b, p) {
						t.Errorf("%d: %q in the file instead of %q", i, b, p)
					}
					return nil
				}))
			}
			if err != nil || !proto.Equal(m, want[i]) || !bytes.Equal(p, payload(i)) {
				t.Errorf("%d: %v, %q, %v instead of %v, %q", i, m, p, err, want[i], payload(i))
			}
		}
		if m, p, _, err := all.Read(77); m != nil || p != nil || err != nil {
			t.Errorf("%v, %q, %v of a file that is not there", m, p, err)
		}
	}
	name := path + "/" + TCPStream.FileName(2)
	raw, err := os.ReadFile(name)
	check(t, err)
	for want, b := range map[string][]byte{"there is no entry": raw[:8], "second entry": append(bytes.Clone(raw), raw[8:]...), "is cut": raw[:len(raw)-1]} {
		check(t, os.WriteFile(name, b, 0o600))
		if _, _, _, err := NewSingles(plain, TCPStream, func(int64) bool { return false }).Read(2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, _, _, err := NewSingles(checked, TCPStream, func(int64) bool { return false }).Read(2); !errors.Is(err, ErrChecksum) {
			t.Errorf("%v of a damaged file with a checksum", err)
		}
	}
}
