package standin

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
)

// pipe is one that was made with the contents of another one, of which only messages
// have ends.
type pipe struct {
	writer                       *fd.FD
	given                        [2]bool // the end that was made is a stand-in: for reading, for writing
	readers, writers             uint32  // ends that stand-ins were made of
	wantedReaders, wantedWriters uint32
}

// packet is PIPE_BUF_FLAG_PACKET of include/linux/pipe_fs_i.h: what was written with
// O_DIRECT is read as one.
const packet = 0x08

// mostPiece is as many bytes as are read of one buffer of a pipe. Writers fill a page at a
// time; splice(2) may bring more, of a large page.
const mostPiece = 1 << 20

// mostSlots is more than a pipe ever has: one of 1 GiB.
const mostSlots = 1 << 18

func pipeNames() []string {
	return []string{
		"pipe_inode_info", "pipe_inode_info.head", "pipe_inode_info.tail", "pipe_inode_info.max_usage", "pipe_inode_info.ring_size",
		"pipe_inode_info.readers", "pipe_inode_info.writers", "pipe_inode_info.bufs",
		"pipe_buffer", "pipe_buffer.page", "pipe_buffer.offset", "pipe_buffer.len", "pipe_buffer.flags",
	}
}

func examplePipe() (int, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	return p[0], unix.Close(p[1])
}

// pipeEnd makes an end of a pipe that is like another one.
func pipeEnd(k *Maker, x *sockmem.Lone) (*fd.FD, error) {
	at, err := k.memory.Private(x.At)
	if err != nil {
		return nil, err
	}
	info, err := k.memory.Struct("pipe_inode_info", at)
	if err != nil {
		return nil, err
	}
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	p := &pipe{writer: fd.New(ends[1]), wantedReaders: info.U32("pipe_inode_info.readers"), wantedWriters: info.U32("pipe_inode_info.writers")}
	o := &original{file: fd.New(ends[0]), made: true, pipe: p}
	k.same[x.Inode] = o // who closes it
	size := int(info.U32("pipe_inode_info.max_usage")) * unix.Getpagesize()
	if _, err := unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, size); err != nil {
		return nil, fmt.Errorf("let a pipe hold %d bytes: %w", size, err)
	}
	if err := errors.Join(unix.Fchmod(ends[0], x.Mode&0o7777), unix.Fchown(ends[0], int(x.UID), int(x.GID))); err != nil {
		return nil, fmt.Errorf("give a pipe its owner and mode: %w", err)
	}
	if err := k.fillPipe(info, ends[1]); err != nil {
		return nil, err
	}
	return o.again(x)
}

// fillPipe writes into a pipe what is in another one.
func (k *Maker) fillPipe(info *kmem.Struct, to int) error {
	m := k.memory
	head, tail, slots := info.U32("pipe_inode_info.head"), info.U32("pipe_inode_info.tail"), info.U32("pipe_inode_info.ring_size")
	if slots == 0 || slots&(slots-1) != 0 || slots > mostSlots || head-tail > slots {
		return unlike("the kernel's memory of it has changed while it was read")
	}
	for ; tail != head; tail++ {
		b, err := m.Struct("pipe_buffer", info.Pointer("pipe_inode_info.bufs")+kmem.Addr(tail&(slots-1))*m.Off("pipe_buffer"))
		if err != nil {
			return err
		}
		size := b.U32("pipe_buffer.len")
		if size > mostPiece {
			return unlike("%d bytes of it are one piece", size)
		}
		data := make([]byte, size)
		at, err := m.Page(b.Pointer("pipe_buffer.page"))
		if err == nil {
			err = m.ReadAt(data, at+kmem.Addr(b.U32("pipe_buffer.offset")))
		}
		if err != nil {
			return err
		}
		if err := writePiece(to, data, b.U32("pipe_buffer.flags")&packet != 0); err != nil {
			return err
		}
	}
	return nil
}

// writePiece writes a piece into a pipe that has room.
func writePiece(to int, data []byte, whole bool) error {
	if len(data) == 0 {
		return nil
	}
	flags := unix.O_NONBLOCK
	if whole {
		flags |= unix.O_DIRECT
	}
	if _, err := unix.FcntlInt(uintptr(to), unix.F_SETFL, flags); err != nil {
		return fmt.Errorf("set flags of a pipe: %w", err)
	}
	if n, err := unix.Write(to, data); err != nil || n != len(data) {
		return fmt.Errorf("write %d bytes into a pipe: %d were: %w", len(data), n, err)
	}
	return nil
}

// count counts an end that x is.
func (p *pipe) count(x *sockmem.Lone) {
	access := x.Flags & unix.O_ACCMODE
	if access != unix.O_WRONLY {
		p.readers++
	}
	if access != unix.O_RDONLY {
		p.writers++
	}
}

// first returns the end itself that was made, unless it was given out or x was opened
// later; nil then.
func (p *pipe) first(o *original, x *sockmem.Lone) (*fd.FD, error) {
	own, i := o.file, 0
	if x.Flags&unix.O_ACCMODE == unix.O_WRONLY {
		own, i = p.writer, 1
	}
	if x.Flags&alike != 0 || p.given[i] {
		return nil, nil
	}
	p.given[i] = true
	n, err := unix.FcntlInt(uintptr(own.Int()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate the end of a pipe: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(n), unix.F_SETFL, int(x.Flags)); err != nil {
		return nil, errors.Join(fmt.Errorf("set flags of a pipe: %w", err), unix.Close(n))
	}
	return fd.New(n), nil
}

// complete makes sure that messages have all ends.
func (p *pipe) complete() error {
	if p.readers != p.wantedReaders || p.writers != p.wantedWriters {
		return unlike("a pipe is open %d times for reading and %d times for writing, and messages have %d and %d of that: an end is held outside of the tree", p.wantedReaders, p.wantedWriters, p.readers, p.writers)
	}
	return nil
}
