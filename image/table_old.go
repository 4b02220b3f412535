package image

import (
	sa "glis.dev/glis/image/criu/criu-sa"
	"glis.dev/glis/image/criu/eventfd"
	"glis.dev/glis/image/criu/eventpoll"
	extfile "glis.dev/glis/image/criu/ext-file"
	"glis.dev/glis/image/criu/fifo"
	"glis.dev/glis/image/criu/fsnotify"
	"glis.dev/glis/image/criu/ns"
	packetsk "glis.dev/glis/image/criu/packet-sock"
	"glis.dev/glis/image/criu/pidfd"
	"glis.dev/glis/image/criu/pipe"
	"glis.dev/glis/image/criu/regfile"
	"glis.dev/glis/image/criu/rlimit"
	"glis.dev/glis/image/criu/siginfo"
	"glis.dev/glis/image/criu/signalfd"
	inetsk "glis.dev/glis/image/criu/sk-inet"
	netlinksk "glis.dev/glis/image/criu/sk-netlink"
	unixsk "glis.dev/glis/image/criu/sk-unix"
	"glis.dev/glis/image/criu/timer"
	"glis.dev/glis/image/criu/timerfd"
	"glis.dev/glis/image/criu/tty"
	"glis.dev/glis/image/criu/tun"
	"glis.dev/glis/image/criu/vma"
	"glis.dev/glis/image/proto"
)

// oldRows are the files in which criu kept one sort of thing each before they
// moved into files.img, core-*.img and mm-*.img. They are listed so that they
// can be recognised and shown.
func oldRows() []*Row {
	return []*Row{
		oldRow("reg-files", magicRegFiles, of[regfile.RegFileEntry]),
		oldRow("ext-files", magicExtFiles, of[extfile.ExtFileEntry]),
		oldRow("ns-files", magicNSFiles, of[ns.NsFileEntry]),
		oldRow("eventfd", magicEventFD, of[eventfd.EventfdFileEntry]),
		oldRow("eventpoll", magicEpoll, of[eventpoll.EventpollFileEntry]),
		oldRow("eventpoll-tfd", magicEpollTFD, of[eventpoll.EventpollTfdEntry]),
		oldRow("signalfd", magicSignalFD, of[signalfd.SignalfdEntry]),
		oldRow("inotify", magicInotify, of[fsnotify.InotifyFileEntry]),
		oldRow("inotify-wd", magicInotifyWD, of[fsnotify.InotifyWdEntry]),
		oldRow("fanotify", magicFanotify, of[fsnotify.FanotifyFileEntry]),
		oldRow("fanotify-mark", magicFanMark, of[fsnotify.FanotifyMarkEntry]),
		oldRow("pipes", magicPipes, of[pipe.PipeEntry]),
		oldRow("fifo", magicFifo, of[fifo.FifoEntry]),
		oldRow("unixsk", magicUnixSk, of[unixsk.UnixSkEntry]),
		oldRow("inetsk", magicInetSk, of[inetsk.InetSkEntry]),
		oldRow("packetsk", magicPacketSk, of[packetsk.PacketSockEntry]),
		oldRow("netlinksk", magicNetlinkSk, of[netlinksk.NetlinkSkEntry]),
		oldRow("tty", magicTTYFiles, of[tty.TtyFileEntry]),
		oldRow("tunfile", magicTunFile, of[tun.TunfileEntry]),
		oldRow("timerfd", magicTimerFD, of[timerfd.TimerfdEntry]),
		oldRow("pidfd", magicPidFD, of[pidfd.PidfdEntry]),
		oldTaskRow("vmas", magicVMAs, of[vma.VmaEntry]),
		oldTaskRow("sigacts", magicSigActs, of[sa.SaEntry]),
		oldTaskRow("itimers", magicITimers, of[timer.ItimerEntry]),
		oldTaskRow("posix-timers", magicPosixTimers, of[timer.PosixTimerEntry]),
		oldTaskRow("rlimit", magicRLimit, of[rlimit.RlimitEntry]),
		oldTaskRow("signal-s", magicSignal, of[siginfo.SiginfoEntry]),
		oldTaskRow("signal-p", magicSignal, of[siginfo.SiginfoEntry]),
	}
}

func oldRow(name string, magic uint32, mk func() proto.Message) *Row {
	return &Row{Name: name, Pattern: name + ".img", Magic: magic, Common: CommonMagic, New: mk, Old: true}
}

func oldTaskRow(name string, magic uint32, mk func() proto.Message) *Row {
	r := oldRow(name, magic, mk)
	r.Pattern = name + "-%d.img"
	return r
}
