package unix

import (
	"bytes"
	"errors"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
)

// show is what the picture has of each socket. Which connections wait at those that listen
// is not among it: the kernel ends its answer where they are too many.
const show = sockdiag.ShowName | sockdiag.ShowVFS | sockdiag.ShowPeer | sockdiag.ShowRQLen | sockdiag.ShowMemInfo

// single is how many sockets are asked for one by one before all of the
// namespace are: the kernel searches all for each, and a process with one
// socket should not pay for the thousands of others.
const single = 8

// unixAtOnce is for how many sockets memory is found at once.
const unixAtOnce = 64

// picture is what the kernel tells about unix sockets that stand still, by
// inode. It is filled as it is asked.
type picture struct {
	socks     map[uint32]*sockdiag.Unix // nil: there is no unix socket of that number
	asked     int
	room      int             // for how many sockets there is to be room
	next      []sockdiag.Unix // room for the next ones
	conn      *sockdiag.Conn  // see open
	check     func() error    // whether there is time left; may be nil
	whole     bool
	again     bool                        // all were asked for once more, see missed
	elsewhere bool                        // a socket of the tree isn't in the engine's network namespace
	tree      map[uint32]bool             // inodes of sockets of the tree
	files     map[uint32]*scan.File       // the sockets of the tree
	listeners map[string]bool             // by type and name
	named     map[string][]*sockdiag.Unix // sockets that are called so, by type and name; see called
	clients   map[uint32]bool             // sockets that wait to be accepted by whomever; see waits
	abroad    map[uint32]role             // of sockets whose peer is outside, and may be
	strangers map[string]uint32           // see bearer; by type and name
	waiting   map[uint32]uint32           // listeners, by their clients that wait
	aims      map[uint32][]uint32         // datagram sockets of the tree, by the one that they are connected to
}

// get returns the socket with this inode, or nil if it is no unix socket of
// the engine's network namespace.
func (p *picture) get(ino uint32) (*sockdiag.Unix, error) {
	u, ok := p.socks[ino]
	switch {
	case ok || p.whole && (!p.tree[ino] || p.elsewhere):
		return u, nil
	case p.whole:
		return p.missed(ino)
	}
	if p.asked++; p.asked > single {
		err := p.all()
		return p.socks[ino], err
	}
	err := p.open(func(c *sockdiag.Conn) error { return p.ask(c, ino) })
	return p.socks[ino], err
}

// missed looks for a socket of the tree that the kernel didn't tell of among all: it loses
// its place whenever somebody closes one meanwhile, and leaves others out.
func (p *picture) missed(ino uint32) (*sockdiag.Unix, error) {
	if !p.again { // those outside of the tree, of which nobody knows, were left out as well
		p.again = true
		if err := p.open(func(c *sockdiag.Conn) error { return c.EachUnix(show, p.add) }); err != nil {
			return nil, err
		}
	}
	if u := p.socks[ino]; u != nil {
		return u, nil
	}
	err := p.open(func(c *sockdiag.Conn) error { return p.ask(c, ino) })
	p.elsewhere = err == nil && p.socks[ino] == nil
	return p.socks[ino], err
}

// expect prepares for questions about n sockets.
func (p *picture) expect(n int) error {
	p.room = n
	if n > single {
		return p.all()
	}
	return nil
}

// open calls fn with a connection to ask by: one for all questions that are asked
// within another call of it.
func (p *picture) open(fn func(*sockdiag.Conn) error) error {
	if p.conn != nil {
		return fn(p.conn)
	}
	c, err := sockdiag.Open(0)
	if err != nil {
		return err
	}
	defer c.Close()
	p.conn = c
	defer func() { p.conn = nil }()
	return fn(c)
}

// all asks for all sockets of the namespace.
func (p *picture) all() error {
	if p.whole {
		return nil
	}
	p.socks = make(map[uint32]*sockdiag.Unix, p.room)
	err := p.open(func(c *sockdiag.Conn) error { return c.EachUnix(show, p.add) })
	p.whole = err == nil
	return err
}

func (p *picture) ask(c *sockdiag.Conn, ino uint32) error {
	u, err := c.Unix(ino, 0, show)
	if errors.Is(err, sys.ENOENT) {
		u, err = nil, nil
	}
	if err == nil {
		if p.socks == nil {
			p.socks = map[uint32]*sockdiag.Unix{}
		}
		p.socks[ino] = u
	}
	return err
}

func (p *picture) add(u *sockdiag.Unix) error {
	if len(p.next) == 0 {
		p.next = make([]sockdiag.Unix, unixAtOnce)
	}
	own := &p.next[0]
	p.next = p.next[1:]
	*own = *u
	own.Name, own.Icons = bytes.Clone(u.Name), nil
	p.socks[u.Ino] = own
	if p.check == nil {
		return nil
	}
	return p.check()
}

// called returns the sockets of a type that are called so, once all are known: who has
// a name that many have, or had, would look through all else.
func (p *picture) called(typ uint8, name []byte) []*sockdiag.Unix {
	if p.named == nil || !p.whole {
		p.named = map[string][]*sockdiag.Unix{}
		for _, u := range p.socks {
			if u != nil && len(u.Name) > 0 {
				key := nameKey(int(u.Type), u.Name)
				p.named[key] = append(p.named[key], u)
			}
		}
	}
	return p.named[nameKey(int(typ), name)]
}
