package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/event"
	"glis.dev/glis/internal/testkit"
	"glis.dev/glis/options"
)

// fakeEngine notes what it is asked and answers what it is told.
type fakeEngine struct {
	dump    *options.Dump
	restore *options.Restore
	check   *options.Check
	inspect *options.Inspect
	lock    *options.Lock
	unlock  *options.Lock
	verify  *options.Verify
	err     error
	waited  bool
	status  int // of the root process
	report  CheckReport
}

func (f *fakeEngine) Dump(_ context.Context, o *options.Dump, log *slog.Logger, _ event.All) (DumpStats, error) {
	f.dump = o
	log.Warn("from the engine")
	return DumpStats{FrozenTime: 5, PagesWritten: 255}, f.err
}

func (f *fakeEngine) Restore(_ context.Context, o *options.Restore, _ *slog.Logger, _ event.All) (*Restored, error) {
	f.restore = o
	if f.err != nil {
		return nil, f.err
	}
	return &Restored{Stats: RestoreStats{PagesRestored: 16}, Wait: func() (int, error) { f.waited = true; return f.status, nil }}, nil
}

func (f *fakeEngine) Check(_ context.Context, o *options.Check, _ *slog.Logger) (CheckReport, error) {
	f.check = o
	return f.report, f.err
}

func (f *fakeEngine) Inspect(_ context.Context, o *options.Inspect, w io.Writer, _ *slog.Logger) error {
	f.inspect = o
	fmt.Fprintln(w, "inspected")
	return f.err
}

func (f *fakeEngine) Lock(_ context.Context, o *options.Lock, _ *slog.Logger) (int, error) {
	f.lock = o
	return 3, f.err
}

func (f *fakeEngine) Unlock(_ context.Context, o *options.Lock, _ *slog.Logger) (int, error) {
	f.unlock = o
	return 3, f.err
}

func (f *fakeEngine) Verify(_ context.Context, o *options.Verify, w io.Writer, _ *slog.Logger) error {
	f.verify = o
	fmt.Fprintln(w, "verified")
	return f.err
}

func (f *fakeEngine) Demo(context.Context, *options.Demo, io.Writer) error { return f.err }

// testRun is an App with everything it touches replaced.
type testRun struct {
	App
	engine      *fakeEngine
	out, errOut bytes.Buffer
	env         map[string]string
	privileges  Privileges
	became      []string
}

func newTestRun() *testRun {
	r := &testRun{engine: &fakeEngine{}, env: map[string]string{}}
	r.privileges = Privileges{Root: true, Capabilities: ^uint64(0)}
	r.App = App{
		Name: "glis", Stdout: &r.out, Stderr: &r.errOut, Engine: r.engine, Start: time.Now(),
		Getenv: func(name string) string { return r.env[name] },
		System: System{
			Privileges: func() (Privileges, error) { return r.privileges, nil },
			Exec: func(dir string, argv []string) error {
				r.became = append([]string{dir}, argv...)
				return nil
			},
		},
	}
	return r
}

// run runs a command line given as one string.
func (r *testRun) run(line string) int { return r.Run(strings.Fields(line)) }

