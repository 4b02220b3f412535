package feature

import (
	"context"
	"runtime"

	"golang.org/x/sys/unix"
)

// From arch/x86/include/uapi/asm/prctl.h.
const (
	sysArchPrctl  = 158 // on amd64, where x/sys has a name for it
	archMapVdso32 = 0x2002
	archMapVdso64 = 0x2003
)

func mapVdso32(context.Context) error { return mapVdso(archMapVdso32, "ARCH_MAP_VDSO_32") }
func mapVdso64(context.Context) error { return mapVdso(archMapVdso64, "ARCH_MAP_VDSO_64") }

// mapVdso asks for a second vdso. The kernel refuses that with EEXIST, but
// only if it knows the request.
func mapVdso(request uintptr, name string) error {
	if runtime.GOARCH != "amd64" {
		return lack(nil, "arch_prctl(%s) is of x86", name)
	}
	_, _, e := unix.RawSyscall(sysArchPrctl, request, 0, 0)
	if e == 0 || e == unix.EEXIST {
		return nil
	}
	return conclude(e, "arch_prctl("+name+")")
}
