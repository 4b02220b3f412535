package stub

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// program is a descriptor, high enough, of a program.
func program(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 200)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(n) })
	return n
}

// What a process is begun with gets its numbers in their order, also if they are
// each other's, and nothing else comes along.
func TestBirthDescriptors(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	defer in.Close()
	dir := t.TempDir()
	var files []int
	for _, name := range []string{"a", "b", "c", "d"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, int(f.Fd()))
	}
	low := []int{int(in.Fd()), files[1], 0, 2, 1, files[0], files[3], files[3], files[2]}
	want := make([]string, len(low))
	for i, n := range low {
		if want[i], err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", n)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := begin(program(t, "/bin/cat"), "cat", low, 0, func(*Birth) {})
	if err == nil {
		err = b.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer ended(t, b.PID) // by the end of what it reads
	defer out.Close()
	for i := range want {
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", b.PID, i)); err != nil || got != want[i] {
			t.Errorf("descriptor %d is %s, want %s (%v)", i, got, want[i], err)
		}
	}
	for n := 200; n < 220; n++ { // what it executed, and what came in between
		if _, err := os.Lstat(fmt.Sprintf("/proc/%d/fd/%d", b.PID, n)); !os.IsNotExist(err) {
			t.Errorf("descriptor %d came along: %v", n, err)
		}
	}
}

// What the program itself was started with, and is not closed by itself, does not come
// along either.
func TestBirthAlone(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	b, err := begin(program(t, "/bin/cat"), "cat", []int{int(in.Fd())}, 0, func(*Birth) {})
	if err == nil {
		err = b.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2} {
		ours, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", n))
		if err != nil {
			t.Error(err)
		}
		// It may have one of its own by now, as its loader has of a library.
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", b.PID, n)); err == nil && to == ours {
			t.Errorf("descriptor %d is %s", n, to)
		}
	}
	out.Close()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(b.PID, &ws, 0, nil); err != nil {
		t.Error(err)
	}
}

// A process that can't execute is an error that says why, and does not stay.
func TestBirthFails(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := begin(program(t, text), "x", []int{0}, 0, func(*Birth) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Wait(); !errors.Is(err, unix.EACCES) {
		t.Errorf("got %v, want %v", err, unix.EACCES)
	}
	if _, err := unix.Wait4(b.PID, nil, unix.WALL, nil); err != unix.ECHILD {
		t.Errorf("not reaped: %v", err)
	}
	if err := b.Wait(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// Our own handlers don't run in a process that is on its way, which shares our
// memory: it has everything blocked until it executes.
func TestBirthUnderSignals(t *testing.T) {
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Kill(0, unix.SIGURG) // to all of our group, as the terminal does
			}
		}
	}()
	defer func() { close(stop); <-ended }()
	exe := program(t, "/bin/true")
	for range 50 {
		b, err := begin(exe, "true", []int{0}, 0, func(*Birth) {})
		if err == nil {
			err = b.Wait()
		}
		if err != nil {
			t.Fatal(err)
		}
		var ws unix.WaitStatus
		if _, err := unix.Wait4(b.PID, &ws, 0, nil); err != nil || !ws.Exited() || ws.ExitStatus() != 0 {
			t.Fatalf("wait status %#x, %v", ws, err)
		}
	}
	if err := exec.Command("/bin/true").Run(); err != nil { // nothing of us is broken
		t.Error(err)
	}
}

// Where there may be hardly more descriptors than there are, it still begins; where
// there are too few, the error says which limit it is.
func TestBirthAmongFewDescriptors(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &was) //nolint:errcheck // as it was
	exe := program(t, "/bin/true")
	for room, want := range map[int]bool{3: false, 4: true} { // the program, the pipe's end, two on their way
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(exe + room), Max: was.Max}); err != nil {
			t.Fatal(err)
		}
		b, err := begin(exe, "true", []int{0, 2}, 0, func(*Birth) {})
		if err == nil {
			err = b.Wait()
		}
		if err == nil {
			ended(t, b.PID)
		}
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "RLIMIT_NOFILE") {
			t.Errorf("with room for %d descriptors: %v", room, err)
		}
	}
}