// TestErrors: one line each, exit status 1, and the engine is not asked.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ line, want string }{
		{"-v4", "Error (glis): command is required; try 'glis --help'"},
		{"foo", "Error (glis): unknown command: foo; try 'glis --help'"},
		{"dump", "Error (dump): pid not specified; name the root of the process tree with -t PID"},
		{"dump -t abc", `Error (dump): invalid argument for -t: "abc"`},
		{"dump --tree=0", `Error (dump): invalid argument for --tree: "0"`},
		{"dump -t 1 --stream", "Error (dump): --stream is not supported yet: images over criu-image-streamer are not built yet"},
		{"dump -t 1 --manage-cgroups=bogus", `Error (dump): invalid argument for --manage-cgroups: "bogus" is none of none, props, soft, full, strict and ignore`},
		{"dump -t 1 x", "Error (dump): excessive parameter for command dump: x"},
		{"restore x y", "Error (restore): excessive parameters for command restore: x y"},
		{"inspect a b", "Error (inspect): excessive parameter for command inspect: b"},
		{"dump -t 1 --exec-cmd -- a", "Error (dump): --exec-cmd is available for the restore command only"},
		{"restore --exec-cmd", "Error (restore): --exec-cmd requires a command: restore --exec-cmd [OPTIONS] -- PROGRAM [ARGUMENTS]"},
		{"restore -d --exec-cmd a", "Error (restore): --restore-detached and --exec-cmd cannot be used together"},
		{"pre-dump -t 1", "Error (pre-dump): pre-dump is not supported yet: incremental images are not built yet"},
		{"swrk 3", "Error (swrk): swrk is not supported yet: requests over a socket are not built yet"},
		{"dump -t 1 -D " + dir + "/none", "Error (dump): images directory " + dir + "/none does not exist; make it, or name another one with -D"},
		{"restore -D " + file, "Error (restore): images directory " + file + " is not a directory; name another one with -D"},
		{"restore -D " + dir + " -W " + dir + "/none", "Error (restore): working directory " + dir + "/none does not exist; make it, or name another one with -W"},
		{"restore -D " + dir + " -o none/log", "Error (restore): log file: open " + dir + "/none/log: no such file or directory; name another one with -o"},
		{"restore --config " + dir + "/none", "Error (restore): configuration file: open " + dir + "/none: no such file or directory"},
		{"restore -v0 -D " + dir + "/none", ""},
	}
	for _, test := range tests {
		r := newTestRun()
		code := r.run(test.line)
		if code != 1 || strings.TrimSuffix(r.errOut.String(), "\n") != test.want || r.out.Len() > 0 {
			t.Errorf("%s: exit status %d\n got %q\nwant %q", test.line, code, r.errOut.String(), test.want)
		}
		if !reflect.DeepEqual(*r.engine, fakeEngine{}) {
			t.Errorf("%s: the engine was asked", test.line)
		}
	}
}

func TestUsage(t *testing.T) {
	r := newTestRun()
	if code := r.run(""); code != 1 || !strings.HasPrefix(r.out.String(), "\nUsage:\n  glis dump -t PID") || r.errOut.Len() > 0 {
		t.Errorf("without arguments: %d, %q", code, r.out.String())
	}
	r = newTestRun()
	want := "glis: option '--tr' is ambiguous; possibilities: '--tree' '--track-mem'\nTry 'glis --help'.\n"
	if code := r.run("dump --tr"); code != 1 || r.errOut.String() != want {
		t.Errorf("--tr: %d, %q", code, r.errOut.String())
	}
}

func TestVersion(t *testing.T) {
	for _, line := range []string{"--version", "-V", "dump -V --bogus", "--vers"} {
		r := newTestRun()
		code := r.run(line)
		first, rest, _ := strings.Cut(r.out.String(), "\n")
		if code != 0 || first != "Version: 4.2" || !strings.HasPrefix(rest, "Glis: ") || strings.Contains(rest, "GitID") {
			t.Errorf("%s: %d, %q", line, code, r.out.String())
		}
	}
}

// TestHelp: every option of a verb is mentioned, none of another's, and no
// line is wider than a terminal.
func TestHelp(t *testing.T) {
	for _, line := range []string{"--help", "-h dump --bogus", "dump --help", "restore -h", "check -h", "inspect -h", "verify -h", "dump -Rh"} {
		r := newTestRun()
		if code := r.run(line); code != 0 || r.errOut.Len() > 0 {
			t.Errorf("%s: exit status %d, %s", line, code, r.errOut.String())
		}
		for _, l := range strings.Split(r.out.String(), "\n") {
			if len(l) > helpWidth {
				t.Errorf("%s: too wide: %s", line, l)
			}
		}
		var v *verb
		for _, word := range strings.Fields(line) {
			if w := findVerb(word); w != nil {
				v = w
			}
		}
		for _, o := range options.All() {
			want := v == nil || o.For(v.settings) != nil
			words := strings.FieldsFunc(r.out.String(), func(c rune) bool { return strings.ContainsRune(" ,.\n[=", c) })
			if have := slices.Contains(words, "--"+o.Name); want != have {
				t.Errorf("%s: --%s mentioned: %t, want %t", line, o.Name, have, want)
			}
		}
	}
}

// TestHelpGroups: no heading is forgotten.
func TestHelpGroups(t *testing.T) {
	for _, o := range options.All() {
		for _, u := range o.Uses {
			if !slices.Contains(groups(), u.Group) {
				t.Errorf("--%s stands under %q, which is never printed", o.Name, u.Group)
			}
		}
	}
}

