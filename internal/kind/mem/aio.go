package mem

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/mm"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/proc"
)

// A ring of asynchronous I/O (io_setup(2)) is memory that the kernel writes
// events into, and something in the kernel that counts them. Its address is its
// name: whoever has the memory by fork(2) has no ring.

func isRing(v *proc.VMA) bool { return strings.HasPrefix(v.Name, "/[aio]") && v.Deleted }

// ring describes a mapping that is one.
func (s *Space) ring(a *area) {
	a.status = statusAIORing
	s.Entry.Aios = append(s.Entry.Aios, &mm.AioRingEntry{Id: proto.Uint64(a.Start), NrReq: proto.Uint32(ringRequests(a.Len())), RingLen: proto.Uint32(uint32(a.Len()))})
}

// ringEvents is how many events a ring of so many bytes has room for.
func ringEvents(size uint64) uint32 {
	return uint32((size - linux.AIORingHeader) / linux.AIOEventSize)
}

// ringRequests is what io_setup(2) has to be asked for to make a ring of that
// size: the kernel doubles it and adds 2.
func ringRequests(size uint64) uint32 { return (ringEvents(size) - 2) / 2 }

// KernelNames are the members of the kernel's structures that Settle reads.
func KernelNames() []string {
	return []string{
		"task_struct.mm", "?mm_struct.ioctx_table", "?kioctx_table.nr", "?kioctx_table.table", "?kioctx", "?kioctx.user_id", "?kioctx.cpu",
		"?kioctx.nr_events", "?kioctx.reqs_available", "?kioctx.completed_events", "?kioctx_cpu.reqs_available",
	}
}

// patience is how long Settle waits for requests to end: those of a disk take
// milliseconds.
const patience = 200 * time.Millisecond

// Settle makes sure that no request of asynchronous I/O is under way: it would
// write into memory that is being saved, and nobody would learn how it ended.
func Settle(ctx context.Context, m *kmem.Shared, spaces []*Space) error {
	until := time.Now().Add(patience)
	for _, s := range spaces {
		for i := range s.areas {
			if a := &s.areas[i]; a.is(statusAIORing) {
				if err := s.settle(ctx, m, a, until); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *Space) settle(ctx context.Context, m *kmem.Shared, a *area, until time.Time) error {
	what := fmt.Sprintf("%v, %v, a ring of asynchronous I/O (io_setup(2), libaio)", s.task, a)
	for {
		n, err := s.underWay(m, a)
		switch {
		case err != nil:
			return kind.Unsupported(what, "nobody tells whether requests are under way: %v; %s", err, withoutRings)
		case n < 0:
			return kind.Unsupported(what, "it is only memory that a fork(2) left of its parent's ring; let it unmap that (io_destroy before the fork), or %s", withoutRings)
		case n == 0:
			return nil
		case time.Now().After(until):
			return kind.Unsupported(what, "%d of its requests are under way (IOCB_CMD_POLL, or a slow disk); try again when they are done, or %s", n, withoutRings)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

const withoutRings = "start the program without (mysqld: innodb_use_native_aio=0, qemu: aio=threads, nginx: aio off)"

// mostRings is more rings than a process has.
const mostRings = 1 << 16

// underWay returns how many requests of a ring have not ended, -1 if it is none.
func (s *Space) underWay(m *kmem.Shared, a *area) (int, error) {
	r, err := m.Reader()
	if err != nil {
		return 0, err
	}
	if !r.Has("mm_struct.ioctx_table") || !r.Has("kioctx") || !r.Has("kioctx_cpu.reqs_available") {
		return 0, fmt.Errorf("%w: the kernel's rings look otherwise", kmem.ErrUnavailable)
	}
	at, err := r.Task(s.task.Pidfd.Int())
	for _, f := range []string{"task_struct.mm", "mm_struct.ioctx_table"} {
		if err == nil {
			at, err = r.Pointer(at + r.Off(f))
		}
	}
	if err != nil || at == 0 {
		return -1, err
	}
	table, err := r.Struct("kioctx_table.table", at) // up to the table
	if err != nil {
		return 0, err
	}
	n := table.U32("kioctx_table.nr")
	for i := range min(n, mostRings) {
		p, err := r.Pointer(at + r.Off("kioctx_table.table") + kmem.Addr(8*i))
		if err != nil {
			return 0, err
		}
		if p == 0 {
			continue
		}
		x, err := r.Struct("kioctx", p)
		if err != nil {
			return 0, err
		}
		if uint64(x.Pointer("kioctx.user_id")) == a.Start {
			return inFlight(r, x)
		}
	}
	return -1, nil
}

// inFlight counts what a ring has room for: the rest is under way.
func inFlight(r *kmem.Reader, x *kmem.Struct) (int, error) {
	cpus, err := r.PerCPU(x.Pointer("kioctx.cpu") + r.Off("kioctx_cpu.reqs_available"))
	if err != nil {
		return 0, err
	}
	free := int(x.U32("kioctx.reqs_available")) + int(x.U32("kioctx.completed_events"))
	for _, at := range cpus {
		var b [4]byte
		if err := r.ReadAt(b[:], at); err != nil {
			return 0, err
		}
		free += int(le.Uint32(b[:]))
	}
	n := int(x.U32("kioctx.nr_events")) - 1 - free
	if n < 0 {
		return 0, fmt.Errorf("%w: it has room for %d more events than there are", kmem.ErrUnavailable, -n)
	}
	return n, nil
}

// mostRing is the largest ring that an image may have, in bytes: more than
// fs.aio-max-nr allows by far.
const mostRing = 64 << 20

// checkRings makes sure that the rings of an image are those that its mappings
// say.
func (s *Space) checkRings() error {
	n := 0
	for i := range s.areas {
		a := &s.areas[i]
		if !a.is(statusAIORing) {
			continue
		}
		n++
		known := slices.ContainsFunc(s.Entry.Aios, func(e *mm.AioRingEntry) bool {
			return e.GetId() == a.Start && uint64(e.GetRingLen()) == a.Len() && e.GetNrReq() == ringRequests(a.Len())
		})
		if !known || a.Len() > mostRing || a.prot != unix.PROT_READ|unix.PROT_WRITE {
			return fmt.Errorf("%v: it can't be a ring of asynchronous I/O", a)
		}
	}
	if n != len(s.Entry.Aios) {
		return fmt.Errorf("%d rings of asynchronous I/O, but memory of %d", len(s.Entry.Aios), n)
	}
	return nil
}
