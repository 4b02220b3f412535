package inspect

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	inetsk "glis.dev/glis/image/criu/sk-inet"
	skopts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/extra"
	"glis.dev/glis/internal/kind/socket"
	"glis.dev/glis/internal/kinds"
)

// socketOptions lists the options in criu's message of which it is certain that
// they are not at their default. Others, such as the sizes of buffers that nobody has
// set, have defaults that the images do not tell.
func socketOptions(o *skopts.SkOptsEntry) []Option {
	var set []Option
	for _, b := range []struct {
		name string
		on   bool
	}{
		{"SO_REUSEADDR", o.GetReuseaddr()}, {"SO_REUSEPORT", o.GetSoReuseport()}, {"SO_PASSCRED", o.GetSoPasscred()},
		{"SO_PASSSEC", o.GetSoPasssec()}, {"SO_DONTROUTE", o.GetSoDontroute()}, {"SO_NO_CHECK", o.GetSoNoCheck()},
		{"SO_BROADCAST", o.GetSoBroadcast()}, {"SO_KEEPALIVE", o.GetSoKeepalive()}, {"SO_OOBINLINE", o.GetSoOobinline() != 0},
	} {
		if b.on {
			set = append(set, Option{b.name, "1"})
		}
	}
	for _, n := range []struct {
		name  string
		value uint32
	}{{"SO_PRIORITY", o.GetSoPriority()}, {"SO_MARK", o.GetSoMark()}, {"SO_BUF_LOCK", o.GetSoBufLock()}} {
		if n.value != 0 {
			set = append(set, Option{n.name, strconv.FormatUint(uint64(n.value), 10)})
		}
	}
	set = append(set, sizes(o)...)
	if o.SoLinger != nil {
		set = append(set, Option{"SO_LINGER", strconv.FormatUint(uint64(o.GetSoLinger()), 10) + " s"})
	}
	for _, t := range []struct {
		name      string
		sec, usec uint64
	}{{"SO_RCVTIMEO", o.GetSoRcvTmoSec(), o.GetSoRcvTmoUsec()}, {"SO_SNDTIMEO", o.GetSoSndTmoSec(), o.GetSoSndTmoUsec()}} {
		if t.sec != 0 || t.usec != 0 {
			set = append(set, Option{t.name, fmt.Sprintf("%d.%06d s", t.sec, t.usec)})
		}
	}
	if n := o.GetSoRcvlowat(); o.GetSoRcvlowat() > 1 {
		set = append(set, Option{"SO_RCVLOWAT", strconv.FormatUint(uint64(n), 10)})
	}
	if n, gone := strings.CutPrefix(o.GetSoBoundDev(), "/"); gone && checkName(n) == nil {
		set = append(set, Option{"SO_BINDTOIFINDEX", n + ", which was gone"})
	} else if dev := o.GetSoBoundDev(); dev != "" && checkName(dev) == nil {
		set = append(set, Option{"SO_BINDTODEVICE", dev})
	}
	if n := len(o.GetSoFilter()); n > 0 {
		set = append(set, Option{"SO_ATTACH_FILTER", fmt.Sprintf("%d instructions", n)})
	}
	return set
}

// sizes are those of buffers that somebody has set.
func sizes(o *skopts.SkOptsEntry) (set []Option) {
	const send, receive = 1, 2 // SOCK_SNDBUF_LOCK, SOCK_RCVBUF_LOCK of include/uapi/linux/socket.h
	if n := o.GetSoSndbuf(); o.GetSoBufLock()&send != 0 {
		set = append(set, Option{"SO_SNDBUF", strconv.FormatUint(uint64(n), 10)})
	}
	if n := o.GetSoRcvbuf(); o.GetSoBufLock()&receive != 0 {
		set = append(set, Option{"SO_RCVBUF", strconv.FormatUint(uint64(n), 10)})
	}
	return set
}

// usuallyOn tells options that sockets of some sorts have on by default: if they are off.
func usuallyOn(in *inetsk.InetSkEntry, set []Option) []Option {
	raw, six := in.GetType() == unix.SOCK_RAW, in.GetFamily() == unix.AF_INET6
	ping := in.GetType() == unix.SOCK_DGRAM && (in.GetProto() == unix.IPPROTO_ICMP || in.GetProto() == unix.IPPROTO_ICMPV6)
	own, on := raw && in.GetProto() == unix.IPPROTO_RAW, in.GetIpOpts().GetRaw().GetHdrincl()
	for _, o := range []struct {
		name    string
		has, on bool
	}{
		{"SO_REUSEADDR", raw || ping, in.GetOpts().GetReuseaddr()}, {"IP_HDRINCL", own && !six, on}, {"IPV6_HDRINCL", own && six, on},
		{"IPV6_V6ONLY", ping && six, in.GetV6Only()},
	} {
		if !o.has {
			continue
		}
		set = slices.DeleteFunc(set, func(s Option) bool { return s.Name == o.name })
		if !o.on {
			set = append(set, Option{o.name, "0"})
		}
	}
	return set
}

