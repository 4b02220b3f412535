package unix

import (
	"cmp"
	"slices"

	sk_packet "glis.dev/glis/image/criu/sk-packet"
	sk_unix "glis.dev/glis/image/criu/sk-unix"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// Doubt implements kind.Doubter: pairs without names, of which both ends are there
// and nothing is special, are no question.
func (k *Kind) Doubt(src plan.Source) (kind.Doubt, error) {
	special, err := specials(src)
	return &doubt{special: special}, err
}

// doubt is where plain ends of pairs are.
type doubt struct {
	special map[uint32]bool
	mates   []uint32 // the first of two that come one after the other, as they mostly do
	last    end      // that may be the first of two
	rest    []end    // in another order
}

// See implements kind.Doubt.
func (d *doubt) See(at int, e *fdinfo.FileEntry) {
	if !isPlain(e.GetUsk()) || d.special[e.GetId()] {
		return
	}
	x := newEnd(e, at)
	switch {
	case d.last.pair == 0:
		d.last = x
	case d.last.at+1 == x.at && d.last.mate(x):
		d.mates, d.last = append(d.mates, d.last.at), end{}
	default:
		d.rest, d.last = append(d.rest, d.last), x
	}
}

// Sure implements kind.Doubt.
func (d *doubt) Sure(sure []bool) {
	for _, at := range d.mates {
		sure[at], sure[at+1] = true, true
	}
	rest := d.rest
	if d.last.pair != 0 {
		rest = append(rest, d.last)
	}
	slices.SortFunc(rest, func(a, b end) int { return cmp.Compare(a.pair, b.pair) })
	for i := 0; i+1 < len(rest); i++ {
		if rest[i].mate(rest[i+1]) {
			sure[rest[i].at], sure[rest[i+1].at] = true, true
			i++
		}
	}
}

// end is one of a pair of sockets.
type end struct {
	pair  uint64 // both inodes
	at    uint32 // its place among all entries
	first bool   // its own is the lower one
}

func newEnd(e *fdinfo.FileEntry, at int) end {
	a, b := e.GetUsk().GetIno(), e.GetUsk().GetPeer()
	return end{uint64(min(a, b))<<32 | uint64(max(a, b)), uint32(at), a < b}
}

// mate tells whether two are each other's peers.
func (e end) mate(o end) bool { return e.pair == o.pair && e.first != o.first }

// isPlain tells whether nothing but being connected is in an entry.
func isPlain(u *sk_unix.UnixSkEntry) bool {
	return u != nil && (u.GetType() == sys.SOCK_STREAM || u.GetType() == sys.SOCK_SEQPACKET) && u.GetState() == established &&
		u.GetPeer() != 0 && u.GetUflags() == 0 && u.GetShutdown() == 0 && len(u.GetName()) == 0
}

// specials returns the files that other images say something of, but plain data in
// their queues.
func specials(src plan.Source) (map[uint32]bool, error) {
	out := map[uint32]bool{}
	if err := socket.EachExtra(src, func(id uint32) { out[id] = true }); err != nil {
		return nil, err
	}
	packets, err := src.Entries(image.SkQueues)
	for _, e := range packets {
		if m := e.Message.(*sk_packet.SkPacketEntry); len(m.GetScm()) > 0 || len(m.Unknown()) > 0 || int(m.GetLength()) != e.Size() {
			out[m.GetIdFor()] = true
		}
	}
	return out, err
}
