package unix

import (
	"cmp"
	"slices"

	sk_packet "glis.dev/glis/image/criu/sk-packet"
	sk_unix "glis.dev/glis/image/criu/sk-unix"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/fdinfo"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/plan"
)

// Undoubted implements kind.Doubter: pairs without names, of which both ends are there
// and nothing is special, are no question.
func (k *Kind) Undoubted(src plan.Source, all []*fdinfo.FileEntry, sure []bool) error {
	special, err := specials(src)
	if err != nil {
		return err
	}
	plain := func(i int) bool { return i < len(all) && isPlain(all[i].GetUsk()) && !special[all[i].GetId()] }
	var rest []end
	for i := 0; i < len(all); i++ {
		switch {
		case !plain(i):
		case plain(i+1) && newEnd(all[i], i).mate(newEnd(all[i+1], i+1)): // as they mostly come
			sure[i], sure[i+1] = true, true
			i++
		default:
			rest = append(rest, newEnd(all[i], i))
		}
	}
	slices.SortFunc(rest, func(a, b end) int { return cmp.Compare(a.pair, b.pair) })
	for i := 0; i+1 < len(rest); i++ {
		if rest[i].mate(rest[i+1]) {
			sure[rest[i].at], sure[rest[i+1].at] = true, true
			i++
		}
	}
	return nil
}

// end is one of a pair of sockets.
type end struct {
	pair  uint64 // both inodes
	first bool   // its own is the lower one
	at    int    // its place among all entries
}

func newEnd(e *fdinfo.FileEntry, at int) end {
	a, b := e.GetUsk().GetIno(), e.GetUsk().GetPeer()
	return end{uint64(min(a, b))<<32 | uint64(max(a, b)), a < b, at}
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
