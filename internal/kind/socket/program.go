package socket

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image/extra"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/scan"
)

// Programs that are attached to sockets. Instructions of classic BPF are kept
// by the kernel, and go into images. A program of eBPF can't be read back as it
// was loaded, with the maps it has: it stays in the kernel, under a name in a
// BPF file system, until a restore on the same host attaches it again.

// programNames are the members of structures that tell of programs.
func programNames() []string {
	return []string{
		"sock.sk_filter", "sk_filter.prog", "bpf_prog", "bpf_prog.orig_prog", "bpf_prog.aux", "bpf_prog_aux.id",
		"sock_fprog_kern", "sock_fprog_kern.len", "sock_fprog_kern.filter",
	}
}

// readFilter reads the filter of a socket if it is eBPF: of others an option
// tells.
func readFilter(s *kmem.Struct, m *kmem.Reader) (*extra.SocketProgram, error) {
	at := s.Pointer("sock.sk_filter")
	if at == 0 {
		return nil, nil
	}
	at, err := m.Pointer(at + m.Off("sk_filter.prog"))
	if err != nil || at == 0 {
		return nil, err
	}
	p, err := ReadProgram(m, at)
	if err != nil || p.Id == nil {
		return nil, err
	}
	return p, nil
}

// FilterAt reads the filter of a socket that the kernel has at an address, whatever it is;
// nil if there is none.
func FilterAt(m *kmem.Reader, sk kmem.Addr) (*extra.SocketProgram, error) {
	at, err := m.Pointer(sk + m.Off("sock.sk_filter"))
	if err != nil || at == 0 {
		return nil, err
	}
	if at, err = m.Pointer(at + m.Off("sk_filter.prog")); err != nil || at == 0 {
		return nil, err
	}
	return ReadProgram(m, at)
}

// AttachSame attaches to a socket the filter of another one, that FilterAt has read.
func AttachSame(own int, p *extra.SocketProgram) error {
	if p == nil || p.Id == nil {
		return attachFilter(own, p.GetClassic())
	}
	n, err := linux.BPFProgByID(p.GetId())
	if err != nil {
		return fmt.Errorf("open BPF program %d (it needs CAP_SYS_ADMIN): %w", p.GetId(), err)
	}
	defer unix.Close(n)
	return wrap(fmt.Sprintf("attach BPF program %d", p.GetId()), unix.SetsockoptInt(own, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, n))
}

// ReadProgram reads what a struct bpf_prog is.
func ReadProgram(m *kmem.Reader, at kmem.Addr) (*extra.SocketProgram, error) {
	s, err := m.Struct("bpf_prog", at)
	if err != nil {
		return nil, err
	}
	if classic := s.Pointer("bpf_prog.orig_prog"); classic != 0 {
		return readClassic(m, classic)
	}
	var id [4]byte
	if err := m.ReadAt(id[:], s.Pointer("bpf_prog.aux")+m.Off("bpf_prog_aux.id")); err != nil {
		return nil, err
	}
	return &extra.SocketProgram{Id: proto.Uint32(uint32(valueOf(id[:]).Lo))}, nil
}

func readClassic(m *kmem.Reader, at kmem.Addr) (*extra.SocketProgram, error) {
	s, err := m.Struct("sock_fprog_kern", at)
	if err != nil {
		return nil, err
	}
	n := int(s.U16("sock_fprog_kern.len"))
	if n == 0 || n > maxFilter {
		return nil, fmt.Errorf("%w: a program of %d instructions", kmem.ErrUnavailable, n)
	}
	b := make([]byte, 8*n) // struct sock_filter: u16 code, u8 jt, u8 jf, u32 k
	if err := m.ReadAt(b, s.Pointer("sock_fprog_kern.filter")); err != nil {
		return nil, err
	}
	p := &extra.SocketProgram{}
	for ; len(b) > 0; b = b[8:] {
		v := valueOf(b[:8]).Lo
		p.Classic = append(p.Classic, v&0xffff<<48|v>>16&0xff<<40|v>>24&0xff<<32|v>>32)
	}
	return p, nil
}

// pins is where programs are kept.
const pins = "/sys/fs/bpf"

