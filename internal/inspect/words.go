package inspect

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/internal/kinds"
)

// word looks a number up; one that is not known is printed with what it is.
func word(words map[uint32]string, n uint32, what string) string {
	if w, ok := words[n]; ok {
		return w
	}
	return fmt.Sprintf("%s %d", what, n)
}

// bitWord names the bits of mask.
type bitWord struct {
	mask uint32
	word string
}

// bitWords names the bits of flags; those without a name come last, as one
// number.
func bitWords(words []bitWord, flags uint32) []string {
	var all []string
	for _, b := range words {
		if flags&b.mask != b.mask {
			continue
		}
		flags &^= b.mask
		if b.word != "" {
			all = append(all, b.word)
		}
	}
	if flags != 0 {
		all = append(all, fmt.Sprintf("%#x", flags))
	}
	return all
}

// kindWords are criu's types of files by number.
var kindWords = [...]string{
	"undefined", "file", "pipe", "fifo", "inet socket", "unix socket", "eventfd", "epoll", "inotify", "signalfd",
	"packet socket", "tty", "fanotify", "netlink socket", "namespace", kindTun, kindExternal, "timerfd", "memfd", "bpf map", "pidfd",
}

func kindWord(n int32) string {
	if n >= 0 && int(n) < len(kindWords) {
		return kindWords[n]
	}
	return fmt.Sprintf("kind %d", n)
}

// taskState names criu's task_state.
func taskState(n uint32) string {
	return word(map[uint32]string{
		1: stateRunning, 2: stateZombie, 3: stateStopped, 4: "helper", 5: "thread", 6: stateZombie,
	}, n, "state")
}

// exitWords is a wait status in words.
func exitWords(status uint32) string {
	if sig := status & 0x7f; sig != 0 {
		return "signal " + signalWord(int(sig))
	}
	return fmt.Sprintf("status %d", status>>8&0xff)
}

func signalWord(n int) string {
	if s := unix.SignalName(unix.Signal(n)); s != "" {
		return s
	}
	return strconv.Itoa(n)
}

func signalWords(mask uint64) []string {
	var all []string
	for n := range 64 {
		if mask&(1<<n) != 0 {
			all = append(all, signalWord(n+1))
		}
	}
	return all
}

func machineWord(n int32) string {
	return word(map[uint32]string{
		1: "x86-64", 2: "arm", 3: "aarch64", 4: "ppc64", 5: "s390", 6: "mips", 7: "loongarch64", 8: "riscv64",
	}, uint32(n), "machine")
}

func seccompWord(n int32) string {
	return word(map[uint32]string{0: "", 1: "strict", 2: "filter"}, uint32(n), "mode")
}

// Access modes of open(2).
const (
	accessRead  = 0
	accessWrite = 1
	accessBoth  = 2
	accessMask  = 3
)

// openWords names flags of open(2) as the machine of the tasks has them.
func (r *reader) openWords(flags uint32) []string {
	const path = 0o10000000
	words := []bitWord{
		{0o2000, "append"}, {0o4000, "nonblock"}, {0o4010000, "sync"}, {0o10000, "dsync"}, {0o20000, "async"},
		{0o1000000, "noatime"}, {0o2000000, ""}, // O_CLOEXEC: descriptors have it
		{0o100, "create"}, {0o200, "excl"}, {0o400, "noctty"}, {0o1000, "truncate"},
	}
	switch core.CoreEntryMarch(r.mtype) {
	case core.CoreEntry_ARM, core.CoreEntry_AARCH64, core.CoreEntry_PPC64:
		words = append(words, []bitWord{{0o20040000, "tmpfile"}, {0o40000, "directory"}, {0o100000, "nofollow"}, {0o200000, "direct"}, {0o400000, ""}}...)
	default:
		words = append(words, []bitWord{{0o20200000, "tmpfile"}, {0o200000, "directory"}, {0o400000, "nofollow"}, {0o40000, "direct"}, {0o100000, ""}}...)
	}
	access := [...]string{"read", "write", "read-write", "access 3"}[flags&accessMask]
	if flags&path != 0 {
		access = "path"
	}
	return append([]string{access}, bitWords(words, flags&^(accessMask|path))...)
}

func epollWords(events uint32) []string {
	return bitWords([]bitWord{
		{0x1, "in"}, {0x2, "pri"}, {0x4, "out"}, {0x8, "err"}, {0x10, "hup"}, {0x40, "rdnorm"}, {0x80, "rdband"},
		{0x100, "wrnorm"}, {0x200, "wrband"}, {0x400, "msg"}, {0x2000, "rdhup"}, {1 << 28, "exclusive"}, {1 << 29, "wakeup"},
		{1 << 30, "oneshot"}, {1 << 31, "edge-triggered"},
	}, events)
}

