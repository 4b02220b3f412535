package unix

import (
	"errors"
	"sync"

	sys "golang.org/x/sys/unix"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/par"
	"glis.dev/glis/internal/scan"
	"glis.dev/glis/internal/sockdiag"
)

// Most queues are streams of plain data at sockets of which every option is that
// of a new one. Of those it is known before what a reading changes: the guard is
// told of all at once, and they are read on all CPUs. What turns out to be
// something else is read once more, as all others are.
const (
	someAhead = 32       // queues from which on that pays
	longAhead = 64 << 10 // bytes that are more than plain
)

// errNotPlain ends the reading ahead of a queue.
var errNotPlain = errors.New("descriptors come along")

// plain is a queue that is read ahead.
type plain struct {
	file     *scan.File
	u        *sockdiag.Unix
	messages []*message
	err      error
}

// changes are what the reading of a queue of a new socket changes.
func changes() []linux.SockOpt {
	return []linux.SockOpt{{Level: sys.SOL_SOCKET, Name: sys.SO_PEEK_OFF, Value: -1}, {Level: sys.SOL_SOCKET, Name: sys.SO_PASSCRED}}
}

// readAhead reads plain queues, and notes which it has read.
func (k *Kind) readAhead(env *kind.DumpEnv) error {
	all, err := k.plainQueues(env)
	if err != nil || len(all) < someAhead {
		return err
	}
	if env.Guard != nil {
		files := make([]*scan.File, len(all))
		for i := range all {
			files[i] = all[i].file
		}
		if err := env.Guard.BackAll(files, changes()...); err != nil {
			return err
		}
	}
	err = par.Do(len(all), func(i int) error {
		if err := env.Check(); err != nil {
			return err
		}
		all[i].read(env, &k.rooms)
		return nil
	})
	if err != nil {
		return err
	}
	k.ahead = make(map[uint32]bool, len(all))
	for i := range all {
		if err := env.Check(); err != nil {
			return err
		}
		p := &all[i]
		if p.err != nil {
			continue
		}
		uneven, err := k.uneven(p.u, p.messages)
		if err != nil {
			return err
		}
		if uneven {
			continue
		}
		k.ahead[p.u.Ino] = true
		if len(p.messages) > 0 {
			k.queues[p.u.Ino] = &queued{messages: p.messages}
		}
	}
	return nil
}

// plainQueues finds what may be plain.
func (k *Kind) plainQueues(env *kind.DumpEnv) (all []plain, err error) {
	for _, f := range env.Tree.Files {
		if !isSocket(f) || f.Within != nil {
			continue
		}
		if err := env.Check(); err != nil {
			return nil, err
		}
		seen := k.seen.of(f)
		if !seen.seen || !seen.options {
			continue
		}
		u, err := k.picture.get(uint32(f.Stat.Ino))
		if err != nil {
			return nil, err
		}
		if u != nil && u.Type == sys.SOCK_STREAM && mayQueue(u) && u.RQueue <= longAhead {
			all = append(all, plain{file: f, u: u})
		}
	}
	return all, nil
}

// read reads one queue. The guard knows already.
func (p *plain) read(env *kind.DumpEnv, rooms *sync.Pool) {
	l := &look{env: env, file: p.file, u: p.u}
	if l.fd, p.err = p.file.Borrow(); p.err != nil {
		return
	}
	defer l.giveBack()
	q := &peeker{look: l, fd: l.fd.Int(), rooms: rooms, fresh: true, told: true, uneven: func([]*message) (bool, error) { return false, nil }}
	defer q.drop()
	if p.messages, p.err = q.all(); p.err == nil && q.counts {
		p.err = errNotPlain
	}
}
