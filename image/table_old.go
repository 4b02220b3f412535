package image

import (
	sa "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-sa"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/eventfd"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/eventpoll"
	extfile "github.com/checkpoint-restore/go-criu/v8/crit/images/ext-file"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fifo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fsnotify"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/ns"
	packetsk "github.com/checkpoint-restore/go-criu/v8/crit/images/packet-sock"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pidfd"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/pipe"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/regfile"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/rlimit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/siginfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/signalfd"
	inetsk "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-inet"
	netlinksk "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-netlink"
	unixsk "github.com/checkpoint-restore/go-criu/v8/crit/images/sk-unix"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/timer"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/timerfd"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/tty"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/tun"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/vma"
	"google.golang.org/protobuf/proto"
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
