package inspect

import (
	"fmt"

	"glis.dev/glis/image/extra"
)

// identities reads who made unix sockets.
func (r *reader) identities() (all []*Identity, err error) {
	err = optional(r, extra.Identities, nil, func(e *extra.SocketIdentity) error {
		all = append(all, &Identity{PID: e.GetPid(), UID: e.GetUid(), GID: e.GetGid(), Groups: e.GetGroups()})
		return r.spend(1 + len(e.GetGroups()))
	})
	return all, err
}

// identify finds who a unix socket's peer is: the first of all, unless there is
// a number, if it listens or is connected.
func (s *Socket) identify(all []*Identity) {
	n := uint32(0)
	switch {
	case s.number != nil:
		n = *s.number
	case s.Family == "unix" && s.Type != "dgram" && s.State != "unconnected" && len(all) > 0:
		n = 1
	}
	if n > 0 {
		s.Who = all[n-1]
	}
}

// waiting counts the connections that wait to be accepted, with what is in them.
func (r *reader) waiting(byID map[uint32]*Socket) error {
	return optional(r, extra.Waiting, nil, func(e *extra.WaitingConnection) error {
		s := byID[e.GetListener()]
		if s == nil {
			return fmt.Errorf("socket %d, where a connection waits, does not exist", e.GetListener())
		}
		s.Waiting++
		for _, m := range e.GetMessages() {
			s.Messages++
			add(&s.QueuedBytes, uint64(m.GetLength()))
			s.QueuedFiles += uint64(len(m.GetFiles()))
		}
		return r.spend(1 + len(e.GetMessages()))
	})
}
