package inspect

import (
	"glis.dev/glis/image"
	lock "glis.dev/glis/image/criu/file-lock"
)

// readLocks reads the locks on files.
func (r *reader) readLocks() error {
	return optional(r, image.FileLocks, nil, func(e *lock.FileLockEntry) error {
		file, _ := ownNumber(e.Unknown())
		r.rep.Locks = append(r.rep.Locks, Lock{
			PID: e.GetPid(), FD: e.GetFd(), Kind: lockKindWord(e.GetFlag()), Type: lockTypeWord(e.GetType()),
			Start: e.GetStart(), Len: e.GetLen(), File: file,
		})
		return nil
	})
}
