package packet

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	packet_sock "glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/sockdiag"
)

// A ring is memory that the kernel shares with whoever maps the socket, and a
// place in it where the kernel goes on: see place.go, advance.go, and
// Documentation/networking/packet_mmap.rst.

func ringLen(r *sockdiag.PacketRing) int {
	if r == nil {
		return 0
	}
	return int(r.BlockSize) * int(r.BlockNr)
}

// rings saves what is in the rings, and where in them the kernel goes on.
func (k *Kind) rings(p *socket.Plain, known *sockdiag.Packet, version, reserve uint32) error {
	size := ringLen(known.Rx) + ringLen(known.Tx)
	if size == 0 {
		return nil
	}
	if err := mappedWhole(p, size); err != nil {
		return err
	}
	m, err := unix.Mmap(p.FD.Int(), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map its ring: %w", err)
	}
	defer unix.Munmap(m) //nolint:errcheck // nothing was written
	l := &ringLook{Plain: p, known: known, version: version, reserve: reserve, m: m, rx: frames(known.Rx, 0), tx: frames(known.Tx, ringLen(known.Rx))}
	return l.save(k.mem)
}

// mappedWhole refuses mappings of a part of the rings.
func mappedWhole(p *socket.Plain, size int) error {
	for _, t := range p.Env.Tree.Tasks {
		for i := range t.VMAs {
			v := &t.VMAs[i]
			if v.Inode != p.File.Stat.Ino || v.Name != p.File.Link {
				continue
			}
			if v.Offset != 0 || v.End-v.Start != uint64(size) {
				return p.Refuse("%v, memory %v: a part of its ring was unmapped or protected otherwise, and only the whole can be mapped: map all of it", t, v)
			}
		}
	}
	return nil
}

func isZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), partLen)
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// partLen is how many bytes of a ring are looked at at once: zeros aren't kept.
const partLen = 4096

var zeros = make([]byte, partLen)

// parts is what is in a ring but zeros.
func parts(m []byte) (out []*extra.RingPart) {
	for at := 0; at < len(m); at += partLen {
		part := m[at:min(at+partLen, len(m))]
		switch last := len(out) - 1; {
		case isZero(part):
		case last >= 0 && int(out[last].GetOffset())+len(out[last].Content) == at:
			out[last].Content = append(out[last].Content, part...)
		default:
			out = append(out, &extra.RingPart{Offset: proto.Uint64(uint64(at)), Content: bytes.Clone(part)})
		}
	}
	return out
}

// inRing tells how large the memory of an entry's rings is.
func inRing(in *packet_sock.PacketSockEntry) (size uint64) {
	for _, r := range []*packet_sock.PacketRing{in.RxRing, in.TxRing} {
		size += uint64(r.GetBlockSize()) * uint64(r.GetBlockNr())
	}
	return size
}

// checkRing refuses contents that no ring of it can have, and places that none has.
func (n *node) checkRing(more *extra.SocketEntry) error {
	size := inRing(n.entry)
	for _, p := range more.GetRing() {
		if at := p.GetOffset(); at > size || uint64(len(p.Content)) > size-at {
			return fmt.Errorf("%d bytes at %d of a ring of %d bytes can't be", len(p.Content), at, size)
		}
	}
	at := more.GetPlace()
	if at.GetBlocks() != 0 || at.GetWaits() {
		if err := n.checkBlocks(at); err != nil {
			return err
		}
	}
	return n.checkPlace(at.GetReceive(), at.GetSend())
}

// fill makes the rings, has the kernel go on where it did, and writes what was in
// them. No packet comes before the socket is bound.
func (n *node) fill(ctx context.Context, own int) error {
	if err := n.rings(own); err != nil {
		return err
	}
	if len(n.More.GetRing()) == 0 && n.More.GetPlace() == nil {
		return nil
	}
	const tries = 5
	err := n.refill(ctx, own)
	for i := 1; i < tries && errors.Is(err, errGiven); i++ {
		if err := errors.Join(n.dropRings(own), n.rings(own)); err != nil {
			return err
		}
		err = n.refill(ctx, own)
	}
	return err
}

// refill is fill for rings that are new.
func (n *node) refill(ctx context.Context, own int) error {
	m, err := unix.Mmap(own, 0, int(inRing(n.entry)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map its ring: %w", err)
	}
	defer unix.Munmap(m) //nolint:errcheck // it is the kernel's memory
	kept, err := n.advance(ctx, own, m)
	if err != nil {
		return fmt.Errorf("bring its ring to where it was: %w", err)
	}
	for _, p := range n.More.GetRing() {
		kept.write(m, int(p.GetOffset()), p.Content)
	}
	return nil
}

// write writes bytes at a place of the rings, but for a part.
func (s span) write(m []byte, at int, b []byte) {
	end := at + len(b)
	if at < s.from {
		copy(m[at:min(end, s.from)], b)
	}
	if end > s.to {
		from := max(at, s.to)
		copy(m[from:end], b[from-at:])
	}
}
