package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A log that nobody reads for a while keeps nobody from working, and loses nothing; what is
// far too much is counted.
func TestLateLog(t *testing.T) {
	for _, lines := range []int{1000, 50000} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
			t.Fatal(err)
		}
		log := newLogger(w, verbosityWarn, time.Now())
		for i := range lines {
			log.Warn(fmt.Sprintf("%d %s", i, strings.Repeat("x", 50)))
		}
		read := make(chan string)
		go func() {
			all, _ := io.ReadAll(r)
			read <- string(all)
		}()
		stopped := false
		flush(log, func() os.Signal { stopped = true; return nil })
		w.Close()
		all := strings.Split(strings.TrimSpace(<-read), "\n")
		for i, line := range all[:len(all)-1] {
			if !strings.Contains(line, fmt.Sprintf(": %d xxx", i)) {
				t.Fatalf("line %d: %s", i, line)
			}
		}
		last := all[len(all)-1]
		if lines == 1000 && !strings.Contains(last, ": 999 ") || lines == 50000 && !strings.Contains(last, fmt.Sprintf("%d lines are missing", lines-len(all)+1)) {
			t.Errorf("%d lines, of %d: %s", len(all), lines, last)
		}
		if !stopped {
			t.Error("signals would not end what waits for a reader")
		}
		r.Close()
	}
}
