package test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// postgresProgram finds a program of the server, which Debian keeps out of
// PATH.
func postgresProgram(t testing.TB, name string) string {
	t.Helper()
	if all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(all) > 0 {
		return all[len(all)-1]
	}
	return testkit.RequireProgram(t, name, "postgresql")
}

// poll waits for what no event tells.
func poll(t testing.TB, what string, cond func() bool) {
	t.Helper()
	if !testkit.Poll(t, what, cond) {
		t.FailNow()
	}
}

// startPostgres starts a new server with a user of its own, which listens on
// TCP only.
func startPostgres(t testing.TB, dir string) (p *testkit.Proc, host, port string) {
	t.Helper()
	const user = 65534
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	as := &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: user, Gid: user}}
	init := exec.Command(postgresProgram(t, "initdb"), "-D", filepath.Join(dir, "db"), "-A", "trust", "-U", "glis", "--no-sync", "--locale=C")
	init.SysProcAttr, init.Dir = as, dir
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	host, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p = testkit.StartWith(t, dir, &os.ProcAttr{Files: []*os.File{null, log, log}, Sys: as}, postgresProgram(t, "postgres"),
		"-D", "db", "-h", host, "-p", port, "-k", "", "-c", "fsync=off", "-c", "huge_pages=off", "-c", "shared_buffers=2MB", "-c", "max_connections=10")
	poll(t, "postgres is ready", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "db", "postmaster.pid"))
		return strings.Contains(string(b), "\nready")
	})
	return p, host, port
}

// A client of postgres has a transaction open while its server, with all its
// processes, shared memory and locks, is saved and restored.
func TestPostgres(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	dir := testkit.NewDir(t)
	p, host, port := startPostgres(t, dir)
	client := exec.Command(testkit.RequireProgram(t, "psql", "postgresql"), "-h", host, "-p", port, "-U", "glis", "-AtqX", "-v", "ON_ERROR_STOP=1", "postgres")
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	client.Stderr = os.Stderr
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Process.Kill() // it has ended if all went well
		_ = client.Wait()
	})
	lines := bufio.NewReader(out)
	ask := func(sql, want string) {
		t.Helper()
		if _, err := io.WriteString(in, sql+"\n"); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); err != nil || got != want+"\n" {
			b, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("%s: %q, %v, want %q; the server says:\n%s", sql, got, err, want, b)
		}
	}
	ask("create table t(n int); begin; lock table t in exclusive mode; insert into t values (0); select count(*) from t;", "1")
	for n := range 3 {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img, "--tcp-established")
		e.Restore(t, img, "--tcp-established")
		testkit.Unharmed(t, p.PID)
		ask(fmt.Sprintf("insert into t values (%d); select count(*), sum(n) from t;", n+1), fmt.Sprintf("%d|%d", n+2, (n+1)*(n+2)/2))
	}
	ask("commit; select count(*) from t;", "4")
	in.Close()
	if err := client.Wait(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(p.PID, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.WaitExit(t, 0)
}

const nginxConf = `
daemon off; master_process on; worker_processes 2; pid nginx.pid; error_log log;
events { worker_connections 64; }
http {
  access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server { listen %s; location / { return 200 "$pid\n"; } }
}`

// nginx's master and workers serve on, and the master makes new workers.
func TestNginx(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	dir, addr := testkit.NewDir(t), freeAddress(t)
	if err := os.WriteFile(filepath.Join(dir, "conf"), fmt.Appendf(nil, nginxConf, addr), 0o644); err != nil {
		t.Fatal(err)
	}
	p := testkit.Start(t, dir, testkit.RequireProgram(t, "nginx", "nginx-light"), "-p", dir, "-c", "conf", "-e", "log")
	poll(t, "nginx has workers", func() bool { return len(testkit.Tree(p.PID)) == 3 })
	get := func() string {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
			t.Fatalf("%v: %s", err, b)
		}
		return string(b)
	}
	get()
	for range 3 {
		workers := testkit.Tree(p.PID)[1:]
		img := testkit.NewDir(t)
		// A connection that has just ended may still be in a worker.
		e.Save(t, p.PID, img, "--tcp-established")
		e.Restore(t, img, "--tcp-established")
		get()
		if err := syscall.Kill(p.PID, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		poll(t, "nginx has new workers", func() bool {
			now := testkit.Tree(p.PID)[1:]
			return len(now) == 2 && now[0] != workers[0] && now[0] != workers[1] && now[1] != workers[1]
		})
		get()
	}
}

// awaitRedis waits until redis listens: its socket has a name before that.
func awaitRedis(t testing.TB, p *testkit.Proc) {
	t.Helper()
	testkit.Await(t, p.Dir, p.PID, "redis is ready", func() bool {
		b, _ := os.ReadFile(filepath.Join(p.Dir, "log"))
		return strings.Contains(string(b), "eady to accept connections")
	})
}

// redis has a child that saves its data to the disk, which goes on with that.
func TestRedisSave(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	dir := testkit.NewDir(t)
	sock := filepath.Join(dir, "redis.sock")
	p := testkit.Start(t, dir, testkit.RequireProgram(t, "redis-server", "redis-server"), "--port", "0", "--unixsocket", sock, "--save", "", "--dir", dir,
		"--logfile", "log", "--rdb-key-save-delay", "200000", "--enable-debug-command", "yes")
	awaitRedis(t, p)
	for i := range 50 {
		redis(t, p, fmt.Sprintf("SET key%d %d", i, i))
	}
	// Its child has the connection, too: it stays open until the data is saved.
	c, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "BGSAVE\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(c).ReadString('\n'); got != "+Background saving started\r\n" {
		t.Fatal(got, err)
	}
	c.Close()
	for i := range 3 {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img)
		e.Restore(t, img)
		if n := len(testkit.Tree(p.PID)); n != 2 {
			t.Fatalf("%d processes in generation %d", n, i)
		}
	}
	testkit.Await(t, dir, p.PID, "the data is saved", func() bool {
		b, _ := os.ReadFile(filepath.Join(dir, "log"))
		return strings.Contains(string(b), "Background saving terminated with success")
	})
	if st, err := os.Stat(filepath.Join(dir, "dump.rdb")); err != nil || st.Size() < 100 {
		t.Error(st, err)
	}
}

