package mem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/remote"
)

var le = binary.LittleEndian

// CheckRings refuses rings of asynchronous I/O that this machine can't make.
func CheckRings(spaces []*Space) error {
	var all uint64
	for _, s := range spaces {
		for i := range s.areas {
			a := &s.areas[i]
			if !a.is(statusAIORing) {
				continue
			}
			all += uint64(ringRequests(a.Len()))
			cpus, err := possibleCPUs()
			if err != nil {
				return err
			}
			if got := ringSize(ringRequests(a.Len()), cpus); got != a.Len() {
				return fmt.Errorf("task %d, %v: a ring of asynchronous I/O of %d bytes can't come back: this machine may have %d CPUs, for which the kernel makes it %d bytes large (io_setup(2))", s.PID, a, a.Len(), cpus, got)
			}
		}
	}
	if all == 0 {
		return nil
	}
	used, err := number("/proc/sys/fs/aio-nr")
	if err != nil {
		return err
	}
	most, err := number("/proc/sys/fs/aio-max-nr")
	if err == nil && used+all > most {
		err = fmt.Errorf("rings of asynchronous I/O for %d requests can't come back: %d of %d are in use (fs.aio-max-nr); raise that", all, used, most)
	}
	return err
}

// ringSize is how large a ring the kernel makes, see ioctx_alloc and
// aio_setup_ring in fs/aio.c.
func ringSize(requests uint32, cpus int) uint64 {
	events := uint64(max(int(requests), 4*cpus))*2 + 2
	return (linux.AIORingHeader + events*linux.AIOEventSize + page - 1) &^ (page - 1)
}

// possibleCPUs is how many CPUs the machine may come to have.
func possibleCPUs() (int, error) {
	text, err := fd.ReadFile("/sys/devices/system/cpu/possible")
	if err != nil {
		return 0, err
	}
	s := strings.TrimSpace(string(text)) // "0", "0-3"
	n, err := strconv.Atoi(s[strings.LastIndexAny(s, "-,")+1:])
	return n + 1, err
}

