// Package ns is the namespaces that a tree lives in, one file each.
package ns

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/timens"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/fd"
	"glis.dev/glis/internal/proc"
)

// Clocks are the two clocks that a time namespace moves, as somebody sees
// them, see time_namespaces(7).
type Clocks struct{ Monotonic, Boottime unix.Timespec }

// HostClocks reads the clocks as the initial time namespace has them.
func HostClocks() (c Clocks, err error) {
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &c.Monotonic); err != nil {
		return c, fmt.Errorf("clock_gettime: %w", err)
	}
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &c.Boottime); err != nil {
		return c, fmt.Errorf("clock_gettime: %w", err)
	}
	own, err := offsets("/proc/self/timens_offsets")
	return c.sub(own), err
}

// ClocksOf returns the clocks as a task sees them.
func ClocksOf(pid proc.PID) (Clocks, error) {
	host, err := HostClocks()
	if err != nil {
		return host, err
	}
	its, err := offsets(fmt.Sprintf("/proc/%d/timens_offsets", pid))
	return host.add(its), err
}

// Now returns what a clock (CLOCK_*) shows to a task, in ns.
func Now(pid proc.PID, clock int32) (uint64, error) {
	switch clock {
	case unix.CLOCK_MONOTONIC, unix.CLOCK_BOOTTIME, unix.CLOCK_BOOTTIME_ALARM:
		c, err := ClocksOf(pid)
		if clock == unix.CLOCK_MONOTONIC {
			return uint64(c.Monotonic.Nano()), err
		}
		return uint64(c.Boottime.Nano()), err
	}
	if clock == unix.CLOCK_REALTIME_ALARM {
		clock = unix.CLOCK_REALTIME // what it shows, also where nothing can wake the machine
	}
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("clock_gettime of clock %d: %w", clock, err)
	}
	return uint64(t.Nano()), nil
}

// offsets reads the offsets of the namespace that a task's children begin in,
// which is its own unless it is about to make one.
func offsets(path string) (c Clocks, err error) {
	text, err := fd.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil // a kernel without time namespaces
	}
	if err != nil {
		return c, err
	}
	if c, err = parseOffsets(text); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// most is more seconds than the kernel lets clocks show (KTIME_SEC_MAX / 2,
// include/linux/ktime.h), and few enough for 64 bits of nanoseconds.
const most = 1 << 33

func parseOffsets(text []byte) (c Clocks, err error) {
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			return c, fmt.Errorf("%q is not a clock and its offset", line)
		}
		sec, err1 := strconv.ParseInt(string(f[1]), 10, 64)
		nsec, err2 := strconv.ParseInt(string(f[2]), 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return c, err
		}
		if sec > most || sec < -most || nsec < 0 || nsec >= 1e9 {
			return c, fmt.Errorf("%q is no offset that a clock can have", line)
		}
		switch string(f[0]) {
		case "monotonic":
			c.Monotonic = unix.Timespec{Sec: sec, Nsec: nsec}
		case "boottime":
			c.Boottime = unix.Timespec{Sec: sec, Nsec: nsec}
		}
	}
	return c, nil
}

func (c Clocks) add(o Clocks) Clocks {
	return Clocks{plus(c.Monotonic, o.Monotonic, 1), plus(c.Boottime, o.Boottime, 1)}
}

func (c Clocks) sub(o Clocks) Clocks {
	return Clocks{plus(c.Monotonic, o.Monotonic, -1), plus(c.Boottime, o.Boottime, -1)}
}

// plus returns a + sign*b with nanoseconds in 0…999999999, as the kernel
// wants offsets.
func plus(a, b unix.Timespec, sign int64) unix.Timespec {
	const second = 1e9
	r := unix.Timespec{Sec: a.Sec + sign*b.Sec, Nsec: a.Nsec + sign*b.Nsec}
	for r.Nsec < 0 {
		r.Sec, r.Nsec = r.Sec-1, r.Nsec+second
	}
	for r.Nsec >= second {
		r.Sec, r.Nsec = r.Sec+1, r.Nsec-second
	}
	return r
}

// Entry is what timens-N.img says of these clocks.
func (c Clocks) Entry() *timens.TimensEntry {
	conv := func(t unix.Timespec) *timens.Timespec {
		return &timens.Timespec{TvSec: proto.Uint64(uint64(t.Sec)), TvNsec: proto.Uint64(uint64(t.Nsec))}
	}
	return &timens.TimensEntry{Monotonic: conv(c.Monotonic), Boottime: conv(c.Boottime)}
}

// ReadClocks reads them from an image; ok is false if there is none.
func ReadClocks(s image.Store, id uint32) (c Clocks, ok bool, err error) {
	all, err := image.ReadOptional[*timens.TimensEntry](s, image.Timens, id)
	if err != nil || len(all) == 0 {
		return c, false, err
	}
	conv := func(t *timens.Timespec) unix.Timespec {
		if t.GetTvSec() > most || t.GetTvNsec() >= 1e9 {
			err = fmt.Errorf("%s: %d.%09d s is no time a clock shows", image.Timens.FileName(id), t.GetTvSec(), t.GetTvNsec())
		}
		return unix.Timespec{Sec: int64(t.GetTvSec()), Nsec: int64(t.GetTvNsec())}
	}
	c = Clocks{conv(all[0].GetMonotonic()), conv(all[0].GetBoottime())}
	return c, true, err
}

// Behind tells whether this host's clocks stand before c: a tree that saw c
// would see time go backwards.
func (c Clocks) Behind() (bool, error) {
	own, err := ClocksOf(proc.PID(os.Getpid()))
	if err != nil {
		return false, err
	}
	return own.Monotonic.Nano() < c.Monotonic.Nano() || own.Boottime.Nano() < c.Boottime.Nano(), nil
}

// SetClocks makes the clocks go on from c for the children of a task that has
// just made a time namespace for them (unshare(CLONE_NEWTIME), Linux 5.6).
func SetClocks(pid proc.PID, c Clocks) error {
	host, err := HostClocks()
	if err != nil {
		return err
	}
	o := c.sub(host)
	path := fmt.Sprintf("/proc/%d/timens_offsets", pid)
	text := fmt.Sprintf("%d %d %d\n%d %d %d\n", unix.CLOCK_MONOTONIC, o.Monotonic.Sec, o.Monotonic.Nsec, unix.CLOCK_BOOTTIME, o.Boottime.Sec, o.Boottime.Nsec)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
