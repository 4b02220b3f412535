package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/event"
)

// progress is the line that tells a person at a terminal how far long work is.
// It goes away when the work ends.
type progress struct {
	out   io.Writer // nil: nobody is there to read it
	verb  string
	start time.Time
	mu    sync.Mutex
	stage string
	stop  chan struct{}
	ended sync.WaitGroup
}

// When the line comes, and how often it changes.
const (
	progressAfter = 500 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

// quiet tells whether nothing but warnings comes to standard error.
func (s *session) quiet() bool { return s.file != nil || s.common.Verbosity <= 2 }

// progress begins to show progress, unless standard error is no terminal, or
// busy.
func (a *App) progress(verb string, quiet bool) *progress {
	p := &progress{verb: verb, start: a.Start}
	if f, ok := a.Stderr.(*os.File); ok && quiet && terminal(f) {
		p.run(f)
	}
	return p
}

func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// run shows the line until end is called.
func (p *progress) run(out io.Writer) {
	p.out, p.stop = out, make(chan struct{})
	p.ended.Go(func() {
		wait := progressAfter
		for {
			select {
			case <-p.stop:
				return
			case <-time.After(wait):
				p.show()
				wait = progressEvery
			}
		}
	})
}

// eraseLine is what ECMA-48 terminals empty a line by.
const eraseLine = "\r\x1b[K"

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, "%s%s: %s, %.1f s", eraseLine, p.verb, p.stage, time.Since(p.start).Seconds())
}

func (p *progress) observers() event.All {
	if p.out == nil {
		return nil
	}
	return event.All{event.Progress(func(stage string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stage = stage
	})}
}

// end takes the line away.
func (p *progress) end() {
	if p.out == nil {
		return
	}
	close(p.stop)
	p.ended.Wait()
	fmt.Fprint(p.out, eraseLine)
}
