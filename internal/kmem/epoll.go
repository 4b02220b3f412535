package kmem

import "fmt"

// EpollItem is something that an epoll file watches: a struct epitem.
type EpollItem struct {
	File   Addr  // a struct file
	Number int32 // the descriptor that it was added by
	Events uint32
	Data   uint64
}

// EpollNames are the members of structures that EpollItems needs.
func EpollNames() []string {
	return []string{
		"eventpoll", "eventpoll.rbr", "rb_node", "rb_node.rb_right", "rb_node.rb_left",
		"epitem", "epitem.rbn", "epitem.ffd", "epoll_filefd.file", "epoll_filefd.fd", "epitem.event", "epoll_event.events", "epoll_event.data",
	}
}

// mostDeep is more than how deep a tree of the kernel's is.
const mostDeep = 64

// EpollItems returns what an epoll file watches, in the kernel's order, most of them at
// most: ErrUnavailable if there are more, as if it has changed while it was read. It takes
// some 2 µs for each.
func (r *Reader) EpollItems(ep *Struct, most int) ([]EpollItem, error) {
	t := epollTree{Reader: r, most: most}
	err := t.below(ep.Pointer("eventpoll.rbr"), 0)
	return t.all, err
}

type epollTree struct {
	*Reader
	most int
	all  []EpollItem
}

// below reads what is below a node.
func (t *epollTree) below(node Addr, deep int) error {
	if node == 0 {
		return nil
	}
	if deep > mostDeep || len(t.all) >= t.most {
		return fmt.Errorf("%w: what an epoll file watches has changed while it was read, or is more than %d files", ErrUnavailable, t.most)
	}
	s, err := t.Struct("epitem", node-t.Off("epitem.rbn"))
	if err != nil {
		return err
	}
	n, file, event := s.In("epitem.rbn"), s.In("epitem.ffd"), s.In("epitem.event")
	if err := t.below(n.Pointer("rb_node.rb_left"), deep+1); err != nil {
		return err
	}
	t.all = append(t.all, EpollItem{
		File: file.Pointer("epoll_filefd.file"), Number: int32(file.U32("epoll_filefd.fd")),
		Events: event.U32("epoll_event.events"), Data: uint64(event.Pointer("epoll_event.data")),
	})
	return t.below(n.Pointer("rb_node.rb_right"), deep+1)
}
