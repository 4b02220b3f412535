package file

import (
	"bytes"
	"errors"
	"fmt"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/scan"
)

// A memory cgroup of version 1 writes to an eventfd when there is something to tell, if that
// was written to its cgroup.event_control. No file and no call tells it. The kernel wants to
// be woken when nobody has the eventfd any more, so it waits for it like others, and only its
// memory tells this one: what waits is a part of a structure that has the eventfd besides.

// eventNames are the members of the kernel's structures that tell it.
var eventNames = []string{
	"?eventfd_ctx", "?eventfd_ctx.wqh", "?wait_queue_head", "?wait_queue_head.head", "?wait_queue_entry", "?wait_queue_entry.entry",
	"?mem_cgroup_event", "?mem_cgroup_event.eventfd", "?mem_cgroup_event.wqh", "?mem_cgroup_event.wait",
}

// cgroupsWrite tells whether there is a hierarchy of cgroups of version 1 for memory, see
// cgroups(7); they are in /proc/PID/cgroup of every process.
func cgroupsWrite() bool {
	b, err := fd.ReadFile("/proc/self/cgroup")
	for line := range bytes.Lines(b) {
		part := bytes.SplitN(line, []byte{':'}, 3)
		for controller := range bytes.SplitSeq(part[min(1, len(part)-1)], []byte{','}) {
			if string(controller) == "memory" {
				return true
			}
		}
	}
	return err != nil
}

// notWritten refuses an eventfd that a cgroup writes to.
func (k *Eventfd) notWritten(f *scan.File, d *fd.FD) error {
	if k.memory == nil || !k.v1() {
		return nil
	}
	r, err := k.memory.Reader()
	if err != nil {
		return nil //nolint:nilerr // see docs/limits.md
	}
	for _, n := range eventNames {
		if !r.Has(n[1:]) {
			return nil // this kernel has no such cgroups
		}
	}
	written, err := writtenByCgroup(r, d)
	if err != nil {
		return fmt.Errorf("%v: does a cgroup write to it? %w", f, err)
	}
	if written {
		return kind.Unsupported(f, "a cgroup of version 1 writes to it (cgroup.event_control), and nobody tells of what; let the program close it")
	}
	return nil
}

// Who waits may come and go while they are looked at, of those outside of the tree. mostWaiting
// is more than there are.
const (
	mostLooks   = 8
	mostWaiting = 1 << 16
)

// writtenByCgroup tells whether a cgroup is among those who wait for an eventfd.
func writtenByCgroup(r *kmem.Reader, d *fd.FD) (found bool, err error) {
	at, err := r.PrivateOf(d.Int())
	if err != nil {
		return false, err
	}
	for range mostLooks {
		if found, err = waitsCgroup(r, at); err == nil {
			return found, nil
		}
	}
	return false, err
}

func waitsCgroup(r *kmem.Reader, eventfd kmem.Addr) (bool, error) {
	queue := eventfd + r.Off("eventfd_ctx.wqh")
	head := queue + r.Off("wait_queue_head.head")
	node, err := r.Pointer(head)
	for n := 0; err == nil && node != head; n++ {
		if n == mostWaiting {
			return false, errors.New("more wait for it than can be")
		}
		// Of others there is something else in front, or nothing that can be read.
		event := node - r.Off("wait_queue_entry.entry") - r.Off("mem_cgroup_event.wait")
		its, ofOther := r.Pointer(event + r.Off("mem_cgroup_event.eventfd"))
		if its == eventfd && ofOther == nil {
			if its, err = r.Pointer(event + r.Off("mem_cgroup_event.wqh")); its == queue || err != nil {
				return its == queue, err
			}
		}
		node, err = r.Pointer(node)
	}
	return false, err
}
