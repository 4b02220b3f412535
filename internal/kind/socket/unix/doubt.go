package unix

import (
	"cmp"
	"math"
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
// and nothing is special, are no question, nor are such of which the same is said as of
// another pair, which is planned. Of all others, if they are very many, it is not worth the
// memory, and the time that the tree stands still.
func (k *Kind) Doubt(src plan.Source) (kind.Doubt, error) {
	sorts, err := sortsOf(src)
	return &doubt{sorts: sorts, planned: map[[2]uint16]bool{}}, err
}

// doubt is where plain ends of pairs are.
type doubt struct {
	sorts   map[uint32]uint16 // see sortsOf
	planned map[[2]uint16]bool
	mates   []uint32 // the first of two that come one after the other, as they mostly do
	last    end      // that may be the first of two
	rest    []end    // in another order
	others  []uint32
}

// mostRehearsed is of how many sockets, but for such pairs, a restore is rehearsed.
const mostRehearsed = 8000

// See implements kind.Doubt.
func (d *doubt) See(at int, e *fdinfo.FileEntry) {
	sort := d.sorts[e.GetId()]
	if !isPlain(e.GetUsk()) || sort == special {
		if e.GetType() == fdinfo.FdTypes_UNIXSK {
			d.others = append(d.others, uint32(at))
		}
		return
	}
	x := newEnd(e, at, sort)
	switch {
	case d.last.pair == 0:
		d.last = x
	case d.last.at+1 == x.at && d.last.mate(x):
		if d.known(d.last, x) {
			d.mates = append(d.mates, d.last.at)
		}
		d.last = end{}
	default:
		d.rest, d.last = append(d.rest, d.last), x
	}
}

// known tells whether a pair need not be planned, as nothing is said of it, or the same as
// of one that is: so must it be, unless this says that it need not.
func (d *doubt) known(a, b end) bool {
	sorts := [2]uint16{min(a.sort, b.sort), max(a.sort, b.sort)}
	known := d.planned[sorts] || sorts == [2]uint16{}
	d.planned[sorts] = true
	return known
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
	others := d.others
	for i := 0; i < len(rest); i++ {
		if i+1 == len(rest) || !rest[i].mate(rest[i+1]) {
			others = append(others, rest[i].at)
			continue
		}
		known := d.known(rest[i], rest[i+1])
		sure[rest[i].at], sure[rest[i+1].at] = known, known
		i++
	}
	if len(others) <= mostRehearsed {
		return
	}
	for _, at := range others {
		sure[at] = true
	}
}

// end is one of a pair of sockets.
type end struct {
	pair  uint64 // both inodes
	at    uint32 // its place among all entries
	sort  uint16
	first bool // its own is the lower one
}

func newEnd(e *fdinfo.FileEntry, at int, sort uint16) end {
	a, b := e.GetUsk().GetIno(), e.GetUsk().GetPeer()
	return end{uint64(min(a, b))<<32 | uint64(max(a, b)), uint32(at), sort, a < b}
}

// mate tells whether two are each other's peers.
func (e end) mate(o end) bool { return e.pair == o.pair && e.first != o.first }

// isPlain tells whether nothing but being connected is in an entry.
func isPlain(u *sk_unix.UnixSkEntry) bool {
	return u != nil && (u.GetType() == sys.SOCK_STREAM || u.GetType() == sys.SOCK_SEQPACKET) && u.GetState() == established &&
		u.GetPeer() != 0 && u.GetUflags() == 0 && u.GetShutdown() == 0 && len(u.GetName()) == 0
}

// special is the sort of sockets that are no other's: of which there are more things than
// have a number, or something waits at them that isn't plain data.
const special = math.MaxUint16

// sortsOf returns what other images say of files, but for plain data in their queues: the same
// number, from 1 on, of those of which the same is said.
func sortsOf(src plan.Source) (map[uint32]uint16, error) {
	out, all := map[uint32]uint16{}, map[string]uint16{}
	err := socket.EachExtra(src, func(id uint32, rest []byte) {
		n, ok := all[string(rest)]
		if !ok {
			n = uint16(min(len(all)+1, special))
			all[string(rest)] = n
		}
		out[id] = n
	})
	if err != nil {
		return nil, err
	}
	packets, err := src.Entries(image.SkQueues)
	for _, e := range packets {
		if m := e.Message.(*sk_packet.SkPacketEntry); len(m.GetScm()) > 0 || len(m.Unknown()) > 0 || int(m.GetLength()) != e.Size() {
			out[m.GetIdFor()] = special
		}
	}
	return out, err
}
