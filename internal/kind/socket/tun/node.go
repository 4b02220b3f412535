package tun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/criu/tun"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/file"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/plan"
)

// node is a descriptor of /dev/net/tun in a restore.
type node struct {
	kind  *Kind
	id    plan.ID
	entry *tun.TunfileEntry
	more  *extra.TunFile
	owner file.Owner
}

// Plan implements kind.File.
func (k *Kind) Plan(p *plan.Plan, e *fdinfo.FileEntry) error {
	if k.extras == nil {
		var err error
		if k.extras, err = socket.ReadExtras(p.Source); err != nil {
			return err
		}
	}
	n, err := k.node(e)
	if err != nil {
		return fmt.Errorf("files.img: file %#x: /dev/net/tun: %w", e.GetId(), err)
	}
	if name := n.entry.GetNetdev(); name != "" {
		if len(k.queues[name]) == mostQueues {
			return fmt.Errorf("files.img: file %#x: /dev/net/tun: interface %q can't have more than %d queues", e.GetId(), name, mostQueues)
		}
		k.queues[name] = append(k.queues[name], n)
	}
	return p.Add(n)
}

// mostQueues is MAX_TAP_QUEUES of include/linux/if_tap.h.
const mostQueues = 256

func (k *Kind) node(e *fdinfo.FileEntry) (*node, error) {
	n := &node{kind: k, id: plan.ID(e.GetId()), entry: e.GetTunf(), more: k.extras[e.GetId()].GetTun()}
	name, flags := n.entry.GetNetdev(), n.more.GetInterface()
	switch {
	case n.entry == nil || n.entry.GetId() != e.GetId():
		return nil, errors.New("its entry is missing")
	case n.more == nil:
		return nil, fmt.Errorf("%w: its interface is in a network namespace that criu has saved along", kind.ErrUnsupported)
	case !filepath.IsAbs(n.more.GetPath()):
		return nil, fmt.Errorf("a path %q can't be", n.more.GetPath())
	case len(name) >= unix.IFNAMSIZ || flags&^uint32(features|unix.IFF_TUN|unix.IFF_TAP) != 0:
		return nil, fmt.Errorf("an interface %q with flags %#x can't be", name, flags)
	case (name == "") != (n.more.Interface == nil) || name != "" && (flags&unix.IFF_TUN != 0) == (flags&unix.IFF_TAP != 0):
		return nil, fmt.Errorf("an interface %q that is neither tun nor tap can't be", name)
	case n.more.GetIndex() >= mostQueues:
		return nil, fmt.Errorf("a queue %d can't be", n.more.GetIndex())
	}
	own := &fown.FownEntry{}
	if err := proto.Unmarshal(n.more.GetOwner(), own); err != nil {
		return nil, fmt.Errorf("its owner: %w", err)
	}
	var err error
	n.owner, err = file.PlanOwner(own)
	return n, err
}

// FileFlags implements plan.Async.
func (n *node) FileFlags() uint32 { return n.more.GetFlags() }

// ID implements plan.Node.
func (n *node) ID() plan.ID { return n.id }

// Needs implements plan.Node: queues get their numbers in the order in which they
// are attached, and one that is detached gives its own up.
func (n *node) Needs() []plan.ID {
	var ids []plan.ID
	for _, o := range n.kind.queues[n.entry.GetNetdev()] {
		if o != n && o.before(n) {
			ids = append(ids, o.id)
		}
	}
	return ids
}

func (n *node) before(o *node) bool {
	if n.entry.GetDetached() != o.entry.GetDetached() {
		return o.entry.GetDetached()
	}
	if n.more.GetIndex() != o.more.GetIndex() {
		return n.more.GetIndex() < o.more.GetIndex()
	}
	return n.id < o.id
}

// String implements plan.Node.
func (n *node) String() string {
	if n.entry.GetNetdev() == "" {
		return "/dev/net/tun, attached to nothing"
	}
	return fmt.Sprintf("/dev/net/tun, a queue of interface %q", n.entry.GetNetdev())
}

// Check implements plan.Checked.
func (n *node) Check(*plan.CheckEnv) error {
	if err := isDevice(n.more.GetPath()); err != nil {
		return fmt.Errorf("file %#x, %v: %w", n.id, n, err)
	}
	name := n.entry.GetNetdev()
	if name == "" {
		return nil
	}
	if _, err := net.InterfaceByName(name); err != nil {
		return fmt.Errorf("file %#x: interface %q isn't there (%v): it stays only on the host that it was on, after a dump that ended its program; make it again (ip tuntap add)", n.id, name, err)
	}
	return nil
}

// Create implements plan.Node.
func (n *node) Create(context.Context, *plan.Env) (*fd.FD, error) {
	flags := int(n.more.GetFlags()) &^ (unix.O_CREAT | unix.O_EXCL | unix.O_TRUNC)
	num, err := unix.Open(n.more.GetPath(), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", n.more.GetPath(), err)
	}
	own := fd.New(num)
	var st unix.Stat_t
	err = unix.Fstat(num, &st)
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != device) {
		err = fmt.Errorf("%s is something else by now", n.more.GetPath())
	}
	if err == nil && n.entry.GetNetdev() != "" {
		err = n.attach(num)
	}
	if err == nil {
		err = n.owner.Set(own)
	}
	if err == nil {
		err = socket.SetFlags(own, n.more.GetFlags()&(unix.O_NONBLOCK|unix.O_ASYNC|unix.O_APPEND|unix.O_NOATIME|unix.O_DIRECT))
	}
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return own, nil
}

// attach makes it a queue of its interface.
func (n *node) attach(own int) error {
	ifr, err := unix.NewIfreq(n.entry.GetNetdev())
	if err != nil {
		return err
	}
	ifr.SetUint16(uint16(n.more.GetInterface()))
	if err := unix.IoctlIfreq(own, unix.TUNSETIFF, ifr); err != nil {
		return fmt.Errorf("attach it to interface %q (does another program have it?): %w", n.entry.GetNetdev(), err)
	}
	size, err := unix.IoctlGetInt(own, unix.TUNGETSNDBUF)
	if err == nil && uint32(size) != n.more.GetSendBuffer() {
		err = unix.IoctlSetPointerInt(own, unix.TUNSETSNDBUF, int(n.more.GetSendBuffer()))
	}
	if err != nil {
		return fmt.Errorf("set TUNSETSNDBUF to %d: %w", n.more.GetSendBuffer(), err)
	}
	if !n.entry.GetDetached() {
		return nil
	}
	ifr.SetUint16(unix.IFF_DETACH_QUEUE)
	if err := unix.IoctlIfreq(own, unix.TUNSETQUEUE, ifr); err != nil {
		return fmt.Errorf("detach it (TUNSETQUEUE): %w", err)
	}
	return nil
}

// Resumes implements plan.Resumer.
func (n *node) Resumes() bool { return n.more.GetLends() }

// Resume implements plan.Resumer: the interface goes with its last queue again.
func (n *node) Resume() []linux.SockOpt {
	if !n.Resumes() {
		return nil
	}
	return []linux.SockOpt{persist(0)}
}
