package unix

import (
	"encoding/binary"
	"errors"
	"fmt"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
)

// errWhose says that several sockets are called alike, and one of them is bound to that
// name: nobody else can have it.
var errWhose = errors.New("several sockets have its name")

// lendable refuses an abstract name that somebody had who is closed, and that a socket
// outside of the tree has by now: a restore has to bind to it once more, and the kernel
// lets nobody. One of the tree gets it afterwards, see orderNames.
func (k *Kind) lendable(l *look, name []byte, whose string) error {
	if len(name) == 0 || isPath(name) {
		return nil
	}
	ino, who, err := k.bearer(l, name)
	if err != nil || ino == 0 {
		return err
	}
	return l.refuse("%s %s belongs by now to socket %d outside of the tree (%s), so that nobody could have it once more; end that program, or let the process close this socket or read what waits at it", whose, nameString(name), ino, who)
}

// boundHash is the least hash of sockets that are bound to a name, Linux 5.17 to 7.x:
// UNIX_HASH_MOD + 1. Others, and those that are bound to files, have one below.
const boundHash = 256

// bearer returns the socket outside of the tree that is bound to an abstract name, and
// whose it is; 0 if there is none. The name is of another socket's type.
func (k *Kind) bearer(l *look, name []byte) (uint32, string, error) {
	p := &k.picture
	key := nameKey(int(l.u.Type), name)
	ino, known := p.strangers[key]
	if !known {
		var err error
		if ino, err = k.findBearer(l, name); err != nil {
			return 0, "", err
		}
		if p.strangers == nil {
			p.strangers = map[string]uint32{}
		}
		p.strangers[key] = ino
	}
	if ino == 0 {
		return 0, "", nil
	}
	who := processOf(ino)
	if who == "" {
		who = "of no process that is visible here"
	}
	return ino, who, nil
}

// findBearer looks for who is bound to a name. A socket that is connected may have it from
// its listener only.
func (k *Kind) findBearer(l *look, name []byte) (uint32, error) {
	p, typ := &k.picture, l.u.Type
	if err := p.all(); err != nil {
		return 0, l.fail(err)
	}
	var inside []uint32 // that may have it only from their listener
	firm, perhaps := false, uint32(0)
	for _, u := range p.called(typ, name) {
		ino := u.Ino
		if ino == 0 {
			continue
		}
		unsure := u.State == established && typ != sys.SOCK_DGRAM
		switch {
		case p.files[ino] != nil && unsure:
			inside = append(inside, ino)
		case p.files[ino] != nil:
			firm = true
		case unsure:
			perhaps = ino
		default:
			return ino, nil
		}
	}
	if firm || perhaps == 0 {
		return 0, nil
	}
	held, err := taken(typ, name)
	if err != nil || !held {
		return 0, l.fail(err)
	}
	for _, ino := range inside {
		if bound, err := k.bound(l, ino); bound || err != nil {
			return 0, err
		}
	}
	return perhaps, nil
}

// bound tells whether a socket of the tree is bound to the name that it has.
func (k *Kind) bound(l *look, ino uint32) (bool, error) {
	its := *l
	its.fd, its.unheld = nil, k.unheld[ino]
	if its.unheld == nil {
		own, err := k.picture.files[ino].Borrow()
		if err != nil {
			return false, l.fail(err)
		}
		defer own.Close()
		its.fd = own
	}
	accepted, err := k.whose(&its)
	return !accepted, err
}

// whose tells whether a socket that has an abstract name, as others do, has it only from
// the listener that accepted it: the kernel finds it by another hash then.
func (k *Kind) whose(l *look) (accepted bool, err error) {
	m, err := k.memory()
	if errors.Is(err, kmem.ErrUnavailable) {
		return false, l.refuse("several sockets are called %s, one of which is bound to that name, and which one only the kernel's memory would tell (%v); let it close the others", nameString(l.u.Name), err)
	}
	if err != nil {
		return false, l.fail(err)
	}
	at, err := kmem.Addr(0), error(nil)
	if l.unheld != nil {
		at = l.unheld.Sock
	} else {
		at, err = m.Sock(l.fd.Int())
	}
	var b [4]byte
	if err == nil {
		err = m.ReadAt(b[:], at+m.Off("sock_common.skc_hash"))
	}
	if err != nil {
		return false, l.fail(fmt.Errorf("is it bound to its name? %w", err))
	}
	return binary.NativeEndian.Uint32(b[:]) < boundHash, nil
}
