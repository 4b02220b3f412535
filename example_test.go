package glis_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"glis.dev/glis"
)

// The program is its own guardian, and in this example its own server, too.
func TestMain(m *testing.M) {
	glis.Init()
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		serve()
		return
	}
	keepOwn()
	os.Exit(m.Run())
}

// serve answers every line of its one client with the line's number.
func serve() {
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		panic(err)
	}
	c, err := l.Accept()
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(c)
	for n := 1; lines.Scan(); n++ {
		fmt.Fprintf(c, "%d: %s\n", n, lines.Text())
	}
}

// startServer starts a child that has a listener and nothing else of ours.
func startServer() (pid int, client net.Conn, err error) {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	l, err := plain.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	// Not os/exec, and nobody waits for it: see the package's comment.
	p, err := os.StartProcess("/proc/self/exe", []string{"server", "serve"}, &os.ProcAttr{Files: []*os.File{null, null, null, f}, Sys: ownSession()})
	if err != nil {
		return 0, nil, err
	}
	pid = p.Pid
	client, err = net.Dial("tcp4", l.Addr().String())
	return pid, client, err
}

func Example() {
	ctx := context.Background()
	pid, client, err := startServer()
	if err != nil {
		panic(err)
	}
	answers := bufio.NewReader(client)
	say := func(text string) {
		fmt.Fprintln(client, text)
		answer, err := answers.ReadString('\n')
		fmt.Print(answer)
		if err != nil && err != io.EOF {
			fmt.Println(err)
		}
	}
	say("good night")

	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if _, err := glis.Dump(ctx, glis.DumpOptions{PID: pid, ImagesDir: dir, TCPEstablished: true}); err != nil {
		panic(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
		fmt.Println("the server is gone")
	}
	tree, err := glis.Restore(ctx, glis.RestoreOptions{ImagesDir: dir, TCPEstablished: true})
	if err != nil {
		panic(err)
	}
	fmt.Println("the server is back, under the same number:", tree.PID == pid)
	say("good morning")

	client.Close()
	if ws, err := tree.Wait(); err != nil || ws != 0 {
		panic(fmt.Sprint(ws, err))
	}
	// Output:
	// 1: good night
	// the server is gone
	// the server is back, under the same number: true
	// 2: good morning
}
