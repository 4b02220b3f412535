package task

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/remote"
)

// userKey is a key of type "user" in a session keyring, see user-keyring(7) and
// keyrings(7): systemd puts the number of every start of a service there.
type userKey struct {
	uid, gid, perm uint32
	name           string
	payload        []byte
}

// mostPayload is how many bytes of keys of one keyring images have.
const mostPayload = 4 << 10

// key reads a key that the keyring of the asked process holds. Who has it in its
// keyring may do so, mostly, and nobody else: the process does it itself.
func (a *asked) key(id int32) (*userKey, error) {
	b := a.q.Task.Arena.Batch(&a.q.Thread.Thread)
	textAt, _ := b.Alloc(mostKeyLen)
	dataAt, _ := b.Alloc(mostPayload)
	describe := b.Try("keyctl KEYCTL_DESCRIBE", unix.SYS_KEYCTL, unix.KEYCTL_DESCRIBE, spec(int(id)), uint64(textAt), mostKeyLen)
	read := b.Try("keyctl KEYCTL_READ", unix.SYS_KEYCTL, unix.KEYCTL_READ, spec(int(id)), uint64(dataAt), mostPayload)
	if err := b.Run(); err != nil {
		return nil, err
	}
	text, err := said(b, describe, textAt, mostKeyLen)
	if err != nil {
		return nil, fmt.Errorf("KEYCTL_DESCRIBE: %w", err)
	}
	k := &userKey{}
	if err := parseKey(string(bytes.TrimRight(text, "\x00")), "user", k); err != nil {
		return nil, err
	}
	if k.payload, err = said(b, read, dataAt, mostPayload); err != nil {
		return nil, fmt.Errorf("KEYCTL_READ: %w", err)
	}
	k.payload = bytes.Clone(k.payload)
	all, err := keysSeenBy(k.uid)
	if err != nil {
		return nil, err
	}
	return k, lasts(string(all), uint32(id))
}

// said returns what a call has put at an address, most bytes at most.
func said(b *remote.Batch, c remote.Call, at remote.Addr, most int64) ([]byte, error) {
	n, err := c.Result()
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, fmt.Errorf("it has %d bytes", n)
	}
	return b.Output(at, int(n))
}

// keysSeenBy returns what /proc/keys, see proc(5), shows to a user: the keys that
// may be looked at. The thread that is that user for it is thrown away, by not
// unlocking it.
func keysSeenBy(uid uint32) (b []byte, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, err = unix.SetfsuidRetUid(int(uid)); err == nil {
			b, err = fd.ReadFile("/proc/keys")
		}
	}()
	<-done
	return b, err
}

// lasts fails if a key ends some day, which only /proc/keys (proc(5)) tells.
func lasts(all string, id uint32) error {
	for line := range strings.Lines(all) {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != fmt.Sprintf("%08x", id) {
			continue
		}
		if f[3] != "perm" {
			return fmt.Errorf("it ends in %s", f[3])
		}
		return nil
	}
	return fmt.Errorf("/proc/keys does not show it")
}

// parseKey parses what KEYCTL_DESCRIBE says: type;uid;gid;perm;description.
func parseKey(text, typ string, k *userKey) error {
	p := strings.SplitN(text, ";", 5)
	if len(p) != 5 || p[0] != typ {
		return fmt.Errorf("it is described as %q", text)
	}
	if _, err := fmt.Sscanf(p[1]+" "+p[2]+" "+p[3], "%d %d %x", &k.uid, &k.gid, &k.perm); err != nil {
		return fmt.Errorf("it is described as %q: %w", text, err)
	}
	k.name = p[4]
	return nil
}

const keyHead = 5 * 4 // bytes before a key's name

// encode appends the key.
func (k *userKey) encode(b []byte) []byte {
	for _, v := range [...]uint32{k.uid, k.gid, k.perm, uint32(len(k.name)), uint32(len(k.payload))} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return append(append(b, k.name...), k.payload...)
}

// decodeKeys reads what encode has written.
func decodeKeys(b []byte) (keys []*userKey, err error) {
	for len(b) > 0 {
		if len(b) < keyHead || len(keys) == mostKeys {
			return nil, fmt.Errorf("%d bytes of keys that can't be", len(b))
		}
		word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
		k := &userKey{uid: word(0), gid: word(1), perm: word(2)}
		name, payload := int(word(3)), int(word(4))
		b = b[keyHead:]
		if name <= 0 || name >= mostKeyLen || payload <= 0 || payload > mostPayload || name+payload > len(b) || strings.IndexByte(string(b[:name]), 0) >= 0 || b[0] == '.' {
			return nil, fmt.Errorf("a key with a name of %d and %d other bytes can't be", name, payload)
		}
		k.name, k.payload, b = string(b[:name]), b[name:name+payload], b[name+payload:]
		keys = append(keys, k)
	}
	return keys, nil
}

// add queues what puts the key into a keyring. It is the caller's then, until it
// is somebody's.
func (k *userKey) add(r *kind.Redo, ring uint64) {
	b := r.Batch
	typ, name := uint64(b.String("user")), uint64(b.String(k.name))
	b.Call("add_key "+k.name, unix.SYS_ADD_KEY, typ, name, uint64(b.Bytes(k.payload)), uint64(len(k.payload)), ring).
		Feed(b.Call("keyctl KEYCTL_CHOWN "+k.name, unix.SYS_KEYCTL, unix.KEYCTL_CHOWN, 0, uint64(k.uid), uint64(k.gid)), 1)
	b.Call("keyctl KEYCTL_SEARCH "+k.name, unix.SYS_KEYCTL, unix.KEYCTL_SEARCH, ring, typ, name, 0).
		Feed(b.Call("keyctl KEYCTL_SETPERM "+k.name, unix.SYS_KEYCTL, unix.KEYCTL_SETPERM, 0, uint64(k.perm)), 1)
}
