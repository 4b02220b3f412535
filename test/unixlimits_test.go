package test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// unixRefusals are states of targets/unixrefused.c, the row of docs/limits.md that
// says so, and words of the message. What a process of another PID namespace has
// sent can't be had within one.
var unixRefusals = []struct {
	state, row, words string
	more              []string
}{
	{"outside", "a unix socket whose peer is outside of the tree", "is outside of the tree", nil},
	{"posted", "or is only in messages that can't be received in the tree", "can't be received in the tree", nil},
	{"waitended", "have ended with urgent data that waits", "urgent data waits to be read", []string{"--tcp-established"}},
	{"outside", "the peer's name is missing", "has no name to connect to again", []string{"--ext-unix-sk"}},
	{"waitclient", "the client or the server is outside", "--skip-in-flight", nil},
	{"waitserver", "the client or the server is outside", "hasn't accepted it yet", nil},
	{"waitrenamed", "its abstract name belongs to a socket outside", "outside of the tree (process", nil},
	{"heiraccepted", "a unix socket with an abstract name that", "the name of the listener that it was accepted from", nil},
	{"heirclient", "a unix socket with an abstract name that", "the name of the listener that it was accepted from", nil},
	{"heirpeer", "a unix socket with an abstract name that", "the name of its peer, which is closed", nil},
	{"heirsender", "a unix socket with an abstract name that", "the name of who has sent it a message", nil},
	{"senderoutside", "or is the name of who has sent what waits in the queue", "the name of who has sent it a message", nil},
	{"waitlonely", "descriptors come along that nobody else in the tree has open", "events wait in it", nil},
	{"waithalved", "pipes with an end outside", "held outside of the tree", nil},
	{"waitwatched", "what an epoll file watches that no task", "an epoll file watches which no task", nil},
	{"lonely", "an error (SO_ERROR) in front of messages", "nobody else in the tree has open", nil},
	{"attribute", "has an ACL or an extended attribute", "trusted.glis", nil},
	{"hardlink", "has other names (hard links)", "hard links", nil},
	{"net", "another network namespace", "another network namespace", nil},
	{"opath", "that was opened with O_PATH by way of", "O_PATH", nil},
}

// Each state of a unix socket is refused by name, and the target goes on
// unharmed, with all that is in its queues.
func TestUnixLimits(t *testing.T) {
	e := glisOnly(t)
	doc, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	path := testkit.BuildC(t, "targets/unixrefused.c")
	for _, x := range unixRefusals {
		t.Run(x.state+strings.Join(x.more, ""), func(t *testing.T) {
			if !strings.Contains(string(doc), x.row) {
				t.Errorf("docs/limits.md does not say %q", x.row)
			}
			testkit.NoLeaks(t)
			p := testkit.Start(t, testkit.NewDir(t), path, x.state, ".")
			p.AwaitAt(t, 0)
			before := testkit.Look(t, p.PID)
			refused(t, e, append([]string{"dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t), "-R"}, x.more...), "not supported", x.words)
			if x.words == "--skip-in-flight" { // which leaves it out, of the images only
				if r := e.Run(t, "dump", "-t", strconv.Itoa(p.PID), "-D", testkit.NewDir(t), "-R", x.words); r.Code != 0 {
					t.Errorf("with %s: %s", x.words, r.Stderr)
				}
			}
			testkit.Unharmed(t, p.PID)
			if d := testkit.Diff(before, testkit.Look(t, p.PID), "ticks: "); d != "" {
				t.Errorf("the target has changed:\n%s", d)
			}
			p.Go(t, 0, true)
			p.WaitExit(t, 0)
		})
	}
}
