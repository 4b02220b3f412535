package task

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/remote"
	"glis.dev/glis/internal/scan"
)

// Keyring is a process's session keyring, see session-keyring(7): a login or
// service manager gives each service one. It comes back anew, by its name, with
// the user's keyring in it if that was, and keys of type "user"; others can't.
type Keyring struct {
	own  int64                // serial number of the engine's; 0: none
	seen map[int64]*scan.Task // who has which
	of   map[*scan.Task]int64
}

// Name implements kind.Facet.
func (*Keyring) Name() string { return "session keyring" }

// Learn implements kind.Learner. The keyring is that of this thread and of all
// that come from the same login; asking changes nothing that could be seen.
func (k *Keyring) Learn() {
	if n, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false); err == nil {
		k.own = int64(n)
	}
}

const (
	mostKeys   = 64
	mostKeyLen = 256 // of a description
)

// asked is what a process was asked about its keyrings.
type asked struct {
	q                                    *kind.Question
	thread, process, session, user, text remote.Call
	keys                                 remote.Call
	textAt, keysAt                       remote.Addr
}

// spec is a KEY_SPEC_* as an argument.
func spec(n int) uint64 { return uint64(int64(n)) }

// Dump implements kind.Facet.
func (k *Keyring) Dump(q *kind.Question) (kind.Answer, error) {
	a := &asked{q: q}
	id := func(name string, n int) remote.Call {
		return q.Batch.Try("keyctl KEYCTL_GET_KEYRING_ID "+name, unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, spec(n), 0)
	}
	a.thread, a.process = id("thread", unix.KEY_SPEC_THREAD_KEYRING), id("process", unix.KEY_SPEC_PROCESS_KEYRING)
	a.session, a.user = id("session", unix.KEY_SPEC_SESSION_KEYRING), id("user", unix.KEY_SPEC_USER_KEYRING)
	a.textAt, _ = q.Batch.Alloc(mostKeyLen)
	a.text = q.Batch.Try("keyctl KEYCTL_DESCRIBE", unix.SYS_KEYCTL, unix.KEYCTL_DESCRIBE, spec(unix.KEY_SPEC_SESSION_KEYRING), uint64(a.textAt), mostKeyLen)
	a.keysAt, _ = q.Batch.Alloc(4 * mostKeys)
	a.keys = q.Batch.Try("keyctl KEYCTL_READ", unix.SYS_KEYCTL, unix.KEYCTL_READ, spec(unix.KEY_SPEC_SESSION_KEYRING), uint64(a.keysAt), 4*mostKeys)
	return func(c *core.CoreEntry) error { return k.answer(a, c) }, nil
}

func (k *Keyring) answer(a *asked, c *core.CoreEntry) error {
	for _, x := range []struct {
		call remote.Call
		name string
	}{{a.thread, "thread"}, {a.process, "process"}} {
		if _, err := x.call.Result(); !noKeyring(err) {
			return kind.Unsupported(where(a.q), "it has a %s keyring (%s-keyring(7)), which cannot be saved; let it use its session's", x.name, x.name)
		}
	}
	serial, err := a.session.Result()
	switch {
	case noKeyring(err), err == nil && serial == k.own: // the login's own
		return nil
	case err != nil: // it was revoked, has expired, or may not be asked for by who has it
		return kind.Unsupported(where(a.q), "its session keyring can't be looked at (KEYCTL_GET_KEYRING_ID: %v); let it join another one (keyctl session)", err)
	}
	s, err := a.describe()
	if err != nil || strings.HasPrefix(s.name, "_uid") {
		return err // what a process without one has
	}
	if k.seen == nil {
		k.seen, k.of = map[int64]*scan.Task{}, map[*scan.Task]int64{}
	}
	t := a.q.Task
	if first := k.seen[serial]; first != nil && k.of[t.Parent] != serial {
		return kind.Unsupported(where(a.q), "its session keyring %q is also that of %v, which it does not have it from (KEYCTL_SESSION_TO_PARENT, KEYCTL_JOIN_SESSION_KEYRING); give it one of its own", s.name, first)
	}
	k.seen[serial], k.of[t] = t, serial
	s.serial = uint32(serial)
	putExtra(c, extraKeyring, s.encode())
	return nil
}

// noKeyring tells whether keyctl(2) says that there is none, or that the kernel, or
// a container, has none for anybody.
func noKeyring(err error) bool {
	return errors.Is(err, unix.ENOKEY) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
}

// describe reads what a session keyring is, and refuses one with keys in it.
func (a *asked) describe() (*sessionKeyring, error) {
	n, err := a.text.Result()
	if err != nil || n > mostKeyLen {
		return nil, kind.Unsupported(where(a.q), "its session keyring can't be looked at (KEYCTL_DESCRIBE: %v, %d bytes); let it join another one (keyctl session)", err, n)
	}
	text, err := a.q.Batch.Output(a.textAt, int(n))
	if err != nil {
		return nil, err
	}
	s, err := parseKeyring(string(bytes.TrimRight(text, "\x00")))
	if err != nil {
		return nil, err
	}
	if n, err = a.keys.Result(); err != nil || n > 4*mostKeys {
		return nil, kind.Unsupported(where(a.q), "nobody tells what is in its session keyring %q (KEYCTL_READ: %v, %d bytes); let it join another one (keyctl session)", s.name, err, n)
	}
	keys, err := a.q.Batch.Output(a.keysAt, int(n))
	if err != nil {
		return nil, err
	}
	user, userErr := a.user.Result()
	for ; len(keys) >= 4 && !strings.HasPrefix(s.name, "_uid"); keys = keys[4:] {
		key := int32(binary.NativeEndian.Uint32(keys))
		if userErr == nil && int64(key) == user {
			s.linked = true
		} else if err := s.take(a, key); err != nil {
			return nil, kind.Unsupported(where(a.q), "its session keyring %q holds a key, number %d, that would be lost (%v); take it out (keyctl unlink), or dump from within the same session", s.name, key, err)
		}
	}
	return s, nil
}