func number(path string) (uint64, error) {
	text, err := fd.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// HasRings tells whether there are rings of asynchronous I/O.
func (s *Space) HasRings() bool { return len(s.Entry.Aios) > 0 }

// ringMaker makes a task's rings, once all other memory is there.
type ringMaker struct {
	space *Space
	pid   proc.PID
	batch func() *remote.Batch
	null  int32 // what /dev/null will be in the task
}

// MakeRings makes the rings of asynchronous I/O, with events that nobody has
// taken. batch begins a batch in the task, after the last one; null is the number
// that the next descriptor in it gets.
func (s *Space) MakeRings(pid proc.PID, null int32, batch func() *remote.Batch) error {
	m := &ringMaker{space: s, pid: pid, batch: batch, null: null}
	b := batch()
	fd := b.Call("openat(/dev/null)", unix.SYS_OPENAT, number64(unix.AT_FDCWD), uint64(b.String("/dev/null")), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	rings := m.hold(b)
	if err := b.Run(); err != nil {
		return err
	}
	if got, err := fd.Result(); err != nil || got != int64(null) {
		return errors.Join(fmt.Errorf("/dev/null is descriptor %d, not %d", got, null), err)
	}
	for _, a := range rings {
		if err := m.make(a); err != nil {
			return fmt.Errorf("%v, a ring of asynchronous I/O: %w", a, err)
		}
	}
	b = batch()
	b.Call("close", unix.SYS_CLOSE, uint64(null))
	return b.Run()
}

// number64 is a descriptor number as an argument.
func number64(n int) uint64 { return uint64(int64(n)) }

// hold queues what keeps the places of the rings free, which it returns.
func (m *ringMaker) hold(b *remote.Batch) (rings []*area) {
	for i := range m.space.areas {
		if a := &m.space.areas[i]; a.is(statusAIORing) {
			rings = append(rings, a)
			b.Call("mmap", unix.SYS_MMAP, a.Start, a.Len(), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED_NOREPLACE, number64(-1), 0)
		}
	}
	return rings
}

// make makes one ring. The kernel counts events by itself, so as many requests
// are made, of writing to /dev/null, as bring it to where it was.
func (m *ringMaker) make(a *area) error {
	content, err := m.space.ringContent(a)
	if err != nil {
		return err
	}
	head, tail := le.Uint32(content[linux.AIORingHead:]), le.Uint32(content[linux.AIORingTail:])
	b := m.batch()
	to, _ := b.Alloc(8)
	b.Call("io_setup", unix.SYS_IO_SETUP, uint64(ringRequests(a.Len())), uint64(to))
	if err := b.Run(); err != nil {
		return err
	}
	out, err := b.Output(to, 8)
	if err != nil {
		return err
	}
	ctx := le.Uint64(out)
	if err := m.turn(ctx, ringEvents(a.Len()), head, tail); err != nil {
		return err
	}
	b = m.batch()
	b.Call("mremap", unix.SYS_MREMAP, ctx, a.Len(), a.Len(), unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, a.Start)
	if err := b.Run(); err != nil {
		return err
	}
	return m.fill(a, content)
}

// turn has events come, and be taken, until a ring stands at head and tail.
func (m *ringMaker) turn(ctx uint64, events, head, tail uint32) error {
	all, take := int64(tail), int64(head)
	if head > tail {
		all += int64(events)
	}
	const most = linux.AIOEventsPerCall
	for all > 0 || take > 0 {
		b := m.batch()
		n := min(all, most, max(int64(events)/4, 1))
		submit := b.Try("io_submit", unix.SYS_IO_SUBMIT, ctx, uint64(n), uint64(m.requests(b, int(n))))
		buf, _ := b.Alloc(most * linux.AIOEventSize)
		get := b.Try("io_getevents", unix.SYS_IO_GETEVENTS, ctx, 0, uint64(min(take, most)), uint64(buf), uint64(b.U64(0, 0)))
		if err := b.Run(); err != nil {
			return err
		}
		came, err1 := submit.Result()
		gone, err2 := get.Result()
		if n == 0 {
			came, err1 = 0, nil
		}
		if take == 0 {
			gone, err2 = 0, nil
		}
		if err2 != nil || came+gone <= 0 {
			return fmt.Errorf("bring it to event %d of %d: %w", tail, events, errors.Join(err1, err2))
		}
		all, take = all-max(came, 0), take-gone
	}
	return nil
}

// requests puts a request down, and n pointers to it.
func (m *ringMaker) requests(b *remote.Batch, n int) remote.Addr {
	text := b.String(" ")
	r, buf := b.Alloc(linux.AIOIocbSize)
	le.PutUint16(buf[linux.AIOIocbOpcode:], linux.IOCB_CMD_PWRITE)
	le.PutUint32(buf[linux.AIOIocbFildes:], uint32(m.null))
	le.PutUint64(buf[linux.AIOIocbBuf:], uint64(text))
	le.PutUint64(buf[linux.AIOIocbBytes:], 1)
	all := make([]uint64, max(n, 1))
	for i := range all {
		all[i] = uint64(r)
	}
	return b.U64(all...)
}

// fill gives a ring the events that it had, and compares the rest. The first word
// is the kernel's own number of it.
func (m *ringMaker) fill(a *area, content []byte) error {
	var now [linux.AIORingHeader]byte
	if err := remote.ReadFull(m.pid, remote.Addr(a.Start), now[:]); err != nil {
		return err
	}
	if string(now[4:]) != string(content[4:linux.AIORingHeader]) {
		return fmt.Errorf("it is another one than before: % x, not % x", now[4:], content[4:linux.AIORingHeader])
	}
	return remote.Write(m.pid, remote.Addr(a.Start+linux.AIORingHeader), content[linux.AIORingHeader:])
}

// ringContent reads what a ring held, and checks its header.
func (s *Space) ringContent(a *area) ([]byte, error) {
	own, err := openContents(s.store, s.PID)
	if err != nil {
		return nil, err
	}
	defer own.close()
	out := make([]byte, a.Len())
	next := a.Start
	for _, p := range own.cut([]pages.Span{a.Span}) {
		if p.Start != next {
			break
		}
		if _, err := p.From.ReadAt(out[p.Start-a.Start:p.End-a.Start], p.Offset); err != nil {
			return nil, err
		}
		next = p.End
	}
	events := ringEvents(a.Len())
	switch {
	case next != a.End:
		return nil, errors.New("its contents are not in the images")
	case le.Uint32(out[linux.AIORingMagic:]) != linux.AIO_RING_MAGIC || le.Uint32(out[linux.AIORingNr:]) != events:
		return nil, errors.New("it has no header")
	case le.Uint32(out[linux.AIORingHead:]) >= events || le.Uint32(out[linux.AIORingTail:]) >= events:
		return nil, fmt.Errorf("it stands at events %d and %d of %d", le.Uint32(out[linux.AIORingHead:]), le.Uint32(out[linux.AIORingTail:]), events)
	}
	return out, nil
}
