package dump

import (
	"log/slog"
	"strings"
	"testing"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	sk_opts "glis.dev/glis/image/criu/sk-opts"
	sk_unix "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/options"
)

// A socket whose peer is missing from the images ends the dump that is about to write
// them, or has written them since they did not fit into memory.
func TestRehearse(t *testing.T) {
	for _, spilled := range []bool{false, true} {
		for _, peer := range []uint32{8, 9} {
			d := newDump(&options.Dump{}, dirOf(t), slog.New(slog.DiscardHandler))
			d.ctx = t.Context()
			for id, ino := range []uint32{7, 8} {
				if err := d.sink.Put(image.Files, pairEnd(uint32(id+1), ino, peer+7-ino), nil); err != nil {
					t.Fatal(err)
				}
			}
			if spilled {
				if err := d.sink.spill(); err != nil {
					t.Fatal(err)
				}
			}
			err := d.writeImages(t.Context())
			if ok := peer == 8; ok != (err == nil) || !ok && !strings.Contains(err.Error(), "could not make the tree again") {
				t.Errorf("peer %d, spilled %v: got %v", peer, spilled, err)
			}
		}
	}
}

// pairEnd is the entry of one end of a pair.
func pairEnd(id, ino, peer uint32) *fdinfo.FileEntry {
	zero := new(uint32)
	return &fdinfo.FileEntry{
		Type: fdinfo.FdTypes_UNIXSK.Enum(), Id: &id,
		Usk: &sk_unix.UnixSkEntry{
			Id: &id, Ino: &ino, Peer: &peer, Type: proto.Uint32(1), State: proto.Uint32(1), Flags: proto.Uint32(2), Uflags: zero, Backlog: zero, Name: []byte{},
			Fown: &fown.FownEntry{Uid: zero, Euid: zero, Signum: zero, PidType: zero, Pid: zero},
			Opts: &sk_opts.SkOptsEntry{
				SoSndbuf: zero, SoRcvbuf: zero,
				SoSndTmoSec: new(uint64), SoSndTmoUsec: new(uint64), SoRcvTmoSec: new(uint64), SoRcvTmoUsec: new(uint64),
			},
		},
	}
}
