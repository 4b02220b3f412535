package sockmem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// pageMap is where the kernel has the memory that a struct page is about.
type pageMap struct {
	pages  uint64 // address of the first struct page
	memory uint64 // address of the first page
}

const (
	region   = 1 << 30 // what both begin at a multiple of (PUD_SIZE)
	pageSize = 4096
)

// address returns the address of a page.
func (m *Memory) address(page uint64) (uint64, error) {
	if m.pages == nil {
		if err := m.learnPages(); err != nil {
			return 0, err
		}
	}
	return m.pages.address(page, m.types.structs["page"].size), nil
}

func (p *pageMap) address(page uint64, size int) uint64 {
	return p.memory + (page-p.pages)/uint64(size)*pageSize
}

// learnPages finds out where pages are, which is another place at every boot:
// it sends something nobody else has, and tries where all of it can be. Reading
// where nothing is does no harm.
func (m *Memory) learnPages() error {
	if m.types.structs["page"].size == 0 {
		return fmt.Errorf("%w: no struct page", ErrUnavailable)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket to learn from: %w", err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	data := make([]byte, 24*pageSize)
	if err := linux.Random(data); err != nil {
		return err
	}
	if err := unix.Sendmsg(pair[0], data, nil, nil, unix.MSG_DONTWAIT); err != nil {
		return fmt.Errorf("send something to learn from: %w", err)
	}
	sk, page, near, err := m.sample(pair[1])
	if err != nil {
		return err
	}
	return m.search(page, near, func() bool {
		all, err := m.queue(sk, 0)
		rest := data
		for i := range all {
			if !bytes.HasPrefix(rest, all[i].Data) {
				return false
			}
			rest = rest[len(all[i].Data):]
		}
		return err == nil && len(rest) == 0
	})
}

// sample returns a socket of ours, a page that belongs to its first buffer, and
// an address of ordinary memory.
func (m *Memory) sample(fd int) (sk, page, near uint64, err error) {
	self, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(self)
	files, err := m.Files(self)
	if err != nil {
		return 0, 0, 0, err
	}
	if sk, err = m.follow(files[int32(fd)], "file", "private_data", "socket", "sk"); err != nil {
		return 0, 0, 0, err
	}
	all, err := m.list(sk)
	if err != nil || len(all) == 0 {
		return 0, 0, 0, errors.Join(errGone, err)
	}
	if near, err = m.follow(all[0], "sk_buff", "head"); err != nil {
		return 0, 0, 0, err
	}
	end, err := m.one(all[0]+m.offset("sk_buff", "end"), 4)
	if err != nil {
		return 0, 0, 0, err
	}
	name, member := "skb_frag", "netmem"
	if _, ok := m.types.structs[name].at[member]; !ok {
		name, member = "bio_vec", "bv_page"
	}
	first := near + uint64(binary.NativeEndian.Uint32(end)) + m.offset("skb_shared_info", "frags")
	page, err = m.follow(first, name, member)
	return sk, page, near, err
}

// search tries all places that pages may be mapped at, from the largest on,
// until all that was sent is read there.
func (m *Memory) search(page, near uint64, right func() bool) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return fmt.Errorf("sysinfo: %w", err)
	}
	// Physical memory has holes, below 4 GiB at least.
	most := 2*info.Totalram*uint64(info.Unit)/region + 8
	size := m.types.structs["page"].size
	for j := range most*uint64(size)/pageSize + 2 {
		for k := range most {
			p := pageMap{page&^(region-1) - j*region, near&^(region-1) - k*region}
			got, err := m.tryAll(Piece{p.address(page, size), 8})
			if err != nil {
				return err
			}
			if got[0] == nil {
				continue
			}
			if m.pages = &p; right() {
				return nil
			}
			m.pages = nil
		}
	}
	return fmt.Errorf("%w: where its pages are isn't known", ErrUnavailable)
}
