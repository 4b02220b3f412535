package ns

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/image/criu/timens"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/testkit"
)

func ts(sec, nsec int64) unix.Timespec { return unix.Timespec{Sec: sec, Nsec: nsec} }

func TestParseOffsets(t *testing.T) {
	for _, c := range []struct {
		text string
		want Clocks
		err  string
	}{
		{text: ""},
		{text: "monotonic           0         0\nboottime            0         0\n"},
		{text: "monotonic         -86         5\nboottime       604800 999999999\n", want: Clocks{ts(-86, 5), ts(604800, 999999999)}},
		{text: "boottime 7 8", want: Clocks{Boottime: ts(7, 8)}},
		{text: "tai 1 2\nmonotonic 3 4\n", want: Clocks{Monotonic: ts(3, 4)}},
		{text: "monotonic 1\n", err: `"monotonic 1\n" is not a clock and its offset`},
		{text: "\n", err: "is not a clock"},
		{text: "monotonic x 1\n", err: "invalid syntax"},
		{text: "monotonic 1 99999999999999999999\n", err: "out of range"},
		{text: "monotonic 1 -9000000000000000000\n", err: "no offset that a clock can have"},
		{text: "monotonic 1 1000000000\n", err: "no offset that a clock can have"},
		{text: "monotonic 9000000000000000000 0\n", err: "no offset that a clock can have"},
		{text: "monotonic -9000000000000000000 0\n", err: "no offset that a clock can have"},
	} {
		got, err := parseOffsets([]byte(c.text))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: got %v, want %q", c.text, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: got %v, %v, want %v", c.text, got, err, c.want)
		}
	}
}

func FuzzParseOffsets(f *testing.F) {
	f.Add([]byte("monotonic         -86         5\nboottime       604800 999999999\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseOffsets(text)
		if err != nil {
			return
		}
		if back := c.add(c).sub(c); back != c {
			t.Fatalf("%v became %v", c, back)
		}
	})
}

// Clocks that wake the machine show what the others do, also where nothing can
// wake it.
func TestAlarmClocks(t *testing.T) {
	for alarm, clock := range map[int32]int32{unix.CLOCK_REALTIME_ALARM: unix.CLOCK_REALTIME, unix.CLOCK_BOOTTIME_ALARM: unix.CLOCK_BOOTTIME} {
		var now [3]uint64
		var err error
		for i, c := range []int32{clock, alarm, clock} {
			if now[i], err = Now(proc.PID(os.Getpid()), c); err != nil {
				t.Fatal(err)
			}
		}
		if now[1] < now[0] || now[1] > now[2] {
			t.Errorf("clock %d shows %d, clock %d %d before and %d afterwards", alarm, now[1], clock, now[0], now[2])
		}
	}
}

func TestPlus(t *testing.T) {
	for _, c := range []struct {
		a, b, want unix.Timespec
		sign       int64
	}{
		{ts(1, 2), ts(3, 4), ts(4, 6), 1},
		{ts(1, 999999999), ts(0, 1), ts(2, 0), 1},
		{ts(1, 999999999), ts(1, 999999999), ts(3, 999999998), 1},
		{ts(5, 0), ts(2, 1), ts(2, 999999999), -1},
		{ts(0, 0), ts(0, 1), ts(-1, 999999999), -1},
		{ts(-2, 500000000), ts(1, 500000000), ts(0, 0), 1},
		{ts(-2, 0), ts(-3, 999999999), ts(0, 1), -1},
	} {
		if got := plus(c.a, c.b, c.sign); got != c.want {
			t.Errorf("%v + %d*%v: got %v, want %v", c.a, c.sign, c.b, got, c.want)
		}
	}
}

func TestBehind(t *testing.T) {
	own, err := ClocksOf(1)
	if err != nil {
		testkit.Lacks(t, "the clocks of process 1", err)
	}
	for _, c := range []struct {
		name string
		c    Clocks
		want bool
	}{
		{"none", Clocks{}, false},
		{"what has passed", Clocks{Monotonic: ts(1, 0), Boottime: ts(1, 0)}, false},
		{"monotonic to come", Clocks{Monotonic: ts(own.Monotonic.Sec+1e6, 0)}, true},
		{"boottime to come", Clocks{Boottime: ts(own.Boottime.Sec+1e6, 0)}, true},
		{"the most that an image may say", Clocks{Monotonic: ts(most, 999999999)}, true},
	} {
		if got, err := c.c.Behind(); err != nil || got != c.want {
			t.Errorf("%s: got %v, %v", c.name, got, err)
		}
	}
}

func TestEntry(t *testing.T) {
	d, err := image.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, ok, err := ReadClocks(d, 5); ok || err != nil {
		t.Fatalf("no image: %v, %v", ok, err)
	}
	want := Clocks{ts(86400, 1), ts(90000, 999999999)}
	if err := image.WriteOne(d, image.Timens, want.Entry(), 5); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := ReadClocks(d, 5); !ok || err != nil || got != want {
		t.Fatalf("got %v, %v, %v", got, ok, err)
	}
}

func TestReadClocksRefuses(t *testing.T) {
	good := &timens.Timespec{TvSec: proto.Uint64(1), TvNsec: proto.Uint64(1)}
	for name, bad := range map[string]*timens.Timespec{
		"seconds":                    {TvSec: proto.Uint64(most + 1), TvNsec: proto.Uint64(0)},
		"seconds whose ns overflow":  {TvSec: proto.Uint64(1 << 39), TvNsec: proto.Uint64(0)},
		"seconds that are negative":  {TvSec: proto.Uint64(1 << 63), TvNsec: proto.Uint64(0)},
		"nanoseconds of a second":    {TvSec: proto.Uint64(0), TvNsec: proto.Uint64(1e9)},
		"nanoseconds beyond reading": {TvSec: proto.Uint64(0), TvNsec: proto.Uint64(1 << 63)},
	} {
		for i, e := range []*timens.TimensEntry{{Monotonic: bad, Boottime: good}, {Monotonic: good, Boottime: bad}} {
			d, err := image.OpenDir(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if err := image.WriteOne(d, image.Timens, e, 0); err != nil {
				t.Fatal(err)
			}
			if _, _, err := ReadClocks(d, 0); err == nil || !strings.Contains(err.Error(), "timens-0.img") {
				t.Errorf("%s, clock %d: %v", name, i, err)
			}
			d.Close()
		}
	}
}
