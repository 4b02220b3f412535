package kinds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// carried are the families that test/targets/families.c has sockets of.
var carried = []int{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK, unix.AF_PACKET, unix.AF_VSOCK, unix.AF_XDP}

// A socket of any family that the kernel can make is carried over, which a round trip
// shows, or refused by name: a family that a newer kernel adds is a failing line.
func TestEveryFamily(t *testing.T) {
	const families, types = 64, 10
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	self := &scan.Task{PID: proc.PID(os.Getpid()), Pidfd: fd.New(pidfd)}
	defer self.Pidfd.Close()
	for family := range families {
		for typ := range types {
			for protocol := range 8 {
				n, err := unix.Socket(family, (typ+1)|unix.SOCK_CLOEXEC, protocol)
				if err == nil {
					look(t, self, family, n)
					unix.Close(n)
				}
			}
		}
	}
}

func look(t *testing.T, self *scan.Task, family, n int) {
	t.Helper()
	f := &scan.File{Task: self, FD: int32(n), Link: "socket:[1]"}
	if err := f.Stat.At(n, ""); err != nil {
		t.Fatal(err)
	}
	all := New().Files
	k := all[slices.IndexFunc(all, func(k kind.File) bool { return k.Match(f) })]
	name := socket.FamilyName(int(f.Family))
	switch {
	case name == fmt.Sprintf("address family %d", f.Family):
		t.Errorf("address family %d has no name: is it carried over?", family)
	case k.Type() != fdinfo.FdTypes_UND && !slices.Contains(carried, int(f.Family)):
		t.Errorf("%s: %v takes it, and no round trip shows that", name, k.Type())
	case k.Type() == fdinfo.FdTypes_UND && slices.Contains(carried, int(f.Family)):
		t.Errorf("%s: nothing takes it", name)
	case k.Type() == fdinfo.FdTypes_UND:
		if _, err := k.Dump(context.Background(), nil, f); !errors.Is(err, kind.ErrUnsupported) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: it is not refused by name: %v", name, err)
		}
	}
}

// Families that this kernel may not have are left to the kind that refuses, by names.
func TestOtherFamilies(t *testing.T) {
	n, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(n)
	for family := 1; family < unix.AF_MAX; family++ {
		if slices.Contains(carried, family) {
			continue
		}
		f := &scan.File{FD: int32(n), Link: "socket:[1]", Family: int32(family)}
		if err := f.Stat.At(n, ""); err != nil {
			t.Fatal(err)
		}
		all := New().Files
		if k := all[slices.IndexFunc(all, func(k kind.File) bool { return k.Match(f) })]; k.Type() != fdinfo.FdTypes_UND {
			t.Errorf("%s: %v takes it", socket.FamilyName(family), k.Type())
		}
	}
	for _, family := range []int{unix.AF_ALG, unix.AF_CAN, unix.AF_BLUETOOTH, unix.AF_TIPC, unix.AF_SMC, unix.AF_RDS, unix.AF_KCM, unix.AF_QIPCRTR, unix.AF_KEY, unix.AF_PPPOX} {
		if name := socket.FamilyName(family); !strings.HasPrefix(name, "AF_") {
			t.Errorf("family %d has no name but %q", family, name)
		}
	}
}