// watchWords names events of inotify(7), which are those of fanotify(7) too.
func watchWords(events uint32) []string {
	return bitWords([]bitWord{
		{0x1, "access"}, {0x2, "modify"}, {0x4, "attrib"}, {0x8, "close-write"}, {0x10, "close-nowrite"}, {0x20, "open"},
		{0x40, "moved-from"}, {0x80, "moved-to"}, {0x100, "create"}, {0x200, "delete"}, {0x400, "delete-self"}, {0x800, "move-self"},
	}, events)
}

func sealWords(seals uint32) []string {
	return bitWords([]bitWord{{1, "seal"}, {2, "shrink"}, {4, "grow"}, {8, "write"}, {16, "future-write"}, {32, "exec"}}, seals)
}

func clockWord(n uint32) string {
	return word(map[uint32]string{0: "realtime", 1: "monotonic", 7: "boottime", 8: "realtime alarm", 9: "boottime alarm"}, n, "clock")
}

func terminalWord(n int32) string {
	return word(map[uint32]string{1: "pty", 2: "console", 3: "vt", 4: "current", 5: "external", 6: "serial"}, uint32(n), "type")
}

func remapWord(n int32) string {
	return word(map[uint32]string{0: "linked", 1: "ghost", 2: "procfs"}, uint32(n), "remap")
}

// namespaceWord names a CLONE_NEW* flag.
func namespaceWord(flag uint32) string {
	return word(map[uint32]string{
		0x80: "time", 0x20000: "mnt", 0x2000000: "cgroup", 0x4000000: "uts", 0x8000000: "ipc",
		0x10000000: "user", 0x20000000: "pid", 0x40000000: "net",
	}, flag, "namespace")
}

func familyWord(n uint32) string {
	return word(map[uint32]string{2: "inet", 10: "inet6"}, n, "family")
}

func socketTypeWord(n uint32) string {
	return word(map[uint32]string{1: "stream", 2: "dgram", 3: "raw", 5: "seqpacket", 10: "packet"}, n&0xf, "type")
}

func protocolWord(n uint32) string {
	return word(map[uint32]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp", 136: "udplite", 255: "raw", 262: "mptcp"}, n, "protocol")
}

func netlinkWord(n uint32) string {
	return word(map[uint32]string{
		0: "route", 2: "usersock", 4: "sock_diag", 5: "nflog", 6: "xfrm", 7: "selinux", 9: "audit",
		11: "connector", 12: "netfilter", 15: "kobject_uevent", 16: "generic", 21: "crypto",
	}, n, "protocol")
}

// Kinds of files that sockets of Glis's own are, or things alike.
const (
	kindTun      = "tun"
	kindExternal = "external"
)

const stateListening = "listening"

// tcpStateWord names a state of tcp(7).
func tcpStateWord(n uint32) string {
	return word(map[uint32]string{
		1: "established", 2: "syn-sent", 3: "syn-recv", 4: "fin-wait1", 5: "fin-wait2", 6: "time-wait",
		7: "closed", 8: "close-wait", 9: "last-ack", 10: stateListening, 11: "closing", 12: "new-syn-recv",
	}, n, "state")
}

// unixStateWord names a state: the numbers are TCP's.
func unixStateWord(n uint32) string {
	return word(map[uint32]string{1: "established", 7: "unconnected", 10: stateListening}, n, "state")
}

func lockKindWord(n uint32) string {
	return word(map[uint32]string{1: "posix", 2: "flock", 4: "ofd", 8: "lease"}, n, "lock")
}

func lockTypeWord(n uint32) string {
	return word(map[uint32]string{0: "read", 1: "write", 2: "unlock"}, n, "type")
}

// optionWord names an option of a socket.
func optionWord(level, name uint32) string {
	if known := kinds.OptionName(int(level), int(name)); known != "" {
		return known
	}
	levels := map[uint32]string{0: "SOL_IP", 1: "SOL_SOCKET", 6: "SOL_TCP", 17: "SOL_UDP", 136: "SOL_UDPLITE", 41: "SOL_IPV6", 263: "SOL_PACKET", 270: "SOL_NETLINK"}
	return fmt.Sprintf("%s %d", word(levels, level, "level"), name)
}
