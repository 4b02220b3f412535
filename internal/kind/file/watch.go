package file

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/criu/fh"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// What inotify(7) and fanotify(7) watch is told by an inode, and a handle that
// opens it where the file system has such. A path is what a restore needs.

// watchedPaths finds the paths of watched inodes.
type watchedPaths struct {
	mounts   map[uint32][]*fd.FD // roots of mounts, by device
	known    map[inodeKey]string
	searched map[inodeKey]string // by --irmap-scan-path; nil: not yet
}

// find returns the path of an inode. dev is as the kernel has it.
func (w *watchedPaths) find(ctx context.Context, env *kind.DumpEnv, f *scan.File, dev uint32, ino uint64, h proc.FileHandle) (string, error) {
	if err := env.Check(); err != nil {
		return "", err
	}
	key := inodeKey{unix.Mkdev(dev>>20, dev&0xfffff), ino}
	if name := w.known[key]; name != "" {
		return name, nil
	}
	if err := w.open(); err != nil {
		return "", err
	}
	for _, m := range w.mounts[dev] {
		if h.Data == nil {
			break
		}
		if name, ok := byHandle(m, h, ino); ok {
			w.known[key] = name
			return name, nil
		}
	}
	if name, err := w.search(ctx, env, key); name != "" || err != nil {
		return name, err
	}
	if h.Data == nil {
		return "", kind.Unsupported(f, "it watches inode %d on a file system that gives no handles (device %d:%d), so that nobody knows its path; name a directory that it is in (--irmap-scan-path), let the program watch another one, or close it", ino, dev>>20, dev&0xfffff)
	}
	return "", kind.Unsupported(f, "it watches inode %d (device %d:%d), which has no path that can be seen: it was deleted, its mount is elsewhere, or its file system tells none (overlayfs); let the program take off that watch, or name a directory that it is in (--irmap-scan-path)", ino, dev>>20, dev&0xfffff)
}

// open opens the mounts of the engine's namespace, once.
func (w *watchedPaths) open() error {
	if w.mounts != nil {
		return nil
	}
	w.mounts, w.known = map[uint32][]*fd.FD{}, map[inodeKey]string{}
	self, err := proc.Open(proc.PID(os.Getpid()))
	if err != nil {
		return err
	}
	defer self.Close()
	all, err := proc.Mountinfo(self)
	if err != nil {
		return err
	}
	for _, m := range all {
		n, err := unix.Open(m.Mountpoint, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // hidden by another mount
		}
		dev := uint32(m.Major)<<20 | uint32(m.Minor)
		w.mounts[dev] = append(w.mounts[dev], fd.New(n))
	}
	return nil
}

// byHandle opens an inode by its handle and returns the path that leads to it.
func byHandle(mount *fd.FD, h proc.FileHandle, ino uint64) (string, bool) {
	n, err := unix.OpenByHandleAt(mount.Int(), unix.NewFileHandle(int32(h.Type), h.Data), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", false
	}
	defer unix.Close(n)
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", n))
	if err != nil || !strings.HasPrefix(name, "/") {
		return "", false
	}
	var at, its unix.Stat_t
	if unix.Lstat(name, &at) != nil || unix.Fstat(n, &its) != nil || at.Ino != ino || at.Ino != its.Ino || at.Dev != its.Dev {
		return "", false
	}
	return name, true
}

// close closes what open opened.
func (w *watchedPaths) close() {
	for _, all := range w.mounts {
		for _, d := range all {
			d.Close()
		}
	}
	w.mounts = nil
}

// handleWords is how many words criu's images have for a handle at least.
const handleWords = 16

// handleEntry is a handle as the image has it.
func handleEntry(h proc.FileHandle, name string) *fh.FhEntry {
	b := make([]byte, max(len(h.Data), handleWords*8)+7)
	copy(b, h.Data)
	e := &fh.FhEntry{Bytes: proto.Uint32(uint32(len(h.Data))), Type: proto.Uint32(h.Type), Path: proto.String(name)}
	for ; len(b) >= 8; b = b[8:] {
		e.Handle = append(e.Handle, binary.NativeEndian.Uint64(b))
	}
	return e
}

// watchedPath checks the path of a handle from an image. CRIU has it only
// where it had to search for it.
func watchedPath(e *fh.FhEntry, ino uint64) (string, error) {
	name := e.GetPath()
	if name == "" {
		return "", fmt.Errorf("inode %d is told without a path, by a handle that only its own file system knows, which Glis can't use; dump it with Glis, or with --force-irmap", ino)
	}
	if !strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) || len(name) >= unix.PathMax {
		return "", fmt.Errorf("%.80q is no absolute path", name)
	}
	return name, nil
}