func TestDump(t *testing.T) {
	dir := t.TempDir()
	r := newTestRun()
	code := r.run("-D " + dir + " --leave-r dump -t 12 -j --tcp-est -o dump.log -v4 --timeout 3 --display-stats")
	d := r.engine.dump
	if code != 0 || d == nil {
		t.Fatalf("exit status %d: %s", code, r.errOut.String())
	}
	if d.Tree != 12 || !d.LeaveRunning || !d.ShellJob || !d.TCPEstablished || d.Timeout != 3*time.Second || d.ImagesDir != dir || d.WorkDir != dir {
		t.Errorf("%+v", d)
	}
	if r.errOut.Len() > 0 || !strings.Contains(r.out.String(), "Displaying dump stats:\n") || !strings.Contains(r.out.String(), "Memory pages written: 255 (0xff)\n") {
		t.Errorf("printed %q, %q", r.out.String(), r.errOut.String())
	}
	log := readLog(t, filepath.Join(dir, "dump.log"))
	for _, want := range []string{"Version: 4.2 (glis ", "Running on ", "Warn  (dump: app_test.go): from the engine", "Dumping finished successfully"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

// TestFailure: the reason stands in the log and, if that is a file, also on
// standard error; at -v0 nowhere.
func TestFailure(t *testing.T) {
	tests := []struct{ line, log, stderr, stdout string }{
		{"dump -t 1", "", "Warn  (dump: app_test.go): from the engine\nError (dump): first; second\n", ""},
		{"dump -t 1 -v1", "", "Error (dump): first; second\n", ""},
		{"dump -t 1 -v0", "", "", ""},
		{"dump -t 1 -v0 -o x", "", "", ""},
		{"dump -t 1 -v1 -o x", "Error (dump): first; second\nError (dump): Dumping FAILED.\n", "Error (dump): first; second\n", ""},
		{"restore -v1 -o x", "Error (restore): first; second\nError (restore): Restoring FAILED.\n", "Error (restore): first; second\n", ""},
		{"dump -t 1 -v1 -o -", "", "", "Error (dump): first; second\n"},
	}
	for _, test := range tests {
		dir := t.TempDir()
		r := newTestRun()
		r.engine.err = errors.Join(errors.New("first"), errors.New("second"))
		code := r.run(test.line + " -D " + dir)
		log := ""
		if strings.Contains(test.line, "-o x") {
			log = readLog(t, filepath.Join(dir, "x"))
		}
		if code != 1 || log != test.log || r.errOut.String() != test.stderr || r.out.String() != test.stdout {
			t.Errorf("%s: %d, log %q, stderr %q, stdout %q", test.line, code, log, r.errOut.String(), r.out.String())
		}
	}
}

// TestLogFileIsNew: an old log is emptied and a new one is for its owner only.
func TestLogFileIsNew(t *testing.T) {
	dir := t.TempDir()
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if code := newTestRun().run("dump -t 1 -o l -D " + dir + " -W " + work); code != 0 {
			t.Fatal(code)
		}
	}
	st, err := os.Stat(filepath.Join(work, "l"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st, err)
	}
	if log := readLog(t, filepath.Join(work, "l")); strings.Count(log, "from the engine") != 1 {
		t.Errorf("%q", log)
	}
}

func readLog(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRestore(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		line   string
		waited bool
		became []string
	}{
		{"restore", true, nil},
		{"restore -d", false, nil},
		{"restore --daemon", false, nil},
		{"restore -d --no-restore-detached", true, nil},
		{"restore --exec-cmd -- prog -d arg", false, []string{dir, "prog", "-d", "arg"}},
	}
	for _, test := range tests {
		r := newTestRun()
		r.engine.status = 7
		code, want := r.Run(append([]string{"-D", dir}, strings.Fields(test.line)...)), 0
		if test.waited {
			want = 7
		}
		if code != want || r.engine.waited != test.waited || !reflect.DeepEqual(r.became, test.became) || r.errOut.Len() > 0 {
			t.Errorf("%s: %d, waited %t, became %q, %s", test.line, code, r.engine.waited, r.became, r.errOut.String())
		}
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		line   string
		report CheckReport
		code   int
		out    string
	}{
		{"check", CheckReport{}, 0, "Looks good.\n"},
		{"check --all", CheckReport{Optional: []string{"x"}}, 1, "Looks good but some kernel features are missing\nwhich, depending on your process tree, may cause\ndump or restore failure.\n"},
		{"check", CheckReport{Required: []string{"x"}}, 1, "Does not look good.\n"},
		{"check --feature uffd", CheckReport{}, 0, "uffd is supported\n"},
		{"check --feature uffd", CheckReport{Required: []string{"x"}}, 1, "uffd is not supported\n"},
	}
	for _, test := range tests {
		r := newTestRun()
		r.engine.report = test.report
		if code := r.run(test.line); code != test.code || r.out.String() != test.out {
			t.Errorf("%s: %d, %q", test.line, code, r.out.String())
		}
		if all := strings.Contains(test.line, "--all"); r.engine.check.Extra != all || r.engine.check.Experimental != all {
			t.Errorf("%s: %+v", test.line, r.engine.check)
		}
	}
	// An empty name, as a script may have it of a variable that isn't set, is none.
	r := newTestRun()
	if code := r.run("check --feature="); code != 1 || r.engine.check != nil {
		t.Errorf("an empty feature: %d, %q", code, r.out.String())
	}
}

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	for _, verb := range []string{"lock", "unlock"} {
		r := newTestRun()
		code := r.run(verb + " " + dir)
		o := r.engine.lock
		if verb == "unlock" {
			o = r.engine.unlock
		}
		if code != 0 || o == nil || o.ImagesDir != dir || !strings.Contains(r.out.String(), "3 connections") {
			t.Errorf("%s: %d, %q, %+v", verb, code, r.out.String(), o)
		}
	}
	for _, line := range []string{"inspect --json " + dir, "inspect --json -D " + dir} {
		r := newTestRun()
		if code := r.run(line); code != 0 || r.out.String() != "inspected\n" || r.engine.inspect.ImagesDir != dir || !r.engine.inspect.JSON {
			t.Errorf("%s: %d, %q, %+v", line, code, r.out.String(), r.engine.inspect)
		}
	}
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	for _, line := range []string{"verify " + dir, "verify -D " + dir} {
		for _, err := range []error{nil, errors.New("damaged")} {
			r := newTestRun()
			r.engine.err = err
			want := 0
			if err != nil {
				want = 1
			}
			if code := r.run(line); code != want || r.out.String() != "verified\n" || r.engine.verify.ImagesDir != dir {
				t.Errorf("%s: %d, %q, %+v", line, code, r.out.String(), r.engine.verify)
			}
		}
	}
}

