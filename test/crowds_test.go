package test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"glis.dev/glis/internal/testkit"
)

// awaitServer waits until somebody listens at an address.
func awaitServer(t testing.TB, p *testkit.Proc, addr string) {
	t.Helper()
	poll(t, "a server at "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, patient)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	testkit.Unharmed(t, p.PID)
}

// dialOnce connects a client until the test ends.
func dialOnce(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// exchange sends a question, and wants an answer.
func exchange(c net.Conn, in io.Reader, ask, want string) error {
	if err := c.SetDeadline(time.Now().Add(patient)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, ask); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if n, err := io.ReadFull(in, got); err != nil {
		return fmt.Errorf("after %.200q: %w", got[:n], err)
	}
	if string(got) != want {
		return fmt.Errorf("got %.200q, want %.200q", got, want)
	}
	return nil
}

// memcachedClient counts in the server, and has it keep a text of growing size.
func memcachedClient(t testing.TB, addr string, i int) func(n uint64) error {
	t.Helper()
	c := dialOnce(t, addr)
	in := bufio.NewReader(c)
	if err := exchange(c, in, fmt.Sprintf("set count%d 0 0 1\r\n0\r\n", i), "STORED\r\n"); err != nil {
		t.Fatal(err)
	}
	return func(n uint64) error {
		var ask, want strings.Builder
		for k := n * pipelined; k < (n+1)*pipelined; k++ {
			text := strings.Repeat(strconv.FormatUint(k, 10)+".", int(k%500)+1)
			fmt.Fprintf(&ask, "incr count%d 1\r\nset text%d 0 0 %d\r\n%s\r\nget text%d\r\n", i, i, len(text), text, i)
			fmt.Fprintf(&want, "%d\r\nSTORED\r\nVALUE text%d 0 %d\r\n%s\r\nEND\r\n", k+1, i, len(text), text)
		}
		return exchange(c, in, ask.String(), want.String())
	}
}

// The clients of memcached, with its threads, never notice that it is away.
func TestMemcachedClients(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	testkit.NoLeaks(t)
	addr := freeAddress(t)
	_, port, _ := net.SplitHostPort(addr)
	p := testkit.Start(t, testkit.NewDir(t), testkit.RequireProgram(t, "memcached", "memcached"), "-l", "127.0.0.1", "-p", port, "-t", "2", "-u", "root", "-m", "16")
	awaitServer(t, p, addr)
	c := &crowd{}
	for i := range 20 {
		c.join(memcachedClient(t, addr, i))
	}
	c.outlive(t, e, p)
}

const haproxyConf = `
global
  nbthread 2
defaults
  timeout connect 60s
  timeout client 60s
  timeout server 60s
listen plain
  mode tcp
  bind %s
  server s %s
listen web
  mode http
  http-reuse never
  bind %s
  server s %[2]s
`

// Those who are at both sides of haproxy never notice that it is away: each client
// has one connection to the server behind it.
func TestHaproxyClients(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	testkit.NoLeaks(t)
	server := testkit.Start(t, testkit.NewDir(t), testkit.BuildGo(t, "./targets/gohttp"))
	port := server.Told(t, "port")
	dir, plain, web := testkit.NewDir(t), freeAddress(t), freeAddress(t)
	conf := fmt.Sprintf(haproxyConf, plain, "127.0.0.1:"+port, web)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	p := testkit.Start(t, dir, testkit.RequireProgram(t, "haproxy", "haproxy"), "-db", "-f", "conf")
	c := &crowd{}
	for _, addr := range []string{plain, web} {
		awaitServer(t, p, addr)
		for range 10 {
			c.join(webClient(t, addr))
		}
	}
	c.outlive(t, e, p)
}

const nginxFiles = `
daemon off; master_process on; worker_processes 2; pid nginx.pid; error_log log;
events { worker_connections 64; }
http {
  access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  keepalive_requests 1000000; sendfile on;
  server { listen %s sndbuf=300k; root .; }
}`

// Slow downloads from nginx go on, three generations long, in the middle of a file
// and of one that comes on the same connection after it.
func TestNginxClients(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	testkit.NoLeaks(t)
	dir, addr := testkit.NewDir(t), freeAddress(t)
	whole := make([]byte, 5<<20)
	for i := range whole {
		whole[i] = byte(i * 2654435761 >> 20)
	}
	for name, b := range map[string][]byte{"conf": fmt.Appendf(nil, nginxFiles, addr), "file": whole} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { // its workers are nobody
		t.Fatal(err)
	}
	p := testkit.Start(t, dir, testkit.RequireProgram(t, "nginx", "nginx-light"), "-p", dir, "-c", "conf", "-e", "log")
	awaitServer(t, p, addr)
	c := &crowd{}
	for range 4 {
		c.join(download(t, "http://"+addr+"/file", whole))
	}
	c.outlive(t, e, p)
}

// download reads a file again and again, a small piece at a time, with little room
// for what comes, on one connection.
func download(t testing.TB, url string, whole []byte) func(n uint64) error {
	t.Helper()
	dials := 0
	var conn net.Conn
	tr := &http.Transport{ReadBufferSize: 4096, Dial: func(network, addr string) (net.Conn, error) {
		if dials++; dials > 1 {
			return nil, fmt.Errorf("connection %d is asked for", dials)
		}
		c, err := net.Dial(network, addr)
		if err == nil {
			err = c.(*net.TCPConn).SetReadBuffer(16 << 10)
		}
		conn = c
		return c, err
	}}
	t.Cleanup(func() {
		if conn != nil {
			conn.Close() // it may be in the middle of a file
		}
	})
	client := &http.Client{Transport: tr}
	var body io.ReadCloser
	at := len(whole)
	return func(uint64) error {
		if at == len(whole) {
			r, err := client.Get(url)
			if err != nil {
				return err
			}
			if r.StatusCode != http.StatusOK {
				return fmt.Errorf("status %s", r.Status)
			}
			body, at = r.Body, 0
		}
		b := make([]byte, min(64<<10, len(whole)-at))
		if _, err := io.ReadFull(body, b); err != nil {
			return err
		}
		if !bytes.Equal(b, whole[at:at+len(b)]) {
			return fmt.Errorf("other bytes than the file has from %d on", at)
		}
		if at += len(b); at < len(whole) {
			return nil
		}
		if n, err := body.Read(b); n != 0 || err != io.EOF {
			return fmt.Errorf("%d bytes behind the end, %v", n, err)
		}
		return body.Close()
	}
}

// Web servers that answer with how many requests came on the connection before, and
// what was asked for, as targets/gohttp does.
const (
	pythonWeb = `
import sys, http.server
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    n = 0
    def log_message(self, *_): pass
    def do_GET(self):
        b = b"%d %s" % (self.n, self.path.encode())
        self.n += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(b)))
        self.end_headers()
        self.wfile.write(b)
http.server.ThreadingHTTPServer.request_queue_size = 50
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
`
	nodeWeb = `
const s = require("http").createServer((q, r) => {
  const n = q.socket.asked || 0;
  q.socket.asked = n + 1;
  r.end(n + " " + q.url);
});
s.keepAliveTimeout = 600000;
s.listen(+process.argv[2], "127.0.0.1");
`
	javaWeb = `
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.*;
public class Web {
  public static void main(String[] args) throws Exception {
    var asked = new ConcurrentHashMap<InetSocketAddress, Integer>();
    var s = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 50);
    s.createContext("/", x -> {
      int n = asked.merge(x.getRemoteAddress(), 1, Integer::sum) - 1;
      byte[] b = (n + " " + x.getRequestURI()).getBytes();
      x.sendResponseHeaders(200, b.length);
      try (var out = x.getResponseBody()) { out.write(b); }
    });
    s.setExecutor(Executors.newCachedThreadPool());
    s.start();
  }
}
`
)

// The clients of web servers as one writes them in other languages keep their
// connections.
func TestLanguagesClients(t *testing.T) {
	testkit.RequireRoot(t)
	e := testkit.FindEngine(t)
	for _, x := range []struct {
		name, file, source string
		argv               func(t testing.TB) []string
	}{
		{"python", "web.py", pythonWeb, func(t testing.TB) []string { return []string{python(t)} }},
		{"node", "web.js", nodeWeb, func(t testing.TB) []string { return []string{testkit.RequireProgram(t, "node", "nodejs")} }},
		{"java", "Web.java", javaWeb, func(t testing.TB) []string {
			return []string{testkit.RequireProgram(t, "java", "default-jdk-headless"), "-Xmx64m", "-XX:+UseSerialGC"}
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			testkit.NoLeaks(t)
			dir, addr := testkit.NewDir(t), freeAddress(t)
			if err := os.WriteFile(filepath.Join(dir, x.file), []byte(x.source), 0o644); err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(addr)
			p := testkit.Start(t, dir, append(x.argv(t), x.file, port)...)
			awaitServer(t, p, addr)
			c := &crowd{}
			for range 10 {
				c.join(webClient(t, addr))
			}
			c.outlive(t, e, p)
		})
	}
}