// sessionKeyring is what comes back of one.
type sessionKeyring struct {
	userKey // without a payload
	serial  uint32
	linked  bool
	keys    []*userKey
}

// take adds a key that the keyring holds.
func (s *sessionKeyring) take(a *asked, id int32) error {
	k, err := a.key(id)
	if err != nil {
		return err
	}
	s.keys = append(s.keys, k)
	sum := 0
	for _, k := range s.keys {
		sum += len(k.payload)
	}
	if sum > mostPayload {
		return fmt.Errorf("its keys have %d bytes", sum)
	}
	return nil
}

// parseKeyring parses what KEYCTL_DESCRIBE says of a keyring.
func parseKeyring(text string) (*sessionKeyring, error) {
	s := &sessionKeyring{}
	if err := parseKey(text, "keyring", &s.userKey); err != nil {
		return nil, fmt.Errorf("a session keyring: %w", err)
	}
	return s, nil
}

const keyringHead = 5 * 4 // bytes before the name

func (s *sessionKeyring) encode() []byte {
	b := make([]byte, keyringHead, keyringHead+len(s.name))
	linked := uint32(0)
	if s.linked {
		linked = 1
	}
	for i, v := range [...]uint32{s.serial, s.uid, s.gid, s.perm, linked} {
		binary.LittleEndian.PutUint32(b[4*i:], v)
	}
	b = append(append(b, s.name...), 0)
	for _, k := range s.keys {
		b = k.encode(b)
	}
	return b
}

func decodeKeyring(x kind.Extra) (*sessionKeyring, error) {
	b, ok := x[extraKeyring]
	if !ok {
		return nil, nil
	}
	end := -1
	if len(b) > keyringHead {
		end = bytes.IndexByte(b[keyringHead:], 0)
	}
	if end <= 0 || end >= mostKeyLen || b[keyringHead] == '.' {
		return nil, fmt.Errorf("core image: extra state %q: %d bytes that can't be", extraKeyring, len(b))
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	s := &sessionKeyring{serial: word(0), linked: word(4) == 1}
	s.uid, s.gid, s.perm, s.name = word(1), word(2), word(3), string(b[keyringHead:keyringHead+end])
	var err error
	if s.keys, err = decodeKeys(b[keyringHead+end+1:]); err != nil {
		return nil, fmt.Errorf("core image: extra state %q: %w", extraKeyring, err)
	}
	return s, nil
}

// anonymous is what the kernel calls keyrings without a name.
const anonymousKeyring = "_ses"

// Begin implements kind.Newborn.
func (*Keyring) Begin(r *kind.Redo, parent *core.CoreEntry, _ int32) error {
	s, err := decodeKeyring(r.Extra)
	if err != nil {
		return err
	}
	var its *sessionKeyring
	if parent != nil {
		x, err := ReadExtra(parent)
		if err != nil {
			return err
		}
		if its, err = decodeKeyring(x); err != nil {
			return err
		}
	}
	switch {
	case s == nil && its != nil:
		return fmt.Errorf("process %d has no session keyring of its own, but its parent has one, which it would get; dump them from within the parent's session", r.PID)
	case s == nil || its != nil && its.serial == s.serial:
		return nil
	}
	s.join(r, r.Core.GetThreadCore().GetCreds().GetUid())
	return nil
}

// join queues what gives a process a session keyring of a name. Who links a
// user's keyring has to be that user.
func (s *sessionKeyring) join(r *kind.Redo, user uint32) {
	name := uint64(0)
	if s.name != anonymousKeyring {
		name = uint64(r.Batch.String(s.name))
	}
	ring := spec(unix.KEY_SPEC_SESSION_KEYRING)
	r.Batch.Call("keyctl KEYCTL_JOIN_SESSION_KEYRING "+s.name, unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, name)
	if s.linked {
		const same = uint64(1<<32 - 1)
		r.Batch.Call("setresuid", unix.SYS_SETRESUID, uint64(user), same, same)
		r.Batch.Call("keyctl KEYCTL_LINK", unix.SYS_KEYCTL, unix.KEYCTL_LINK, spec(unix.KEY_SPEC_USER_KEYRING), ring)
		r.Batch.Call("setresuid", unix.SYS_SETRESUID, 0, same, same)
	}
	for _, k := range s.keys {
		k.add(r, ring)
	}
	r.Batch.Call("keyctl KEYCTL_CHOWN", unix.SYS_KEYCTL, unix.KEYCTL_CHOWN, ring, uint64(s.uid), uint64(s.gid))
	r.Batch.Call("keyctl KEYCTL_SETPERM", unix.SYS_KEYCTL, unix.KEYCTL_SETPERM, ring, uint64(s.perm))
}

// Restore implements kind.Facet: all is done by Begin.
func (*Keyring) Restore(*kind.Redo) error { return nil }
