package standin

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/sockmem"
)

// queueNames are the members of structures that tell a POSIX message queue from others.
func queueNames() []string { return []string{"inode.i_sb", "super_block.s_magic"} }

// isQueue tells whether a file is a message queue that was opened by mq_open(2), which has a
// path in a file system of its IPC namespace's that is mounted nowhere.
func (k *Maker) isQueue(x *sockmem.Lone) (bool, error) {
	if x.Mode&unix.S_IFMT != unix.S_IFREG || strings.LastIndexByte(x.Path, '/') != 0 || !k.memory.Has("super_block.s_magic") || !k.memory.Has("inode.i_sb") {
		return false, nil
	}
	at, err := k.memory.Pointer(x.Inode + k.memory.Off("inode.i_sb"))
	if err != nil || at == 0 {
		return false, err
	}
	magic, err := k.memory.Pointer(at + k.memory.Off("super_block.s_magic"))
	return magic == kmem.Addr(linux.MQUEUE_MAGIC), err
}

// queue opens a message queue by its name once more: compare sees whether it is the same
// one, and not of another namespace. Nobody hears of that, and nothing is taken from it.
func (k *Maker) queue(x *sockmem.Lone) (*fd.FD, error) {
	name, err := k.memory.Name(x.At)
	if err != nil {
		return nil, err
	}
	if x.Flags&unix.O_PATH != 0 {
		return nil, unlike("it was opened with O_PATH")
	}
	n, err := linux.MqOpen(name, int(x.Flags)&(unix.O_ACCMODE|unix.O_NONBLOCK|unix.O_CLOEXEC))
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil, unlike("it is a message queue, /%s, whose name was removed, or of another IPC namespace", name)
	}
	if err != nil {
		return nil, fmt.Errorf("mq_open /%s: %w", name, err)
	}
	own := fd.New(n)
	if x.Pos != 0 {
		if _, err := unix.Seek(n, x.Pos, unix.SEEK_SET); err != nil {
			return nil, errors.Join(fmt.Errorf("put /%s at %d: %w", name, x.Pos, err), own.Close())
		}
	}
	return own, nil
}