func TestPrivileges(t *testing.T) {
	const ptrace, admin, cr = 1 << unix.CAP_SYS_PTRACE, 1 << unix.CAP_SYS_ADMIN, 1 << unix.CAP_CHECKPOINT_RESTORE
	tests := []struct {
		line string
		have Privileges
		want string
	}{
		{"dump -t 1", Privileges{}, "Error (dump): dump needs CAP_CHECKPOINT_RESTORE and CAP_SYS_PTRACE and CAP_SYS_ADMIN; run it as root\n"},
		{"restore", Privileges{Root: true, Capabilities: admin}, "Error (restore): restore needs CAP_SYS_PTRACE; run it as root\n"},
		{"restore", Privileges{Root: true, Capabilities: ptrace | cr}, "Error (restore): restore needs CAP_SYS_ADMIN; run it as root\n"},
		{"restore", Privileges{Capabilities: ptrace | admin}, "Error (restore): restore needs root; with --unprivileged it tries with what privileges there are\n"},
		{"restore --unprivileged", Privileges{}, "Error (restore): restore needs CAP_CHECKPOINT_RESTORE; run it as root\n"},
		{"restore --unprivileged", Privileges{Capabilities: cr}, ""},
		{"restore", Privileges{Root: true, Capabilities: ptrace | admin}, ""},
	}
	for _, test := range tests {
		r := newTestRun()
		r.privileges = test.have
		code := r.run(test.line + " -D " + t.TempDir())
		if r.errOut.String() != test.want || (code == 0) != (test.want == "") {
			t.Errorf("%s with %+v: %d, %q", test.line, test.have, code, r.errOut.String())
		}
	}
}