// inotifywait tells of what happens after each restore.
func TestInotifywait(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	dir := testkit.NewDir(t)
	if err := os.Mkdir(filepath.Join(dir, "watched"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := testkit.Start(t, dir, testkit.RequireProgram(t, "inotifywait", "inotify-tools"), "-m", "-q", "-o", filepath.Join(dir, "out"), "-e", "create", "watched")
	poll(t, "it watches", func() bool {
		infos, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", p.PID))
		for _, info := range infos {
			if b, _ := os.ReadFile(info); strings.Contains(string(b), "inotify wd:") {
				return true
			}
		}
		return false
	})
	want := ""
	for n := range 3 {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img)
		e.Restore(t, img)
		if err := os.WriteFile(filepath.Join(dir, "watched", strconv.Itoa(n)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		want += fmt.Sprintf("watched/ CREATE %d\n", n)
		testkit.Await(t, dir, p.PID, want, func() bool { b, _ := os.ReadFile(filepath.Join(dir, "out")); return string(b) == want })
	}
}

// A program that strace follows is refused by name, and so is strace itself
// with what it follows.
func TestStrace(t *testing.T) {
	testkit.RequireRoot(t)
	testkit.NoLeaks(t)
	e := testkit.FindEngine(t)
	dir := testkit.NewDir(t)
	p := testkit.Start(t, dir, testkit.RequireProgram(t, "strace", "strace"), "-f", "-o", "trace", testkit.RequireProgram(t, "sleep", "coreutils"), "1000")
	traced := func() int {
		for _, pid := range testkit.Tree(p.PID)[1:] {
			if slept := testkit.Status(t, strconv.Itoa(pid), "Name", "TracerPid"); len(slept) == 2 && slept[0] == "Name: sleep" && slept[1] != "TracerPid: 0" {
				return pid
			}
		}
		return 0
	}
	poll(t, "strace follows", func() bool { return traced() != 0 })
	for _, pid := range []int{traced(), p.PID} {
		r := e.Run(t, "dump", "-t", strconv.Itoa(pid), "-D", testkit.NewDir(t))
		if want := fmt.Sprintf("traced by process %d", p.PID); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("code %d, %q is not in %s", r.Code, want, r.Stderr)
		}
	}
	if traced() == 0 {
		t.Error("strace has lost it")
	}
}

// Glis itself may be followed by strace, with all that it starts: no process that it
// has to trace gets another tracer.
func TestUnderStrace(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	wrapper := filepath.Join(testkit.NewDir(t), "glis")
	mustDo(t, os.WriteFile(wrapper, fmt.Appendf(nil, "#!/bin/sh\nexec '%s' -f -o /dev/null '%s' \"$@\"\n",
		testkit.RequireProgram(t, "strace", "strace"), e.Path), 0o755))
	e.Path = wrapper
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/ticker.c"), ".")
	awaitCount(t, p, 3)
	for range 2 {
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img)
		e.Restore(t, img)
		testkit.Unharmed(t, p.PID)
		awaitCount(t, p, 3)
	}
}