// bootID tells one run of the kernel from all others.
func bootID() (string, error) {
	b, err := fd.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// Keep has the kernel keep a program of eBPF until it is restored.
func Keep(env *kind.DumpEnv, f *scan.File, p *extra.SocketProgram) error {
	if p == nil || p.Id == nil {
		return nil
	}
	n, err := linux.BPFProgByID(p.GetId())
	if err != nil {
		return fmt.Errorf("%v: open BPF program %d, which is attached to it (it needs CAP_SYS_ADMIN): %w", f, p.GetId(), err)
	}
	defer unix.Close(n)
	info, err := linux.BPFProgInfo(n)
	if err != nil {
		return fmt.Errorf("%v: look at BPF program %d: %w", f, p.GetId(), err)
	}
	if err := checkMaps(f, info); err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	path := filepath.Join(pins, fmt.Sprintf("glis-%d-%s", info.ID, hex.EncodeToString(info.Tag[:])))
	p.Tag, p.Boot, p.Pin = info.Tag[:], &boot, &path
	err = linux.BPFPin(n, path)
	if errors.Is(err, unix.EEXIST) { // of another socket's, or an earlier dump's
		return nil
	}
	if err != nil {
		return kind.Unsupported(f, "an eBPF program is attached to it (SO_ATTACH_BPF), which can't be kept until the restore as %s (%v): mount a BPF file system there (mount -t bpf bpf %s)", path, err, pins)
	}
	env.Undo("let go of BPF program", func() error { return os.Remove(path) })
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	return env.Guard.Name(path, st.Dev, st.Ino)
}

// Types of maps that hold sockets, or others that may (enum bpf_map_type,
// linux/bpf.h).
var socketMaps = map[uint32]string{
	12: "BPF_MAP_TYPE_ARRAY_OF_MAPS", 13: "BPF_MAP_TYPE_HASH_OF_MAPS", 15: "BPF_MAP_TYPE_SOCKMAP", 17: "BPF_MAP_TYPE_XSKMAP",
	18: "BPF_MAP_TYPE_SOCKHASH", 20: "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY", 24: "BPF_MAP_TYPE_SK_STORAGE",
}

// checkMaps refuses a program with maps that hold sockets: the kernel takes
// them out when the sockets are closed, and does not tell which were in.
func checkMaps(f *scan.File, p linux.BPFProg) error {
	for _, id := range p.Maps {
		typ, err := linux.BPFMapType(id)
		if err != nil {
			return fmt.Errorf("%v: look at map %d of BPF program %d: %w", f, id, p.ID, err)
		}
		if name := socketMaps[typ]; name != "" {
			return kind.Unsupported(f, "BPF program %d, which is attached to it, has map %d, which holds sockets (%s), and nobody could put them back: detach it (SO_DETACH_FILTER, SO_DETACH_REUSEPORT_BPF)", p.ID, id, name)
		}
	}
	return nil
}

// CheckProgram refuses what a program can't be.
func CheckProgram(p *extra.SocketProgram) error {
	switch {
	case p == nil:
		return nil
	case (p.Id == nil) == (len(p.GetClassic()) == 0) || len(p.GetClassic()) > maxFilter:
		return fmt.Errorf("a program of %d instructions can't be", len(p.GetClassic()))
	case p.Id != nil && (len(p.GetTag()) != 8 || filepath.Dir(p.GetPin()) != pins || !strings.HasPrefix(filepath.Base(p.GetPin()), "glis-")):
		return fmt.Errorf("a program kept as %q with a tag of %d bytes can't be", p.GetPin(), len(p.GetTag()))
	}
	return nil
}

// openProgram returns a descriptor of a program that Keep has kept, or that
// somebody else has.
func openProgram(p *extra.SocketProgram) (int, error) {
	if boot, err := bootID(); err != nil || boot != p.GetBoot() {
		return -1, fmt.Errorf("an eBPF program was attached (SO_ATTACH_BPF), which only the host that it was dumped on has, until it boots again (%v)", err)
	}
	n, err := linux.BPFOpen(p.GetPin())
	if err != nil {
		n, err = linux.BPFProgByID(p.GetId())
	}
	if err != nil {
		return -1, fmt.Errorf("BPF program %d, which was attached, is kept neither as %s nor by anybody: %w", p.GetId(), p.GetPin(), err)
	}
	info, err := linux.BPFProgInfo(n)
	if err == nil && (info.ID != p.GetId() || string(info.Tag[:]) != string(p.GetTag())) {
		err = errors.New("it is another one")
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("BPF program %d: %w", p.GetId(), err), unix.Close(n))
	}
	return n, nil
}

// FindProgram makes sure that a program can be attached again.
func FindProgram(p *extra.SocketProgram) error {
	if p == nil || p.Id == nil {
		return nil
	}
	n, err := openProgram(p)
	if err != nil {
		return err
	}
	return unix.Close(n)
}

// Options by which programs are attached.
const (
	soReusePortClassic = 51 // SO_ATTACH_REUSEPORT_CBPF
	soReusePortEBPF    = 52 // SO_ATTACH_REUSEPORT_EBPF
)

// AttachEBPF attaches a filter of eBPF.
func AttachEBPF(own int, p *extra.SocketProgram) error { return attachEBPF(own, unix.SO_ATTACH_BPF, p) }

// AttachChooser has a program choose among the sockets that share a port.
func AttachChooser(own int, p *extra.SocketProgram) error {
	if p == nil || p.Id != nil {
		return attachEBPF(own, soReusePortEBPF, p)
	}
	return attachClassic(own, soReusePortClassic, p.GetClassic())
}

// AttachFanout has a program choose among the members of a fanout group of
// packet sockets.
func AttachFanout(own int, p *extra.SocketProgram) error {
	return attachTo(own, unix.SOL_PACKET, unix.PACKET_FANOUT_DATA, p)
}

func attachEBPF(own, opt int, p *extra.SocketProgram) error {
	return attachTo(own, unix.SOL_SOCKET, opt, p)
}

func attachTo(own, level, opt int, p *extra.SocketProgram) error {
	if p == nil {
		return nil
	}
	n, err := openProgram(p)
	if err != nil {
		return err
	}
	defer unix.Close(n)
	if err := unix.SetsockoptInt(own, level, opt, n); err != nil {
		return fmt.Errorf("attach BPF program %d: %w", p.GetId(), err)
	}
	return nil
}

// LetGo has the kernel keep a program no longer for a restore.
func LetGo(p *extra.SocketProgram) error {
	if p == nil || p.Id == nil {
		return nil
	}
	if err := os.Remove(p.GetPin()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
