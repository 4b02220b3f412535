package kmem

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/linux"
)

// The kernel keeps queued data by struct page. Where the memory of a page is
// follows from two addresses that differ from boot to boot and are told nowhere:
// where the structures begin, and where all of memory is mapped. Both are found
// with a page of our own: its structure by a pipe that it is put into, and its
// memory by what is written in it.
type pages struct {
	structs Addr // of page 0
	memory  Addr // of page 0
	size    Addr // of a structure
}

const (
	pageShift = 12
	pageSize  = 1 << pageShift
	// The map of all memory begins at a multiple of this (PUD_SIZE).
	mapAlign = 1 << 30
	// mostMemory is how far an address may be from the beginning of the map.
	mostMemory = 16 << 40
)

// Page returns where the memory of a page is.
func (r *Reader) Page(page Addr) (Addr, error) {
	if r.pages == nil {
		p, err := r.learnPages()
		if err != nil {
			return 0, fmt.Errorf("%w: find out where pages are: %w", ErrUnavailable, err)
		}
		r.pages = p
	}
	p := r.pages
	n := (page - p.structs) / p.size
	if page < p.structs || p.structs+n*p.size != page || n > mostMemory>>pageShift {
		return 0, fmt.Errorf("%w: %#x is no page", ErrUnavailable, uint64(page))
	}
	return p.memory + n<<pageShift, nil
}

func (r *Reader) learnPages() (*pages, error) {
	own, err := unix.Mmap(-1, 0, pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	defer unix.Munmap(own) //nolint:errcheck // it is gone with us
	if err := linux.Random(own[:64]); err != nil {
		return nil, err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	iov := unix.Iovec{Base: &own[0]}
	iov.SetLen(pageSize)
	if _, err := unix.Vmsplice(pipe[1], []unix.Iovec{iov}, 0); err != nil {
		return nil, err
	}
	number, err := frame(own)
	if err != nil {
		return nil, err
	}
	file, err := r.File(pipe[1])
	if err != nil {
		return nil, err
	}
	return r.locate(file, number, own)
}

// locate finds a page of this number, with these contents, in the pipe behind a
// file.
func (r *Reader) locate(file Addr, number uint64, contents []byte) (*pages, error) {
	info, err := r.Private(file)
	if err != nil {
		return nil, err
	}
	bufs, err := r.Pointer(info + r.Off("pipe_inode_info.bufs"))
	if err != nil {
		return nil, err
	}
	page, err := r.Pointer(bufs + r.Off("pipe_buffer.page"))
	if err != nil {
		return nil, err
	}
	p := &pages{size: r.Off("page")}
	p.structs = page - Addr(number)*p.size
	// The structure of the pipe is in the map of all memory.
	var b [64]byte
	for base := info &^ (mapAlign - 1); info-base < mostMemory; base -= mapAlign {
		at := base + Addr(number)<<pageShift
		if r.ReadAt(b[:], at) == nil && bytes.Equal(b[:], contents[:len(b)]) {
			p.memory = base
			return p, nil
		}
	}
	return nil, errors.New("a page of our own isn't where all memory is mapped")
}

// frame returns the number of the page that memory of this process is on. See
// pagemap(5) in proc(5): it needs CAP_SYS_ADMIN.
func frame(own []byte) (uint64, error) {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	var b [8]byte
	if _, err := f.ReadAt(b[:], int64(addressOf(own)>>pageShift)*8); err != nil {
		return 0, err
	}
	const present, numbers = 1 << 63, 1<<55 - 1
	v := binary.NativeEndian.Uint64(b[:])
	if v&present == 0 || v&numbers == 0 {
		return 0, errors.New("the numbers of pages aren't shown")
	}
	return v & numbers, nil
}
