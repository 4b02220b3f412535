package socket

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/testkit"
)

func scanned(t *testing.T, n int) *scan.File {
	t.Helper()
	p, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	d := fd.New(p)
	t.Cleanup(func() { d.Close() })
	task := &scan.Task{PID: proc.PID(os.Getpid()), Pidfd: d, Stat: proc.Stat{Comm: "test"}}
	f := &scan.File{Task: task, FD: int32(n)}
	if err := f.Stat.At(n, ""); err != nil {
		t.Fatal(err)
	}
	f.Link = fmt.Sprintf("socket:[%d]", f.Stat.Ino)
	return f
}

func TestOthersRefuse(t *testing.T) {
	tests := []struct {
		name                string
		family, typ, number int
		prepare             func(int) error
		sort                fdinfo.FdTypes
		want                []string
	}{
		{"vsock", unix.AF_VSOCK, unix.SOCK_STREAM, 0, nil, fdinfo.FdTypes_UND, []string{"AF_VSOCK"}},
		{"alg", unix.AF_ALG, unix.SOCK_SEQPACKET, 0, nil, fdinfo.FdTypes_UND, []string{"AF_ALG SOCK_SEQPACKET"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := unix.Socket(tt.family, tt.typ|unix.SOCK_CLOEXEC, tt.number)
			testkit.Lacks(t, tt.name, err, unix.EAFNOSUPPORT)
			defer unix.Close(n)
			if tt.prepare != nil {
				if err := tt.prepare(n); err != nil {
					t.Fatal(err)
				}
			}
			f := scanned(t, n)
			for _, k := range Others() {
				if !k.Match(f) {
					continue
				}
				if k.Type() != tt.sort {
					t.Errorf("type %v, want %v", k.Type(), tt.sort)
				}
				_, err := k.Dump(context.Background(), nil, f)
				checkRefusal(t, err, append(tt.want, "descriptor", "close it")...)
				return
			}
			t.Error("no kind took it")
		})
	}
}

// That a family can't be told is said, and not that it isn't supported.
func TestFamilyUnknown(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	f := scanned(t, int(null.Fd()))
	f.Stat.Mode = unix.S_IFSOCK
	if IsFamily(f, unix.AF_UNIX) || IsFamily(f, unix.AF_INET) {
		t.Error("it is none")
	}
	k := Others()[0]
	if !k.Match(f) {
		t.Fatal("the last kind doesn't take it")
	}
	if _, err := k.Dump(context.Background(), nil, f); !errors.Is(err, unix.ENOTSOCK) || errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), "descriptor") {
		t.Errorf("got %v", err)
	}
}

func checkRefusal(t *testing.T, err error, want ...string) {
	t.Helper()
	if !errors.Is(err, kind.ErrUnsupported) {
		t.Fatalf("not refused: %v", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q isn't in %q", w, err)
		}
	}
}

func TestOthersRefuseImages(t *testing.T) {
	for _, k := range Others() {
		err := k.Plan(nil, &fdinfo.FileEntry{Id: proto.Uint32(7), Type: k.Type().Enum()})
		checkRefusal(t, err, "0x7", k.Type().String())
	}
}

func TestOthersLeaveUnixAlone(t *testing.T) {
	a, _ := newPair(t)
	for _, k := range Others() {
		if k.Type() != fdinfo.FdTypes_UND && k.Match(scanned(t, a)) {
			t.Errorf("%v took a unix socket", k.Type())
		}
	}
}
