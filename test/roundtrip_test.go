package test

import (
	"cmp"
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/testkit"
)

// target is a C program in targets/ and what is special about it.
type target struct {
	name        string // of the test
	src         string // file in targets/ without .c; name if empty
	args        []string
	flags       []string // for gcc
	generations int
	changing    bool     // see testkit.Program
	dump        []string // options
	restore     []string
	needs       func(testing.TB) // sees to what the machine has to have for it
	noCRIU      string           // why CRIU 4.2 cannot do it, "" if it can
	noCRIUDump  string           // why it can only restore it
	noCRIUBack  string           // why it can only dump it
}

// targets is every feature that is saved; the same table feeds the
// interchange with CRIU.
var targets = []target{
	{name: "tree"},
	{name: "orphan", noCRIU: "orphans of a session get another parent"},
	{name: "besides", generations: 3, noCRIU: "what siblings share"},
	{name: "leftabove", generations: 3, noCRIU: "orphans of a session get another parent"},
	{name: "sessionapart", generations: 3, noCRIU: "orphans of a session get another parent"},
	{name: "zombies"},
	{name: "threads", args: []string{"20"}, generations: 3},
	{name: "threads1000", src: "threads", args: []string{"1000"}},
	{name: "static", src: "threads", args: []string{"3"}, flags: []string{"-static"}},
	{name: "firststopped", generations: 3, noCRIUDump: "a thread that has ended can't be traced", noCRIUBack: "its first thread ends when it goes on"},
	{name: "firstends", generations: 3, noCRIUDump: "a thread that has ended can't be traced", noCRIUBack: "personality and timer slack are lost"},
	{name: "regs", flags: []string{"-mno-red-zone"}},
	{name: "signals"},
	{name: "pending"},
	{name: "contwaits", noCRIUDump: "a thread that sleeps beside it wakes up"},
	{name: "stopwaits", noCRIUDump: "credentials in queues are refused"},
	{name: "rseq"},
	{name: "robust"},
	{name: "syscalls", changing: true},
	{name: "restart", changing: true, noCRIU: "EINTR from calls with a restart block"},
	{name: "restartbefore", src: "restart", args: []string{"before"}, changing: true, needs: threadMemory, noCRIU: "EINTR from calls with a restart block"},
	{name: "timelimit", flags: []string{"-pthread"}, generations: 3, changing: true, needs: kernelMemory, dump: established, restore: established, noCRIU: "connections that nobody accepted are refused"},
	{name: "connectlate", dump: established, restore: established, noCRIU: "connect(2) says EISCONN"},
	{name: "comm"},
	{name: "stoppedmany", noCRIU: "its threads go on for a moment"},
	{name: "stopped", noCRIU: "SIGTTIN and SIGTTOU stop nobody in a restored group"},
	{name: "creds", args: []string{"root"}},
	{name: "credsall", src: "creds", args: []string{"all"}, noCRIU: "other uids need CAP_SYS_RESOURCE"},
	{name: "heeds", args: []string{"root"}, flags: []string{"-pthread"}, generations: 3, noCRIU: "its end kills the tree"},
	{name: "heedsthread", src: "heeds", args: []string{"thread"}, flags: []string{"-pthread"}, generations: 3, noCRIU: "its end kills the tree"},
	{name: "attrs", args: []string{"basic"}},
	{name: "attrsmore", src: "attrs", args: []string{"more"}, noCRIU: "timer slack, personality and core filter are lost"},
	{name: "mdwe", generations: 3, needs: mdwe, noCRIU: "PR_SET_MDWE is lost"},
	{name: "keyring", args: []string{"1"}, noCRIU: "session keyrings are lost"},
	{name: "keyringnone", src: "keyring", args: []string{"0"}, noCRIU: "session keyrings are lost"},
	{name: "chroot"},
	{name: "itimers", args: []string{"long"}},
	{name: "itimersoff", src: "itimers", args: []string{"off"}, noCRIU: "a timer that is off begins"},
	{name: "itimershort", src: "itimers", args: []string{"short"}},
	{name: "posixtimers", changing: true},
	{name: "lowered", noCRIU: "timers need RLIMIT_SIGPENDING"},
	{name: "manycalls", dump: []string{"--file-locks"}, restore: []string{"--file-locks"}},
	{name: "seccomp", args: []string{"base"}, noCRIU: "threads with the same filters can't get one more together"},
	{name: "seccompthread", src: "seccomp", args: []string{"more"}, noCRIU: "other uids need CAP_SYS_RESOURCE"},
	{name: "speculation", flags: []string{"-pthread"}, generations: 3, noCRIU: "it is lost"},
	{name: "guards", generations: 3, needs: guards, noCRIU: "they are lost"},
	{name: "privfile"},
	{name: "stack"},
	{name: "heap"},
	{name: "vdso"},
	{name: "vdsogone", generations: 3, noCRIU: "the code is mapped again"},
	{name: "protnone"},
	{name: "madvise", args: []string{"10"}},
	{name: "madviseall", src: "madvise", args: []string{"11"}, noCRIU: "MLOCK_ONFAULT becomes a plain lock"},
	{name: "advised", generations: 3},
	{name: "lockall", args: []string{"2"}, generations: 3, noCRIU: "memory that is mapped afterwards isn't locked"},
	{name: "lockallonfault", src: "lockall", args: []string{"6"}, generations: 3, noCRIU: "memory that is mapped afterwards isn't locked"},
	{name: "shared"},
	{name: "sysv", generations: 3, noCRIU: "it wants an IPC namespace of its own"},
	{name: "memfd", args: []string{"base"}},
	{name: "memfdpath", src: "memfd", args: []string{"more"}, generations: 3, noCRIU: "opened with O_PATH it is another file"},
	{name: "hugepages", args: []string{"base"}, needs: twentyHugePages},
	{name: "hugepagesmore", src: "hugepages", args: []string{"more"}, needs: twentyHugePages, noCRIU: "System V shared memory wants an IPC namespace of its own"},
	{name: "aio", generations: 3, needs: kernelMemory},
	{name: "cow", args: []string{"same"}},
	{name: "cowolder", src: "cow", args: []string{"older"}, generations: 3, noCRIU: "only what the parent still has is shared again"},
	{name: "cowoldercut", src: "cow", args: []string{"oldercut"}, generations: 3, noCRIU: "only what the parent still has is shared again"},
	{name: "cowsplit", src: "cow", args: []string{"split"}, noCRIU: "mappings cut after the fork are not shared again"},
	{name: "vmas", args: []string{"3000"}},
	{name: "regular", args: []string{"8"}},
	{name: "devices", src: "regular", args: []string{"17"}},
	{name: "directories", src: "regular", args: []string{"19"}, noCRIU: "O_DIRECTORY is lost"},
	{name: "dirowner", generations: 3, needs: kernelMemory},
	{name: "dnotify", generations: 3, needs: kernelMemory, noCRIU: "it is lost"},
	{name: "pressure", generations: 3, needs: pressureMemory, noCRIU: "what was written is lost"},
	{name: "renamed", generations: 3},
	{name: "ghosts", args: []string{"base"}},
	{name: "ghostsmore", src: "ghosts", args: []string{"more"}, noCRIU: "O_TMPFILE and symbolic links without a name"},
	{name: "linkremap", dump: []string{"--link-remap"}},
	{name: "pipes", args: []string{"base"}},
	{name: "pipemixed", generations: 3, noCRIU: "no packet mode of pipes"},
	{name: "packets", src: "pipes", args: []string{"more"}, noCRIU: "no packet mode of pipes, si_fd is another one"},
	{name: "fifo", args: []string{"base"}},
	{name: "fifomore", src: "fifo", args: []string{"more"}, noCRIU: "a reader that never had a writer is told that it has gone"},
	{name: "eventfd", args: []string{"base"}},
	{name: "semaphore", src: "eventfd", args: []string{"more"}, noCRIU: "EFD_SEMAPHORE and the upper half of a counter are lost"},
	{name: "epoll", args: []string{"base"}},
	{name: "epollmore", src: "epoll", args: []string{"more"}, noCRIU: "a member whose number was closed gets another one"},
	{name: "epollshared", noCRIU: "it watches what the first process has closed"},
	{name: "epollsent", noCRIU: "a member whose number was closed gets another one"},
	{name: "timerfd", changing: true},
	{name: "signalfd"},
	{name: "pidfd", noCRIU: "how a dead process ended is lost"},
	{name: "locks", dump: []string{"--file-locks"}, restore: []string{"--file-locks"}, noCRIU: "record locks of a child on a shared descriptor are lost"},
	{name: "ttygone", generations: 3},
	{name: "vt", generations: 3, noCRIUBack: "children of a session lose its terminal"},
	{name: "fdinfos", generations: 3, noCRIU: "it opens them before the descriptors are there"},
	{name: "deadproc", generations: 3, dump: []string{"--link-remap"}, noCRIUBack: "O_DIRECTORY is lost"},
	{name: "leases", dump: []string{"--file-locks"}, restore: []string{"--file-locks"}, noCRIU: "what is mapped is opened once more, which waits for the lease"},
	{name: "pty", noCRIU: "children of a session lose its terminal"},
	{name: "ptyfull", generations: 3, noCRIU: "a terminal that was locked again can't be opened, and what is on the way in full ones is lost"},
	{name: "inotify", noCRIU: "one-shot watches do not end"},
	{name: "inotifynext", src: "inotify", args: []string{"next"}, needs: kernelMemory, noCRIU: "one-shot watches do not end"},
	{name: "fanotifyunpriv", generations: 3, needs: kernelMemory, noCRIU: "afterwards it is told who did something"},
	{name: "nsfile"},
	{name: "queues", noCRIU: "descriptors of POSIX message queues are refused"},
	{name: "sharedfd"},
	{name: "sharedring", needs: kernelMemory},
	{name: "unixwaitingbase", src: "unixwaiting", args: []string{"base"}},
	{name: "unixwaiting", args: []string{"more"}, generations: 3, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixgarbage", generations: 3, noCRIU: "it leaves garbage, whose names nobody can have"},
	{name: "unixrebound", generations: 3, noCRIU: "clients that are closed are refused"},
	{name: "unixdeserted", generations: 3, noCRIU: "names of closed peers are lost"},
	{name: "unixlone", generations: 3, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixhanging", generations: 3, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixattached", generations: 3, dump: established, restore: established, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixwatches", generations: 3, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixsharing", generations: 3, dump: established, restore: established, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixfitted", generations: 3, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixpty", generations: 3, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixstandin", generations: 3, dump: []string{"--file-locks"}, restore: []string{"--file-locks"}, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "inetaway", generations: 3, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixlocked", generations: 3, dump: []string{"--file-locks"}, restore: []string{"--file-locks"}, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixaway", generations: 3, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixunheld", generations: 3, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "unixpair"},
	{name: "unixpairs", args: []string{"300", "6000"}, generations: 3},
	{name: "unixpairslong", src: "unixpairs", args: []string{"20", "30000"}},
	{name: "unixnames", generations: 3, noCRIU: "names and credentials of connected sockets are lost"},
	{name: "unixdgram", generations: 3, noCRIU: "senders and names are lost"},
	{name: "unixlong", generations: 3, noCRIU: "credentials are lost"},
	{name: "unixqueue", generations: 3, needs: kernelMemory, noCRIU: "credentials, urgent data, and what is in sockets in queues are lost"},
	{name: "unixpass", generations: 3, noCRIU: "credentials are lost"},
	{name: "listen", args: []string{"base"}},
	{name: "listenmore", src: "listen", args: []string{"more"}, noCRIU: "options of TCP and IP, and who listened, are lost"},
	{name: "autobound", generations: 3, needs: kernelMemory, noCRIU: "ports that the kernel gave are kept"},
	{name: "tcp", args: []string{"3", "5000", "base"}, generations: 3, dump: established, restore: established},
	{name: "tcpmore", src: "tcp", args: []string{"1", "100", "more"}, dump: established, restore: established, noCRIU: "options are lost, SO_REUSEPORT is on afterwards"},
	// So many that options are taken from connections that are alike.
	{name: "tcpmany", src: "tcp", args: []string{"12", "100", "more"}, dump: established, restore: established, noCRIU: "options are lost, SO_REUSEPORT is on afterwards"},
	{name: "tcpclosing", src: "tcp", args: []string{"3", "5000", "closing"}, dump: established, restore: established},
	{name: "tcpfull", src: "tcp", args: []string{"1", "0", "base"}, dump: established, restore: established},
	{name: "quickack", args: []string{"1"}, generations: 3, dump: established, restore: established, noCRIU: "it is lost"},
	{name: "quickackmany", src: "quickack", args: []string{"3"}, generations: 3, dump: established, restore: established, noCRIU: "it is lost"},
	{name: "pace", generations: 3, needs: pacing, dump: established, restore: established, noCRIU: "connections begin anew to find out how fast they may send, and without ECN"},
	{name: "shutbefore", args: []string{"4"}, dump: established, restore: established, noCRIU: "connections that nobody accepted are refused"},
	{name: "shutbefore6", src: "shutbefore", args: []string{"6"}, dump: established, restore: established, noCRIU: "connections that nobody accepted are refused"},
	{name: "tcpqueue", dump: established, restore: established, noCRIU: "connections that nobody accepted are refused"},
	{name: "everykind", generations: 3, dump: established, restore: established, noCRIU: "connections in queues stay in repair mode, and some kinds are refused"},
	{name: "tcpsent", generations: 3, dump: established, restore: established, noCRIU: "connections in queues stay in repair mode"},
	{name: "tcpsentnames", src: "tcpsent", args: []string{"names"}, generations: 3, dump: established, restore: established, noCRIU: "connections in queues stay in repair mode"},
	{name: "urgent", dump: established, restore: established, noCRIU: "what is behind urgent data is lost"},
	{name: "raw", generations: 3, noCRIU: "peers, and addresses of ping, are lost"},
	{name: "packet", generations: 3, noCRIU: "options, and how often it is in a group, are lost"},
	{name: "packetring", generations: 3, needs: kernelMemory, noCRIU: "what is in a ring is lost"},
	{name: "packetofcriu", src: "ofcriu", args: []string{"packet"}, generations: 2},
	{name: "netlinkofcriu", src: "ofcriu", args: []string{"netlink"}, generations: 2},
	{name: "rawofcriu", src: "ofcriu", args: []string{"raw"}, generations: 2},
	{name: "packetqueue", generations: 3, needs: kernelMemory, noCRIU: "what is in the queues is lost"},
	{name: "packetmoved", generations: 4, needs: kernelMemory, noCRIU: "what is in a ring is lost"},
	{name: "known"},
	{name: "families", generations: 2, noCRIU: "vsock and AF_XDP are refused"},
	{name: "tun", generations: 2, noCRIU: "of a network namespace of its own only"},
	{name: "netlink", generations: 3, noCRIU: "options, and SOCK_DGRAM, are lost; groups above 32 are refused"},
	{name: "remapaddr", src: "tcpqueue", generations: 1, dump: established, restore: []string{"--tcp-established", "--remap-addr", "127.0.0.1=127.0.0.2"}, noCRIU: "no such option"},
	{name: "udp", noCRIU: "what is in the queues is lost"},
	// So many that the kernel's memory tells of most.
	{name: "udphanded", src: "udp", args: []string{"handed"}, generations: 3, needs: kernelMemory, noCRIU: "what waiting clients have sent is refused"},
	{name: "udpmany", src: "udp", args: []string{"many"}, generations: 3, noCRIU: "what is in the queues is lost"},
	{name: "freebind", generations: 3, noCRIU: "it can not be bound again"},
	{name: "sharedport", generations: 3, dump: established, restore: established, needs: threadMemory, noCRIU: "it can not be bound again, and what waits is lost"},
	{name: "multicast", noCRIU: "memberships are lost"},
	{name: "programs", generations: 3, noCRIU: "programs are lost"},
	{name: "unseen", generations: 3, noCRIU: "what no option tells is lost"},
	{name: "unixowner", generations: 3, noCRIU: "sockets without a peer are refused"},
	{name: "unixjail", generations: 3, noCRIU: "sockets that were bound before chroot are not found"},
	{name: "unixpath", generations: 3, noCRIU: "sockets opened with O_PATH are refused"},
	{name: "labels", generations: 2, needs: ownNetwork, dump: established, restore: established, noCRIU: "flow labels are lost"},
	{name: "manyfds", args: []string{"1100"}},
	{name: "manyopen", args: []string{"3000"}, generations: 3},
	{name: "manyopenfew", src: "manyopen", args: []string{"500"}, generations: 3},
}

// established is what a connection needs, at dump and restore.
var established = []string{"--tcp-established"}

// mdwe is for what needs PR_SET_MDWE.
func mdwe(t testing.TB) {
	testkit.Require(t, testkit.Feature{Name: "PR_SET_MDWE", Since: testkit.Version{Major: 6, Minor: 3}, Probe: func() error { return unix.Prctl(unix.PR_GET_MDWE, 0, 0, 0, 0) }})
}

// guards are seen since 6.15.
func guards(t testing.TB) {
	testkit.Require(t, testkit.Feature{Name: "MADV_GUARD_INSTALL", Since: testkit.Version{Major: 6, Minor: 15}, Probe: func() error {
		page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		return errors.Join(unix.Madvise(page, unix.MADV_GUARD_INSTALL), unix.Munmap(page))
	}})
}

// ownNetwork has a test, and what it starts, be in a network namespace of its own.
func ownNetwork(t testing.TB) {
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	mustDo(t, unix.Unshare(unix.CLONE_NEWNET))
	testkit.Here().Up(t, "lo")
	kernelMemory(t)
}

// kernelMemory is for what nothing else tells.
func kernelMemory(t testing.TB) {
	r, err := kmem.Open("kioctx.user_id")
	testkit.KernelMemory(t, err)
	mustDo(t, r.Close())
}

// pressureMemory is kernelMemory of files of pressure.
func pressureMemory(t testing.TB) {
	n, err := unix.Open("/proc/pressure/cpu", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		testkit.Lacks(t, "pressure (CONFIG_PSI)", err, unix.ENOENT)
		testkit.Lacks(t, "pressure (psi=1)", err, unix.EOPNOTSUPP)
	}
	mustDo(t, unix.Close(n))
	kernelMemory(t)
}

// threadMemory is kernelMemory of any thread, and of Linux 6.9.
func threadMemory(t testing.TB) {
	kernelMemory(t)
	n, err := unix.PidfdOpen(unix.Getpid(), unix.PIDFD_THREAD)
	if err != nil {
		testkit.Lacks(t, "pidfds of threads (Linux 6.9)", err, unix.EINVAL)
	}
	mustDo(t, unix.Close(n))
}

// program builds the target.
func (x target) program(t testing.TB) testkit.Program {
	t.Helper()
	if x.needs != nil {
		x.needs(t)
	}
	src := x.src
	if src == "" {
		src = x.name
	}
	path := testkit.BuildC(t, "targets/"+src+".c", x.flags...)
	return testkit.Program{
		Argv:        append([]string{path}, x.args...),
		Generations: x.generations,
		Changing:    x.changing,
		DumpArgs:    x.dump,
		RestoreArgs: x.restore,
	}
}

func TestRoundTrip(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	for _, x := range targets {
		t.Run(x.name, func(t *testing.T) {
			if why := cmp.Or(x.noCRIU, x.noCRIUDump, x.noCRIUBack); !e.Glis && why != "" {
				testkit.Native(t, x.program(t))
				t.Skip("CRIU cannot: " + why)
			}
			testkit.RoundTrip(t, testkit.Engines{Saver: e, Restorer: e}, x.program(t))
		})
	}
}
