package linux

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Bits of addresses in the kernel that aren't all ones: with page tables of four levels, and
// of five on x86-64. Kernels of arm64 have something between.
const (
	fourLevels = 47
	fiveLevels = 56
)

// KernelAddressBits tells how many low bits of an address in the kernel are not all ones, or
// more. A process gets memory beyond what four levels reach where there are five, if it asks
// for that: Documentation/arch/x86/x86_64/5level-paging.rst.
func KernelAddressBits() (int, error) {
	const beyond, size = 1 << fourLevels, 4096
	at, _, e := unix.Syscall6(unix.SYS_MMAP, beyond, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE, ^uintptr(0), 0)
	if e != 0 {
		return 0, fmt.Errorf("mmap: %w", e)
	}
	if _, _, e := unix.Syscall(unix.SYS_MUNMAP, at, size, 0); e != 0 {
		return 0, fmt.Errorf("munmap: %w", e)
	}
	if at >= beyond {
		return fiveLevels, nil
	}
	return fourLevels, nil
}