// TestConfig: later files win over earlier ones, the command line over all.
func TestConfig(t *testing.T) {
	home, dir := t.TempDir(), t.TempDir()
	write := func(path, text string) string {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(filepath.Join(home, ".criu/default.conf"), "shell-job\ntimeout 1\nweak-sysctls # only restore refuses this\n")
	env := write(filepath.Join(dir, "env.conf"), "timeout 2\nverbosity 4\n")
	own := write(filepath.Join(dir, "own.conf"), "timeout 3\nno-shell-job\n")
	bad := write(filepath.Join(dir, "bad.conf"), "timeout x\n")
	worse := write(filepath.Join(dir, "worse.conf"), "dump\n")
	tests := []struct {
		line, env string
		timeout   time.Duration
		shellJob  bool
		err       string
	}{
		{"--leave-running", "", 1, true, ""},
		{"--no-default-config", "", 10, false, ""},
		{"--no-default-config", env, 2, false, ""},
		{"--config " + own, "", 3, false, ""},
		{"--config " + own + " --timeout 4 -j", env, 4, true, ""},
		{"--config=" + bad, "", 0, false, "configuration file " + bad + `: invalid argument for --timeout: "x"`},
		{"--config=" + worse, "", 0, false, "configuration file " + worse + ": unrecognized option '--dump'"},
	}
	for _, test := range tests {
		r := newTestRun()
		r.env["HOME"], r.env["CRIU_CONFIG_FILE"] = home, test.env
		code := r.run("dump -t 1 -D " + dir + " " + test.line)
		switch {
		case test.err != "":
			if code != 1 || !strings.Contains(r.errOut.String(), test.err) {
				t.Errorf("%s: %d, %q", test.line, code, r.errOut.String())
			}
		case code != 0:
			t.Errorf("%s: %d, %q", test.line, code, r.errOut.String())
		case r.engine.dump.Timeout != test.timeout*time.Second || r.engine.dump.ShellJob != test.shellJob:
			t.Errorf("%s: %+v", test.line, r.engine.dump)
		}
	}
}

// TestHomes: services have /dev/null for a home; a file that can't be opened is named,
// with a way to go without.
func TestHomes(t *testing.T) {
	loops := t.TempDir()
	if err := os.Symlink(".criu", filepath.Join(loops, ".criu")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ home, line, err string }{
		{"/dev/null", "", ""},
		{filepath.Join(loops, "none"), "", ""},
		{loops, "--no-default-config", ""},
		{loops, "", "too many levels of symbolic links; make it readable, or go without by --no-default-config"},
	} {
		r := newTestRun()
		r.env["HOME"] = test.home
		code := r.run("dump -t 1 -D " + t.TempDir() + " " + test.line)
		if (code == 0) != (test.err == "") || !strings.Contains(r.errOut.String(), test.err) {
			t.Errorf("home %s %s: %d, %q", test.home, test.line, code, r.errOut.String())
		}
	}
}

// TestConfigOfMachine: /etc/criu/default.conf comes before the one of the user.
func TestConfigOfMachine(t *testing.T) {
	testkit.RequireRoot(t)
	home := t.TempDir()
	done := make(chan struct{})
	testkit.OnThread(func() { // in a mount namespace of its own
		defer close(done)
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("none", "/etc", "tmpfs", 0, ""), os.Mkdir("/etc/criu", 0o755), os.Mkdir(filepath.Join(home, ".criu"), 0o755),
			os.WriteFile("/etc/criu/default.conf", []byte("timeout 5\nshell-job\n"), 0o600)); err != nil {
			t.Error(err)
			return
		}
		run := func(line string) (time.Duration, bool) {
			r := newTestRun()
			r.env["HOME"] = home
			if code := r.run("dump -t 1 -D " + home + " " + line); code != 0 {
				t.Errorf("%s: %d, %q", line, code, r.errOut.String())
			}
			return r.engine.dump.Timeout / time.Second, r.engine.dump.ShellJob
		}
		for _, test := range []struct {
			line, own string
			timeout   time.Duration
			shellJob  bool
		}{
			{"", "", 5, true},
			{"", "timeout 6\n", 6, true},
			{"--no-default-config", "timeout 6\n", 10, false},
		} {
			if err := os.WriteFile(filepath.Join(home, ".criu/default.conf"), []byte(test.own), 0o600); err != nil {
				t.Error(err)
			}
			if timeout, shellJob := run(test.line); timeout != test.timeout || shellJob != test.shellJob {
				t.Errorf("%q with %q: timeout %d, shell job %v", test.line, test.own, timeout, shellJob)
			}
		}
	})
	<-done
}

// FuzzRun: whatever the words, no panic and a sensible exit status.
func FuzzRun(f *testing.F) {
	for _, s := range []string{"dump\t-t\t1", "--help", "restore\t--exec-cmd\t--\tx", "inspect\t.", "-v0\tcheck\t--feature\tx", "dump\t--external=a[b]",
		"-v4\tdump\t-Ddir", "--tr", "-dS\t--\tx", "--=\t-\t--no-", "-\xff\t--\xff=\x00"} {
		f.Add(s)
	}
	if err := os.Chdir(f.TempDir()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, line string) {
		checkParse(t, line)
		// Nothing may be read or written outside of the test's own directory.
		if strings.ContainsAny(line, "/\x00") {
			return
		}
		r := newTestRun()
		if code := r.Run(strings.Split(line, "\t")); code != 0 && code != 1 {
			t.Errorf("%q: exit status %d", line, code)
		}
	})
}
