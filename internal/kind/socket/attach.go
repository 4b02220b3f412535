package socket

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	sk_opts "glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/internal/linux"
)

const maxFilter = 4096 // BPF_MAXINSNS

// Attachment is what is attached to a socket by name or as a program.
type Attachment struct {
	Filter []unix.SockFilter // classic BPF
	EBPF   bool              // its filter is eBPF
	Device string            // SO_BINDTODEVICE; of an interface that is gone see Gone
}

// goneDevice begins the name that we give an interface which is gone, of which the kernel
// tells its number only: it is none that an interface can have (dev_valid_name()).
const goneDevice = "/"

// Gone returns the number of the interface that a socket is bound to, if it is called as one
// that is gone.
func Gone(device string) (index int, gone bool) {
	digits, gone := strings.CutPrefix(device, goneDevice)
	if !gone {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 0 && n <= math.MaxInt32
}

// Empty tells whether nothing is attached.
func (a *Attachment) Empty() bool { return len(a.Filter) == 0 && a.Device == "" && !a.EBPF }

// WhyNoEBPF says why a filter of eBPF isn't carried over.
const WhyNoEBPF = "an eBPF program is attached as its filter (SO_ATTACH_BPF), which the kernel doesn't give out while its memory can't be read (CAP_BPF, BTF): give Glis that, or detach it"

// ReadAttachment reads what is attached; filter is false if the socket is
// known to have no filter.
func ReadAttachment(fd int, filter bool) (Attachment, error) {
	var a Attachment
	var err error
	if filter {
		a.Filter, err = linux.SocketFilter(fd)
		a.EBPF = errors.Is(err, unix.EACCES)
		if err != nil && !a.EBPF {
			return a, fmt.Errorf("read SO_GET_FILTER: %w", err)
		}
	}
	index, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX)
	if err != nil || index == 0 {
		return a, wrap("read SO_BINDTOIFINDEX", err)
	}
	var name [unix.IFNAMSIZ]byte
	n, err := linux.Getsockopt(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name[:])
	if errors.Is(err, unix.ENODEV) {
		a.Device = goneDevice + strconv.Itoa(index)
		return a, nil
	}
	if err != nil {
		return a, fmt.Errorf("read SO_BINDTODEVICE (interface %d): %w", index, err)
	}
	a.Device, _, _ = strings.Cut(string(name[:n]), "\x00")
	return a, nil
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// put writes the attachment as criu does.
func (a *Attachment) put(e *sk_opts.SkOptsEntry) {
	if a.Device != "" {
		e.SoBoundDev = &a.Device
	}
	for _, f := range a.Filter {
		e.SoFilter = append(e.SoFilter, uint64(f.Code)<<48|uint64(f.Jt)<<40|uint64(f.Jf)<<32|uint64(f.K))
	}
}

// Attach attaches what criu's entry has. A filter would drop what is queued
// anew, so this comes with the queues filled and before Last.
func Attach(fd int, e *sk_opts.SkOptsEntry) error {
	if err := AttachDevice(fd, e); err != nil {
		return err
	}
	return AttachFilter(fd, e)
}

// AttachDevice is the part of Attach that comes before an address.
func AttachDevice(fd int, e *sk_opts.SkOptsEntry) error {
	d := e.GetSoBoundDev()
	if d == "" {
		return nil
	}
	return BindToDevice(fd, d)
}

// BindToDevice binds a socket to an interface, or to none if that is "": socket(7).
func BindToDevice(fd int, name string) error {
	if n, gone := Gone(name); gone {
		return bindToGone(fd, n)
	}
	err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name)
	switch {
	case err == nil:
		return nil
	case name == "":
		return fmt.Errorf("set SO_BINDTODEVICE to none: %w", err)
	}
	return fmt.Errorf("set SO_BINDTODEVICE to %q (is that interface there?): %w", name, err)
}

// bindToGone binds a socket to an interface that is gone, as it is still: another may have its
// number by now.
func bindToGone(fd, index int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index); err != nil {
		return fmt.Errorf("set SO_BINDTOIFINDEX to %d: %w", index, err)
	}
	switch name, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); {
	case errors.Is(err, unix.ENODEV):
		return nil
	case err != nil:
		return fmt.Errorf("read SO_BINDTODEVICE (interface %d): %w", index, err)
	default:
		return fmt.Errorf("it was bound to interface %d, which was gone, and now %q has that number: remove that one", index, name)
	}
}

// AttachFilter is the part of Attach that comes behind what is queued.
func AttachFilter(fd int, e *sk_opts.SkOptsEntry) error { return attachFilter(fd, e.GetSoFilter()) }

func attachFilter(fd int, filter []uint64) error {
	return attachClassic(fd, unix.SO_ATTACH_FILTER, filter)
}

func attachClassic(fd, opt int, filter []uint64) error {
	if len(filter) == 0 {
		return nil
	}
	prog := make([]unix.SockFilter, 0, len(filter))
	for _, f := range filter {
		prog = append(prog, unix.SockFilter{Code: uint16(f >> 48), Jt: uint8(f >> 40), Jf: uint8(f >> 32), K: uint32(f)})
	}
	fprog := &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	return wrap(fmt.Sprintf("attach a filter (option %d)", opt), unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, opt, fprog))
}
