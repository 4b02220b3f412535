package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/stats"
	"glis.dev/glis/image/proto"
)

// writePidfile writes the root's number where the user wants it; the file
// must not be there yet.
func (r *restore) writePidfile() error {
	if r.opts.Pidfile == "" {
		return nil
	}
	f, err := os.OpenFile(r.opts.Pidfile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("--pidfile: %w; give a name that is free, in a directory that is there", err)
	}
	r.undo.Push("the PID file", func() error { return os.Remove(r.opts.Pidfile) })
	_, err = f.WriteString(strconv.Itoa(int(r.tree.root.pid)))
	return errors.Join(err, f.Close())
}

// stats returns the figures of this restore in criu's units: microseconds and
// pages.
func (r *restore) stats(took time.Duration) *stats.RestoreStatsEntry {
	return &stats.RestoreStatsEntry{
		PagesCompared: proto.Uint64(r.pages.Compared), PagesSkippedCow: proto.Uint64(r.pages.SharedCow), PagesRestored: proto.Uint64(r.pages.Restored),
		ForkingTime: proto.Uint32(uint32(r.forking.Microseconds())), RestoreTime: proto.Uint32(uint32(took.Microseconds())),
	}
}

// writeStats writes stats-restore, over that of an earlier restore.
func (r *restore) writeStats(of *stats.RestoreStatsEntry) error {
	s, e := r.store, &stats.StatsEntry{Restore: of}
	if r.opts.WorksApart() {
		return image.WriteStats(r.opts.WorkDir, image.StatsRestore, e)
	}
	if err := s.Remove(image.StatsRestore.FileName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return image.WriteOne(s, image.StatsRestore, e)
}
