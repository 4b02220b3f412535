package unix

import (
	"encoding/binary"
	"errors"
	"fmt"

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
	ino, who, err := k.picture.stranger(l.u.Type, name)
	if err != nil || ino == 0 {
		return l.fail(err)
	}
	return l.refuse("%s %s belongs by now to socket %d outside of the tree (%s), so that nobody could have it once more; end that program, or let the process close this socket or read what waits at it", whose, nameString(name), ino, who)
}

// boundHash is the least hash of sockets that are bound to a name, Linux 5.17 to 7.x:
// UNIX_HASH_MOD + 1. Others, and those that are bound to files, have one below.
const boundHash = 256

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
