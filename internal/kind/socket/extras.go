package socket

import (
	"errors"
	"fmt"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/plan"
)

// Extras is what criu's entries of sockets have no place for, encoded: a message has
// room for all that a socket may have, twenty times what most do have.
type Extras struct {
	raw  []byte
	at   map[uint32]span
	msg  extra.SocketEntry
	dec  proto.Decoder
	done map[uint32]*extra.SocketEntry // in place of all that, of a source that has no encoded form
}

type span struct{ from, to uint32 }

// NewExtras reads them.
func NewExtras(src plan.Source) (*Extras, error) {
	x := &Extras{at: map[uint32]span{}}
	r, ok := src.(plan.Raw)
	if !ok {
		var err error
		x.done, err = ReadExtras(src)
		return x, err
	}
	var id numbered
	return x, r.Raw(extra.Sockets, func(b []byte) error {
		if err := x.dec.Unmarshal(b, &id); err != nil {
			return err
		}
		from := len(x.raw)
		x.raw = append(x.raw, b...)
		x.at[*id.id] = span{uint32(from), uint32(len(x.raw))}
		return nil
	})
}

// EachExtra calls f with the number of each socket that there is something of, and with
// that, encoded, which is valid until f returns: the same of sockets that are the same.
func EachExtra(src plan.Source, f func(id uint32, rest []byte)) error {
	var id numbered
	var dec proto.Decoder
	each := func(b []byte) error {
		err := dec.Unmarshal(b, &id)
		f(*id.id, id.Unknown())
		return err
	}
	if r, ok := src.(plan.Raw); ok {
		return r.Raw(extra.Sockets, each)
	}
	all, err := src.Entries(extra.Sockets)
	for _, e := range all {
		b, bad := proto.Marshal(e.Message)
		if err = errors.Join(err, bad); err == nil {
			err = each(b)
		}
	}
	return err
}

// Any tells whether there is something of any socket.
func (x *Extras) Any() bool { return x != nil && len(x.done)+len(x.at) > 0 }

// numbered is the number that an extra.SocketEntry is of, and all else as it is.
type numbered struct {
	proto.Rest
	room [1]uint32
	id   *uint32
}

// idTag is that of the number: field 6, a varint.
const idTag = 6 << 3

func (n *numbered) Reset() {
	n.room[0], n.id = 0, &n.room[0]
	n.SetUnknown(n.Unknown()[:0])
}
func (*numbered) ProtoName() string            { return (*extra.SocketEntry)(nil).ProtoName() }
func (*numbered) AppendFields(b []byte) []byte { return b }
func (*numbered) Missing() string              { return "" }
func (n *numbered) ReadField(d *proto.Decoder) bool {
	if d.Tag == idTag {
		d.Uint32(&n.id)
	}
	return d.Tag == idTag
}

// Of returns what there is of a socket, nil if that is nothing; of nil it is. It is
// valid until the next call, what its fields point to for good.
func (x *Extras) Of(id uint32) (*extra.SocketEntry, error) {
	switch {
	case x == nil:
		return nil, nil
	case x.done != nil:
		return x.done[id], nil
	}
	at, ok := x.at[id]
	if !ok {
		return nil, nil
	}
	if err := x.dec.Unmarshal(x.raw[at.from:at.to], &x.msg); err != nil {
		return nil, fmt.Errorf("%s: %w", extra.Sockets.Pattern, err)
	}
	return &x.msg, nil
}
