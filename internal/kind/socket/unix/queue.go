package unix

import (
	sk_packet "glis.dev/glis/image/criu/sk-packet"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/image/protowire"
	sys "golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/scan"
)

// messageField is where criu's entry of a message has ours.
const messageField protowire.Number = 1500

// putQueue puts what waits to be read into sk-queues.img.
func (k *Kind) putQueue(l *look) error {
	q := k.queues[l.u.Ino]
	if q == nil {
		return nil
	}
	if q.region != nil {
		return k.putFar(l, q)
	}
	for _, m := range q.messages {
		if err := k.putMessage(l, m); err != nil {
			return err
		}
	}
	return nil
}

func (k *Kind) putMessage(l *look, m *message) error {
	if !m.peer && m.sender == nil {
		if err := k.lendable(l, m.name, "the name of who has sent it a message, and is closed or outside,"); err != nil {
			return err
		}
	}
	e := &sk_packet.SkPacketEntry{IdFor: &l.file.ID, Length: proto.Uint32(uint32(len(m.data)))}
	if len(m.rights) > 0 {
		e.Scm = []*sk_packet.ScmEntry{{Type: proto.Uint32(sys.SCM_RIGHTS), Rights: numbers(m.rights)}}
	}
	if err := m.putExtra(e, l); err != nil {
		return err
	}
	return l.env.Images.Put(image.SkQueues, e, m.data)
}

func numbers(files []*scan.File) []uint32 {
	var out []uint32
	for _, f := range files {
		out = append(out, f.ID)
	}
	return out
}

// putExtra adds to criu's entry what it has no field for.
func (m *message) putExtra(e *sk_packet.SkPacketEntry, l *look) error {
	if m.peer && m.who == nil && m.urgent == 0 {
		return nil
	}
	x := &extra.SocketMessage{}
	if m.urgent != 0 {
		x.Urgent = &m.urgent
	}
	if m.who != nil {
		x.Who = &extra.SocketCredentials{Pid: proto.Uint32(m.pid(l)), Uid: &m.who.uid, Gid: &m.who.gid}
	}
	if !m.peer {
		x.Sender, x.Name = new(uint32), m.name
		if m.sender != nil {
			x.Sender, x.Name = &m.sender.ID, nil
		}
	}
	b, err := proto.Marshal(x)
	if err != nil {
		return err
	}
	e.SetUnknown(protowire.AppendBytes(protowire.AppendTag(e.Unknown(), messageField, protowire.BytesType), b))
	return nil
}

// pid returns the sender's number as the images have it.
func (m *message) pid(l *look) uint32 {
	for _, t := range l.env.Tree.Tasks {
		if uint32(t.PID) == m.who.pid {
			return uint32(t.VPID)
		}
	}
	return m.who.pid
}

// messageOf reads what is added to criu's entry; nil if there is nothing.
func messageOf(e *sk_packet.SkPacketEntry) (*extra.SocketMessage, error) {
	for rest := e.Unknown(); len(rest) > 0; {
		n, typ, size := protowire.ConsumeField(rest)
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		if n == messageField && typ == protowire.BytesType {
			b, _ := protowire.ConsumeBytes(rest[protowire.SizeTag(n):size])
			x := &extra.SocketMessage{}
			return x, proto.Unmarshal(b, x)
		}
		rest = rest[size:]
	}
	return nil, nil
}
