// Command gohttp is a web server as one writes it with net/http and nothing
// else: its listener speaks Multipath TCP, its connections are kept alive. It
// answers each request with how many came on that connection before, and what
// it was asked. Its port is in the file "port".
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
)

// counter is what a connection's context has: requests so far.
type counter struct{}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if err := os.WriteFile("port.new", []byte(port), 0o644); err != nil {
		panic(err)
	}
	if err := os.Rename("port.new", "port"); err != nil {
		panic(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		n := r.Context().Value(counter{}).(*uint64) // requests of one connection come one by one
		fmt.Fprintf(w, "%d %s", *n, r.URL.Path)
		*n++
	})
	s := &http.Server{ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, counter{}, new(uint64))
	}}
	panic(s.Serve(l))
}
