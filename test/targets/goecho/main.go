// Command goecho gives back whatever it gets, and writes its port to the file
// "port". Its listener speaks Multipath TCP, as those of Go do.
package main

import (
	"io"
	"net"
	"os"
	"strconv"
)

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
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			// Not io.Copy itself: it would splice, through pipes.
			_, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			if err != nil {
				_ = os.WriteFile("error", []byte(err.Error()), 0o644)
			}
			c.Close()
		}()
	}
}
