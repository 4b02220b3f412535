package inet

import (
	"fmt"
	"runtime"
	"sync"

	tcp_stream "glis.dev/glis/image/criu/tcp-stream"

	"glis.dev/glis/image"
	"glis.dev/glis/internal/kind/socket/tcp"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/plan"
)

// streams are the images of connections, one each, which take most of the time that a
// plan takes. They are read while other sockets are planned, where there is a CPU for it.
type streams struct {
	lock    sync.Mutex
	live    []*node // connections
	begun   int     // how many of them somebody reads, or has read
	busy    bool    // somebody reads beside the planning
	beside  sync.WaitGroup
	failed  error
	readers sync.Pool
}

const (
	// streamsAtOnce is how many are read before it is asked for more.
	streamsAtOnce = 64
	// fewAtOnce is how many one CPU reads, at the end, before it looks for more.
	fewAtOnce = 4
	// fewStreams is up to how many take less time than to wake another thread.
	fewStreams = 256
)

// expectStream has the image of a connection be read.
func (k *Kind) expectStream(p *plan.Plan, n *node) {
	s := &k.streams
	s.lock.Lock()
	s.live = append(s.live, n)
	begin := !s.busy && len(s.live)-s.begun > fewStreams && k.readsBeside()
	s.busy = s.busy || begin
	s.lock.Unlock()
	if !begin {
		return
	}
	s.beside.Add(1)
	var apart par.Seats
	apart.Sit()
	p.Beside.Go(func() {
		defer s.beside.Done()
		apart.Sit()
		for some := s.next(); len(some) > 0 && s.failed == nil; some = s.next() {
			s.failed = k.inTurn(some)
		}
	})
	apart.Spread()
}

// readsBeside tells whether there is a CPU, and a source that can be asked meanwhile.
func (k *Kind) readsBeside() bool {
	_, singles := k.source.(plan.Singles)
	return singles && runtime.GOMAXPROCS(0) > 1
}

// next returns what is to be read beside the planning; none: there is too little.
func (s *streams) next() []*node {
	s.lock.Lock()
	defer s.lock.Unlock()
	from := s.begun
	if s.busy = len(s.live)-from >= streamsAtOnce; !s.busy {
		return nil
	}
	s.begun += streamsAtOnce
	return s.live[from:s.begun]
}

// readStreams reads the images that are left, on all CPUs, of which one looks meanwhile
// which of them are of one connection.
func (k *Kind) readStreams() error {
	s := &k.streams
	s.lock.Lock()
	rest := s.live[s.begun:]
	s.begun = len(s.live)
	s.lock.Unlock()
	err := par.Do(1+(len(rest)+fewAtOnce-1)/fewAtOnce, func(i int) error {
		if i == 0 {
			return k.couple()
		}
		return k.inTurn(rest[(i-1)*fewAtOnce : min(i*fewAtOnce, len(rest))])
	})
	s.beside.Wait()
	if s.failed != nil {
		return s.failed
	}
	return err
}

// inTurn reads some images one after the other.
func (k *Kind) inTurn(some []*node) error {
	read, ok := k.streams.readers.Get().(func(uint32) (plan.Entry, error))
	if !ok {
		read = k.streamReader()
	}
	defer k.streams.readers.Put(read)
	for _, n := range some {
		if err := n.readStream(read); err != nil {
			return fmt.Errorf("file %#x: inet socket: %w", n.id, err)
		}
	}
	return nil
}

// streamReader returns what reads images of connections, for one goroutine.
func (k *Kind) streamReader() func(ino uint32) (plan.Entry, error) {
	if s, ok := k.source.(plan.Singles); ok {
		return s.Singles(image.TCPStream)
	}
	return func(ino uint32) (plan.Entry, error) {
		all, err := k.source.Entries(image.TCPStream, ino)
		if len(all) == 0 || err != nil {
			return plan.Entry{}, err
		}
		return all[0], nil
	}
}

// readStream reads and checks the image of a connection.
func (n *node) readStream(read func(ino uint32) (plan.Entry, error)) error {
	e, err := read(n.entry.ino)
	if err != nil {
		return err
	}
	name := func() string { return image.TCPStream.FileName(n.entry.ino) }
	if e.Message == nil {
		return fmt.Errorf("the connection from %v to %v was not saved (%s is missing): was --tcp-close given to dump? give it to restore, too", n.at, n.peer, name())
	}
	if m := e.Message.(*tcp_stream.TcpStreamEntry); e.Far != nil {
		n.stream, err = tcp.ParseLater(int(n.entry.state), m, e.Far.Len(), e.Far.Use)
	} else {
		n.stream, err = tcp.Parse(int(n.entry.state), m, e.Payload)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name(), err)
	}
	return n.besides.complete(n.stream)
}