// usual are values of options that hosts have unless somebody changed a sysctl.
var usual = map[string]uint64{"IP_TTL": 64, "TCP_KEEPCNT": 9, "TCP_KEEPIDLE": 7200, "TCP_KEEPINTVL": 75}

// inetOptions is socketOptions for what inet sockets have besides.
func inetOptions(in *inetsk.InetSkEntry) []Option {
	var set []Option
	e := &inetsk.InetSkEntry{V6Only: in.V6Only, IpOpts: in.GetIpOpts(), TcpOpts: in.GetTcpOpts()}
	empty := socket.EmptyInet()
	if e.IpOpts == nil {
		e.IpOpts = empty.IpOpts
	}
	if e.TcpOpts == nil {
		e.TcpOpts = empty.TcpOpts
	}
	kinds.InetOptions(int(in.GetFamily()), socket.Entries{Sock: in.GetOpts(), Inet: e}, func(name string, v socket.Value) {
		if v.Lo != 0 && v.Lo != usual[name] {
			set = append(set, Option{name, strconv.FormatUint(v.Lo, 10)})
		}
	})
	// That of ICMPv6 is as large as eight options; of ICMP it is one of them.
	if f := e.IpOpts.GetRaw().GetIcmpvFilter(); in.GetFamily() == unix.AF_INET6 && len(f) > 0 {
		set = append(set, Option{"ICMPV6_FILTER", fmt.Sprintf("%08x", f[:min(len(f), 8)])})
	}
	return set
}

// extraOptions adds the options that criu's messages have no field for.
func (r *reader) extraOptions(byID map[uint32]*Socket) error {
	options := map[uint32]*File{}
	for _, f := range r.rep.Files {
		if f.Socket != nil && byID[f.ID] == f.Socket || f.Kind == kindTun || f.Kind == kindExternal {
			options[f.ID] = f
		}
	}
	const longest = 4096
	who, err := r.identities()
	if err != nil {
		return err
	}
	err = optional(r, extra.Sockets, nil, func(e *extra.SocketEntry) error {
		r.rep.MadeBy = "glis"
		f := options[e.GetId()]
		if f == nil {
			return fmt.Errorf("socket %d does not exist", e.GetId())
		}
		if f.Socket == nil {
			if e.Plain == nil && e.Tun == nil {
				return fmt.Errorf("socket %d does not exist", e.GetId())
			}
			if err := r.whole(f, e); err != nil {
				return err
			}
		}
		if e.Who != nil && f.Socket != nil {
			if uint64(e.GetWho()) > uint64(len(who)) {
				return fmt.Errorf("identity %d does not exist", e.GetWho())
			}
			f.Socket.number = e.Who
		}
		if n := e.GetError(); n != 0 {
			f.Options = append(f.Options, Option{"SO_ERROR", strconv.FormatUint(uint64(n), 10)})
		}
		for _, o := range e.GetOptions() {
			if len(o.GetValue()) > longest {
				return errOptionSize
			}
			f.tell(Option{optionWord(o.GetLevel(), o.GetName()), optionValue(o.GetValue())})
		}
		f.Options = append(f.Options, unseenOptions(e)...)
		return r.spend(len(e.GetOptions()) + len(e.GetLong()))
	})
	for _, s := range byID {
		s.identify(who)
	}
	return err
}

// tell adds an option; criu's entry of a packet socket may have some already.
func (f *File) tell(o Option) {
	if i := slices.IndexFunc(f.Options, func(is Option) bool { return is.Name == o.Name }); i >= 0 {
		f.Options[i] = o
		return
	}
	f.Options = append(f.Options, o)
}

// optionValue writes an option as the number it mostly is.
func optionValue(b []byte) string {
	if len(b) == 4 || len(b) == 8 {
		little := slices.Clone(b)
		slices.Reverse(little)
		if n, err := strconv.ParseUint(fmt.Sprintf("%x", little), 16, 64); err == nil {
			return strconv.FormatUint(n, 10)
		}
	}
	if text := strings.TrimRight(string(b), "\x00"); len(b) > 8 && text != "" && strconv.Quote(text) == `"`+text+`"` { // TCP_CONGESTION
		return text
	}
	return fmt.Sprintf("%#x", b)
}
