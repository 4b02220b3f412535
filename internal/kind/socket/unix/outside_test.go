package unix

import (
	"strings"
	"testing"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
)

// outsider is a peer that is outside, as criu's images have it.
func outsider(id, ino uint32, name string) *fdinfo.FileEntry {
	e := entry(id, ino, 0)
	u := e.Usk
	u.Type, u.State, u.Uflags, u.Name = proto.Uint32(sys.SOCK_DGRAM), proto.Uint32(listening), proto.Uint32(flagExternal), []byte(name)
	return e
}

func TestPlanOutside(t *testing.T) {
	stream := entry(1, 10, 20)
	tests := []struct {
		name, want string
		in         images
		entries    []*fdinfo.FileEntry
	}{
		{"without the option", "--ext-unix-sk", nil, []*fdinfo.FileEntry{stream, outsider(2, 20, "/run/x")}},
		{"twice", "can't be", nil, []*fdinfo.FileEntry{outsider(2, 20, "/run/x"), outsider(3, 20, "/run/x")}},
		{"in the tree, too", "can't be", nil, []*fdinfo.FileEntry{entry(1, 20, 0), outsider(2, 20, "/run/x")}},
		{"relative", "directory isn't told", nil, []*fdinfo.FileEntry{outsider(2, 20, "x")}},
		{"long", "more than 108", nil, []*fdinfo.FileEntry{outsider(2, 20, strings.Repeat("x", 109))}},
		{"peers of peers", "isn't to it", nil, []*fdinfo.FileEntry{stream, entry(2, 20, 30), outsider(3, 30, "")}},
	}
	tests[2].entries[0].Usk.State = proto.Uint32(closed)
	for _, tt := range tests {
		if _, err := planAll(tt.in, tt.entries...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
	// One without a name is as good as closed.
	got, err := planAll(images{image.SkQueues: {packet(1, "x")}}, stream, outsider(2, 20, ""))
	if want := "unix SOCK_STREAM, its peer is closed, 1 bytes in 1 messages"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}
