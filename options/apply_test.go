package options

import (
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// given finds an option by name; args is nothing or one argument.
func given(t *testing.T, name string, args ...string) Value {
	t.Helper()
	bare, negated := name, false
	for _, o := range All() {
		if o.Negatable && "no-"+o.Name == name {
			bare, negated = o.Name, true
		}
	}
	for _, o := range All() {
		if o.Name == bare || o.Alias != "" && o.Alias == bare {
			v := Value{Option: o, Spelled: "--" + name, Negated: negated}
			if len(args) > 0 {
				v.Has, v.Arg = true, args[0]
			}
			return v
		}
	}
	t.Fatalf("no option %s", name)
	return Value{}
}

func TestDefaults(t *testing.T) {
	d := NewDump()
	if d.ImagesDir != "." || d.Verbosity != 2 || d.Timeout != 10*time.Second || d.GhostLimit != 1<<20 ||
		d.NetworkLock != NetworkLockNftables || d.Cgroups != CgroupIgnore || d.LeaveRunning || d.WorkDir != "" {
		t.Errorf("defaults of a dump: %+v", d)
	}
	if r := NewRestore(); !r.Waits() {
		t.Error("a restore should wait unless told otherwise")
	}
}

func TestApply(t *testing.T) {
	tests := []struct {
		name string
		verb Verb
		give []Value
		want func(any) bool
	}{
		{"pid", VerbDump, []Value{given(t, "tree", "12")}, func(s any) bool { return s.(*Dump).Tree == 12 }},
		{"last of -s and -R wins", VerbDump, []Value{given(t, "leave-stopped"), given(t, "leave-running")},
			func(s any) bool { d := s.(*Dump); return d.LeaveRunning && !d.LeaveStopped }},
		{"last of -R and -s wins", VerbDump, []Value{given(t, "leave-running"), given(t, "leave-stopped")},
			func(s any) bool { d := s.(*Dump); return !d.LeaveRunning && d.LeaveStopped }},
		{"-s on restore", VerbRestore, []Value{given(t, "leave-stopped")}, func(s any) bool { return s.(*Restore).LeaveStopped }},
		{"negated", VerbDump, []Value{given(t, "shell-job"), given(t, "no-shell-job")}, func(s any) bool { return !s.(*Dump).ShellJob }},
		{"daemon is restore-detached", VerbRestore, []Value{given(t, "daemon")}, func(s any) bool { return s.(*Restore).Detach }},
		{"seconds", VerbDump, []Value{given(t, "timeout", "3")}, func(s any) bool { return s.(*Dump).Timeout == 3*time.Second }},
		{"no time limit", VerbDump, []Value{given(t, "timeout", "0")}, func(s any) bool { return s.(*Dump).Timeout == 0 }},
		{"size", VerbDump, []Value{given(t, "ghost-limit", "3M")}, func(s any) bool { return s.(*Dump).GhostLimit == 3<<20 }},
		{"verbosity", VerbDump, []Value{given(t, "verbosity", "4")}, func(s any) bool { return s.(*Dump).Verbosity == 4 }},
		{"verbosity goes up", VerbDump, []Value{given(t, "verbosity"), given(t, "verbosity")}, func(s any) bool { return s.(*Dump).Verbosity == 4 }},
		{"none is skip", VerbDump, []Value{given(t, "network-lock", "none")}, func(s any) bool { return s.(*Dump).NetworkLock == NetworkLockSkip }},
		{"unix sockets", VerbDump, []Value{given(t, "ext-unix-sk"), given(t, "ext-unix-sk", "7,8")},
			func(s any) bool {
				x := s.(*Dump).ExtUnixSk
				return x.Allowed && reflect.DeepEqual(x.Inodes, []uint32{7, 8})
			}},
		{"another verb's option", VerbRestore, []Value{given(t, "track-mem"), given(t, "tree", "5")}, func(any) bool { return true }},
		{"refused but negated", VerbDump, []Value{given(t, "no-track-mem")}, func(s any) bool { return !s.(*Dump).TrackMem }},
		{"without effect", VerbDump, []Value{given(t, "log-pid"), given(t, "ghost-fiemap"), given(t, "no-ghost-fiemap")}, func(any) bool { return true }},
		{"cgroups ignored", VerbDump, []Value{given(t, "manage-cgroups", "ignore")}, func(s any) bool { return s.(*Dump).Cgroups == CgroupIgnore }},
		{"cgroups in the usual way", VerbDump, []Value{given(t, "manage-cgroups")}, func(s any) bool { return s.(*Dump).Cgroups == CgroupSoft }},
		{"roots of cgroups", VerbRestore, []Value{given(t, "cgroup-root", "/a"), given(t, "cgroup-root", "name=x:/b")}, func(s any) bool {
			return slices.Equal(s.(*Restore).CgroupRoots, []CgroupRoot{{"", "/a"}, {"name=x", "/b"}})
		}},
	}
	for _, test := range tests {
		s := New(test.verb)
		for _, v := range test.give {
			if err := v.Apply(test.verb, s); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		if !test.want(s) {
			t.Errorf("%s: %+v", test.name, s)
		}
	}
}

func TestApplyErrors(t *testing.T) {
	tests := []struct {
		verb Verb
		give Value
		want string
	}{
		{VerbDump, given(t, "tree", "abc"), `invalid argument for --tree: "abc"`},
		{VerbDump, given(t, "tree", "0"), `invalid argument for --tree: "0"`},
		{VerbDump, given(t, "tree", "99999999999"), `invalid argument for --tree: "99999999999"`},
		{VerbRestore, given(t, "tree", "x"), `invalid argument for --tree: "x"`},
		{VerbDump, given(t, "ghost-limit", "9999999999G"), `invalid argument for --ghost-limit: "9999999999G"`},
		{VerbDump, given(t, "network-lock", "foo"), `invalid argument for --network-lock: "foo" is none of iptables, nftables and skip`},
		{VerbDump, given(t, "ext-unix-sk", "0"), `invalid argument for --ext-unix-sk: "0" is not the inode of a UNIX socket`},
	}
	for _, test := range tests {
		err := test.give.Apply(test.verb, New(test.verb))
		if err == nil || err.Error() != test.want || errors.Is(err, ErrNotBuilt) {
			t.Errorf("%s %s: %v, want %s", test.verb, test.give.Spelled, err, test.want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, o := range All() {
		for _, u := range o.Uses {
			v := Value{Option: o, Spelled: "--" + o.Name, Has: o.Arg != ArgNone, Arg: "1"}
			err := v.Apply(u.Verb, New(u.Verb))
			refused := errors.Is(err, ErrNotBuilt)
			if refused != (u.Support == Refused) {
				t.Errorf("%s --%s: %v, support is %d", u.Verb, o.Name, err, u.Support)
			}
			if refused && !strings.HasPrefix(err.Error(), "--"+o.Name+" is not supported yet: ") {
				t.Errorf("%s --%s: %v", u.Verb, o.Name, err)
			}
		}
	}
	plain := given(t, "file-validation", "buildid")
	err := plain.Apply(VerbDump, NewDump())
	if want := "--file-validation=buildid is not supported yet: comparing build IDs is not built yet"; err == nil || err.Error() != want {
		t.Errorf("--file-validation: %v", err)
	}
}

func TestResolve(t *testing.T) {
	t.Chdir(t.TempDir())
	cwd, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	d := NewDump()
	d.ImagesDir, d.LogFile = "img", "dump.log"
	if err := Resolve(d); err != nil {
		t.Fatal(err)
	}
	if d.ImagesDir != cwd+"/img" || d.WorkDir != cwd+"/img" || d.LogFile != cwd+"/img/dump.log" {
		t.Errorf("resolved: %+v", d)
	}
	r := NewRestore()
	r.WorkDir, r.LogFile, r.Pidfile = "work", "-", "/run/p"
	if err := Resolve(r); err != nil {
		t.Fatal(err)
	}
	nameless := NewDump()
	nameless.ImagesDir = ""
	if err := Resolve(nameless); err == nil || !strings.Contains(err.Error(), "-D") {
		t.Errorf("-D '': %v", err)
	}
	if r.ImagesDir != cwd || r.WorkDir != cwd+"/work" || r.LogFile != "-" || r.Pidfile != "/run/p" {
		t.Errorf("resolved: %+v", r)
	}
}
