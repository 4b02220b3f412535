package proc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const fdinfoHead = "pos:\t7\nflags:\t02100002\nmnt_id:\t17\nino:\t18\n"

func ptr[T any](v T) *T { return &v }

var fdinfoCases = []struct {
	name, text string
	want       FDInfo
}{
	{"plain", "", FDInfo{}},
	{"eventfd", "eventfd-count:               1f\neventfd-id: 3\neventfd-semaphore: 1\n",
		FDInfo{Eventfd: &Eventfd{Count: 31, ID: 3, Semaphore: true, Told: true}}},
	{"old eventfd", "eventfd-count:                0\n", FDInfo{Eventfd: &Eventfd{}}},
	{"epoll", "tfd:        4 events:       19 data: ffffffffffffffff  pos:0 ino:1bd80 sdev:f\n" +
		"tfd:       15 events: 80002019 data:                f  pos:9 ino:a sdev:fe00001\n",
		FDInfo{Epoll: []EpollTarget{
			{FD: 4, Events: 0x19, Data: 1<<64 - 1, Ino: 0x1bd80, Dev: 15},
			{FD: 15, Events: 0x80002019, Data: 15, Pos: 9, Ino: 10, Dev: 0xfe00001},
		}}},
	{"signalfd", "sigmask:\t0000000000000202\n", FDInfo{Sigmask: ptr(uint64(0x202))}},
	{"timerfd", "clockid: 7\nticks: 2\nsettime flags: 01\nit_value: (1, 999999999)\nit_interval: (0, 5)\n",
		FDInfo{Timerfd: &Timerfd{ClockID: 7, Ticks: 2, SettimeFlags: 1, Value: 1999999999, Interval: 5}}},
	{"inotify", "inotify wd:a ino:3c4a3 sdev:fe00000 mask:100 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:a3c4030000000000\n" +
		"inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0 \n",
		FDInfo{Inotify: []InotifyMark{
			{WD: 10, Ino: 0x3c4a3, Dev: 0xfe00000, Mask: 0x100, Handle: FileHandle{Type: 1, Data: []byte{0xa3, 0xc4, 3, 0, 0, 0, 0, 0}}},
			{WD: 1, Ino: 2, Dev: 3, Mask: 4},
		}}},
	{"fanotify", "fanotify flags:10 event-flags:8000\n" +
		"fanotify ino:3c sdev:fe mflags:1 mask:20 ignored_mask:40 fhandle-bytes:1 fhandle-type:fe f_handle:ff\n" +
		"fanotify mnt_id:1b mflags:0 mask:20 ignored_mask:0\n" +
		"fanotify sdev:fe00000 mflags:0 mask:20 ignored_mask:0\nfanotify mnt_ns:4026531841 mflags:0 mask:3000000 ignored_mask:0\n",
		FDInfo{Fanotify: &Fanotify{Flags: 0x10, EventFlags: 0x8000, Marks: []FanotifyMark{
			{On: "inode", Ino: 0x3c, Dev: 0xfe, MFlags: 1, Mask: 0x20, Ignored: 0x40, Handle: FileHandle{Type: 0xfe, Data: []byte{0xff}}},
			{On: "mount", MntID: 0x1b, Mask: 0x20},
			{On: "filesystem", Dev: 0xfe00000, Mask: 0x20},
			{On: "mntns", MntNS: 4026531841, Mask: 0x3000000},
		}}}},
	{"pidfd", "Pid:\t24146\nNSpid:\t24146\t5\n", FDInfo{Pidfd: &Pidfd{PID: 24146, NSpid: []int32{24146, 5}}}},
	{"dead pidfd", "Pid:\t-1\n", FDInfo{Pidfd: &Pidfd{PID: -1}}},
	{"socket", "scm_fds: 3\n", FDInfo{SCMFDs: 3}},
	{"tun", "iff:\ttap0\n", FDInfo{TunName: ptr("tap0")}},
	{"idle tun", "iff:\t\n", FDInfo{TunName: ptr("")}},
	{"pty", "tty-index:\t5\n", FDInfo{TTYIndex: ptr(int32(5))}},
	{"locks", "lock:\t1: FLOCK  ADVISORY  WRITE 24146 fe:00:9977864 0 EOF\nlock:\t2: POSIX  ADVISORY  READ 24146 fe:0a:9977864 5 14\n" +
		"lock:\t3: OFDLCK ADVISORY  WRITE -1 fe:00:1 0 EOF\nlock:\t4: LEASE  ACTIVE    READ  9 fe:00:1 0 EOF\nlock:\t5: POSIX  ADVISORY  READ 9 <none>:0 0 0\n",
		FDInfo{Locks: []Lock{
			{"FLOCK", "ADVISORY", "WRITE", 24146, 0xfe, 0, 9977864, 0, LockEOF},
			{"POSIX", "ADVISORY", "READ", 24146, 0xfe, 10, 9977864, 5, 14},
			{"OFDLCK", "ADVISORY", "WRITE", -1, 0xfe, 0, 1, 0, LockEOF},
			{"LEASE", "ACTIVE", "READ", 9, 0xfe, 0, 1, 0, LockEOF},
			{"POSIX", "ADVISORY", "READ", 9, 0, 0, 0, 0, 0},
		}}},
	{"others", "map_type:\t2\nexp_name:\tsystem\n\n", FDInfo{Rest: []string{"map_type:\t2", "exp_name:\tsystem"}}},
}

func TestParseFDInfo(t *testing.T) {
	for _, c := range fdinfoCases {
		c.want.Pos, c.want.Flags, c.want.MntID, c.want.Ino = 7, 0o2100002, 17, 18
		got, err := parseFDInfo("fdinfo/3", []byte(fdinfoHead+c.text))
		if d := cmp.Diff(c.want, got); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, d)
		}
	}
}

func TestParseFDInfoErrors(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":       {"", "a line pos:"},
		"no flags":    {"pos:\t0\nmnt_id:\t3\n", "a line flags:"},
		"decimal":     {strings.Replace(fdinfoHead, "0002", "0009", 1), "end of the line"},
		"epoll":       {fdinfoHead + "tfd: 4 events: 19\n", `line 5: expected "data:"`},
		"time":        {fdinfoHead + "it_value: (1, 1000000000)\n", "at most 999999999"},
		"long time":   {fdinfoHead + "it_value: (18446744073709551615, 0)\n", "at most"},
		"big handle":  {fdinfoHead + "inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0 fhandle-bytes:ffffffff fhandle-type:1 f_handle:00\n", "at most 128"},
		"cut handle":  {fdinfoHead + "inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:00\n", "as many bytes"},
		"long handle": {fdinfoHead + "inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0 fhandle-bytes:1 fhandle-type:1 f_handle:0000\n", "end of the line"},
		"odd handle":  {fdinfoHead + "inotify wd:1 ino:2 sdev:3 mask:4 ignored_mask:0 fhandle-bytes:1 fhandle-type:1 f_handle:zz\n", "hexadecimal"},
		"new mark":    {fdinfoHead + "fanotify blah:3\n", "a mark"},
		"lock":        {fdinfoHead + "lock:\t1: FLOCK\n", "mode"},
	} {
		_, err := parseFDInfo("fdinfo/3", []byte(c.text))
		wantParseError(t, name, err, "fdinfo/3", c.want)
	}
}
