package feature

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/proc"
)

// TestNames holds the names that callers of criu's "check --feature" use.
func TestNames(t *testing.T) {
	want := strings.Fields(`mnt_id mem_dirty_track aio_remap timerfd tun tun_ns userns fdinfo_lock seccomp_suspend
		seccomp_filters loginuid cgroupns autofs tcp_half_closed compat_cr uffd uffd-noncoop can_map_vdso sk_ns sk_unix_file
		net_diag_raw nsid link_nsid kcmp_epoll timens external_net_ns clone3_set_tid newifindex nftables has_ipt_legacy
		pidfd_store ns_pid apparmor_stacking network_lock_nftables sockopt_buf_lock memfd_hugetlb move_mount_set_group openat2
		get_rseq_conf ipv6_freebind pagemap_scan timer_cr_ids overlayfs_maps breakpoints pagemap_scan_guard_pages`)
	var got []string
	seen := map[string]bool{}
	for _, row := range New().Rows() {
		if row.Criu {
			got = append(got, row.Name)
		}
		if seen[row.Name] || row.Test == nil {
			t.Errorf("%s: twice, or without a test", row.Name)
		}
		seen[row.Name] = true
		if row.Need == Required && (row.Lacks != "" || row.Without == "") {
			t.Errorf("%s is required: Glis must be able to use it, and say what it is for", row.Name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
}

// TestRules: criu asks for these to carry over rules of a network namespace, which Glis
// can't, whatever the kernel has.
func TestRules(t *testing.T) {
	p := New()
	for _, name := range []string{"nftables", "has_ipt_legacy"} {
		if err := p.Feature(t.Context(), name); err == nil {
			t.Errorf("%s: Glis is said to be able to", name)
		}
	}
}

// TestKernel runs every probe on this kernel. A no is a fair answer, an error
// or a trace left behind is not.
func TestKernel(t *testing.T) {
	have, err := kernelVersion()
	if err != nil {
		t.Fatal(err)
	}
	// The first file makes Go's runtime open descriptors of its own, for good.
	if _, err := os.ReadFile("/proc/filesystems"); err != nil {
		t.Fatal(err)
	}
	p := New()
	for _, row := range p.Rows() {
		before := traces(t)
		err := p.Kernel(t.Context(), row.Name)
		if err != nil && !errors.Is(err, ErrMissing) {
			t.Errorf("%s: inconclusive: %v", row.Name, err)
		}
		if err == nil && have.Less(row.Since) {
			t.Logf("%s is there on %v, though mainline has it since %v", row.Name, have, row.Since)
		}
		if after := traces(t); after != before {
			t.Errorf("%s leaves something behind: %+v before, %+v after", row.Name, before, after)
		}
		t.Log(Answer{&row, err})
	}
}

// trace is what a probe might leave behind.
type trace struct {
	fds      int
	special  int // mappings of files, AIO rings and vdsos
	children int
}

func traces(t *testing.T) (now trace) {
	t.Helper()
	err := self(func(d *proc.Dir) error {
		fds, err1 := d.FDs()
		list, err2 := d.Maps()
		threads, err3 := d.Threads()
		for _, v := range list {
			if v.Inode != 0 || v.Name == "[vdso]" {
				now.special++
			}
		}
		for _, tid := range threads {
			kids, err := d.Children(tid)
			if err != nil && !errors.Is(err, proc.ErrGone) {
				t.Error(err)
			}
			now.children += len(kids)
		}
		now.fds = len(fds)
		return errors.Join(err1, err2, err3)
	})
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// stub is a row whose answers come from a list.
func stub(lacks string, answers ...error) (Probe, *int) {
	asked := new(int)
	return Probe{Name: "x", Lacks: lacks, Test: func(context.Context) error {
		*asked++
		return answers[min(*asked, len(answers))-1]
	}}, asked
}

func TestAnswersAreRemembered(t *testing.T) {
	open := conclude(unix.ENOMEM, "a call")
	no := conclude(unix.ENOSYS, "a call")
	for name, c := range map[string]struct {
		answers []error
		want    []error
		asked   int
	}{
		"yes":          {[]error{nil}, []error{nil, nil}, 1},
		"no":           {[]error{no}, []error{ErrMissing, unix.ENOSYS}, 1},
		"inconclusive": {[]error{open, nil}, []error{unix.ENOMEM, nil, nil}, 2},
	} {
		row, asked := stub("", c.answers...)
		p := newProbes([]Probe{row})
		for i, want := range c.want {
			if err := p.Feature(t.Context(), "x"); !errors.Is(err, want) {
				t.Errorf("%s, answer %d: %v, want %v", name, i, err, want)
			}
		}
		if *asked != c.asked {
			t.Errorf("%s: asked %d times, want %d", name, *asked, c.asked)
		}
	}
	if errors.Is(open, ErrMissing) || !errors.Is(no, ErrMissing) {
		t.Error("what is conclusive")
	}
}

func TestGlisAndKernel(t *testing.T) {
	row, asked := stub("Glis can't yet", error(nil))
	p := newProbes([]Probe{row})
	if err := p.Feature(t.Context(), "x"); !errors.Is(err, ErrMissing) || err.Error() != "Glis can't yet" || *asked != 0 {
		t.Errorf("%v, the kernel asked %d times", err, *asked)
	}
	if err := p.Kernel(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	for _, f := range []func() error{
		func() error { return p.Feature(t.Context(), "no such") },
		func() error { return p.Kernel(t.Context(), "") },
		func() error { return p.Glis("X") },
		func() error { _, err := p.Report(t.Context(), Scope{Feature: "y"}); return err },
	} {
		if err := f(); !errors.Is(err, ErrUnknown) {
			t.Errorf("an unknown name gives %v", err)
		}
	}
}

func TestCancel(t *testing.T) {
	row, asked := stub("", error(nil))
	row.Need = Required
	p := newProbes([]Probe{row})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Report(ctx, Scope{}); !errors.Is(err, context.Canceled) || *asked != 0 {
		t.Error(err, *asked)
	}
	if err := p.Kernel(ctx, "x"); !errors.Is(err, context.Canceled) || p.Kernel(t.Context(), "x") != nil {
		t.Errorf("a cancelled question gives %v and is remembered", err)
	}
}

func TestCheck(t *testing.T) {
	no := func(context.Context) error { return lack(unix.ENOSYS, "call") }
	yes := func(context.Context) error { return nil }
	later := func(context.Context) error { return conclude(unix.ENOMEM, "call") }
	p := newProbes([]Probe{
		{Name: "a", Need: Required, Test: yes, Since: Version{2, 6}, Without: "all stops: do this"},
		{Name: "b", Need: Required, Test: no, Without: "nothing works"},
		{Name: "c", Test: no},
		{Name: "d", Test: yes, Lacks: "Glis can't yet"},
		{Name: "e", Test: later},
	})
	const a = "tried, and it works; Linux has it since 2.6; without it, all stops"
	c := "call: " + unix.ENOSYS.Error()
	b := c + "; without it, nothing works"
	for _, k := range []struct {
		scope              Scope
		text               string
		required, optional []string
	}{
		{Scope{}, "a: ok — " + a + "\nb: missing — " + b + "\n", []string{"b: " + b}, nil},
		{Scope{Extra: true}, "a: ok — " + a + "\nb: missing — " + b + "\nc: missing — " + c + "\nd: missing — Glis can't yet\n" +
			"e: missing — can't tell: call: cannot allocate memory\n",
			[]string{"b: " + b}, []string{"c: " + c, "d: Glis can't yet", "e: can't tell: call: cannot allocate memory"}},
		{Scope{Feature: "a"}, "a: ok — " + a + "\n", nil, nil},
		{Scope{Feature: "d"}, "d: missing — Glis can't yet\n", []string{"d: Glis can't yet"}, nil},
	} {
		var w strings.Builder
		required, optional, err := p.Check(t.Context(), &w, k.scope)
		if err != nil || w.String() != k.text || !slices.Equal(required, k.required) || !slices.Equal(optional, k.optional) {
			t.Errorf("%+v: %v\n%s\nrequired %q\noptional %q", k.scope, err, w.String(), required, optional)
		}
	}
	if _, _, err := p.Check(t.Context(), brokenWriter{}, Scope{}); err == nil {
		t.Error("a report that can't be written")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, unix.EPIPE }

func TestParallel(t *testing.T) {
	p := New()
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for _, name := range []string{"kcmp", "clone3_set_tid", "fdinfo_lock", "nsid"} {
				if err := p.Kernel(t.Context(), name); err != nil && !errors.Is(err, ErrMissing) {
					t.Error(name, err)
				}
			}
		})
	}
	wait.Wait()
}

func TestVersion(t *testing.T) {
	for _, c := range []struct {
		a, b Version
		less bool
	}{{Version{5, 19}, Floor, true}, {Floor, Floor, false}, {Version{6, 10}, Version{6, 7}, false}, {Version{}, Floor, true}} {
		if c.a.Less(c.b) != c.less {
			t.Errorf("%v < %v is %v", c.a, c.b, !c.less)
		}
	}
	if s := fmt.Sprint(Version{6, 18}); s != "6.18" {
		t.Error(s)
	}
	if err := atLeast(Version{99, 0})(t.Context()); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
}

func TestNetlinkError(t *testing.T) {
	reply := func(typ byte, code int32) []byte {
		m := make([]byte, 36)
		m[4] = typ
		for i := range 4 {
			m[16+i] = byte(uint32(code) >> (8 * i)) // little-endian, as every machine Glis runs on
		}
		return m
	}
	for name, c := range map[string]struct {
		m    []byte
		want error
	}{
		"done": {reply(unix.NLMSG_DONE, -2), nil}, "ack": {reply(unix.NLMSG_ERROR, 0), nil},
		"error": {reply(unix.NLMSG_ERROR, -2), unix.ENOENT}, "short": {[]byte{1, 2}, nil}, "empty": {nil, nil},
	} {
		if err := netlinkError(c.m); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
