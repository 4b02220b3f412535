package linux

// From include/uapi/linux/fs.h, Linux 6.7; see
// Documentation/admin-guide/mm/pagemap.rst.
const (
	PAGE_IS_WPALLOWED = 1 << 0
	PAGE_IS_WRITTEN   = 1 << 1
	PAGE_IS_FILE      = 1 << 2
	PAGE_IS_PRESENT   = 1 << 3
	PAGE_IS_SWAPPED   = 1 << 4
	PAGE_IS_PFNZERO   = 1 << 5
	PAGE_IS_HUGE      = 1 << 6
	PAGE_IS_SOFTDIRTY = 1 << 7
	PAGE_IS_GUARD     = 1 << 8 // Linux 6.15

	PAGEMAP_SCAN = 0xC0606610
)

// PmScanArg is struct pm_scan_arg.
type PmScanArg struct {
	Size, Flags, Start, End, WalkEnd, Vec, VecLen, MaxPages       uint64
	CategoryInverted, CategoryMask, CategoryAnyofMask, ReturnMask uint64
}

// PageRegion is struct page_region: [Start,End) in bytes.
type PageRegion struct{ Start, End, Categories uint64 }

// Bits of a /proc/PID/pagemap word (fs/proc/task_mmu.c).
const (
	PM_PFN_MASK = 1<<55 - 1
	PM_FILE     = 1 << 61
	PM_SWAP     = 1 << 62
	PM_PRESENT  = 1 << 63
)
