package test

import (
	"os/exec"
	"regexp"
	"testing"

	"glis.dev/glis/internal/testkit"
)

// rest is targets with unix sockets of which criu's images can't say all. criu is to
// restore the rest: the whole tree, and all that it sees but what matches lost.
var rest = []struct{ name, lost string }{
	{name: "epollsent"},
	// Connections that were sent; criu leaves them in repair mode.
	{"tcpsentnames", ""},
	// Options that criu has no field for, and with them what comes along.
	// What one asks the first thread for, and when it ends.
	{"firstends", `SigBlk|personality|timerslack|Cpus_allowed|[Ss]tate`},
	{"firststopped", `root: first`},
	{"unixpass", `option (29|35|76|84), |option 16, .* flags 0`},
	// Files with another name, or a second one, those of names that it lost, and an error
	// that waits.
	{"unixnames", `to second|to renamed|to linked|renamed|other name|orphan client: |first: |linked: (mode|9|at)|(late|gone): bind|d/late: |left: 0`},
	// Urgent data is ordinary there; SO_PEEK_OFF; a message without descriptors.
	{"unixqueue", `urgent|places|only a place|large|nest|received|credentials`},
	// Of those that others are connected to, or whose peer has no name, that they are
	// connected, and what they send then; errors.
	{"unixdgram", `root: (a|b|c|d|to d): |server: 1[48] bytes|deserted|left|pair, |moved|to closed|to removed|seq reset`},
	// What clients have sent, and those that are closed.
	{"unixwaiting", `accepted|(listener|packets|gone|nested|queue|received): then|out|late|zombie|nest|urgent|messenger|talker|finished|by halves:  to|by halves: .00glis|silent: 20`},
}

// What criu can't say of any connected socket: who made it, and the names of both ends.
var unsaid = []struct {
	what *regexp.Regexp
	kept string
}{
	{regexp.MustCompile(`.*its pidfd: .*`), ""},
	{regexp.MustCompile(`, user -?\d+ -?\d+ groups -?\d+ \d+ \d+|, (peer is|of) ((this|unknown )?process( \d+)?|nobody)(, user \d+ \d+)?|, out -?\d+`), ""},
	{regexp.MustCompile(`^(=\w+: [^:]+): .* to (?:[^T].*)?$`), "$1"},
	{regexp.MustCompile(`^(\w+: .*) from .*( flags.*)`), "$1$2"},
}

// said is a line without that, "" for none.
func said(lost *regexp.Regexp) func(string) string {
	return func(line string) string {
		if lost != nil && lost.MatchString(line) {
			return ""
		}
		for _, x := range unsaid {
			line = x.what.ReplaceAllString(line, x.kept)
		}
		return line
	}
}

// criu restores what it can say of a dump of Glis, whatever else there is.
func TestRestOfIt(t *testing.T) {
	path, err := exec.LookPath("criu")
	if err != nil {
		t.Skip("no criu in PATH")
	}
	testkit.RequireRoot(t)
	e := testkit.Engines{Saver: testkit.FindEngine(t), Restorer: testkit.NewEngine(t, path)}
	if !e.Saver.Glis || e.Restorer.Glis {
		t.Skip("needs CRIU as criu in PATH and Glis as the engine")
	}
	for _, r := range rest {
		t.Run(r.name, func(t *testing.T) {
			p := targetOf(t, r.name).program(t)
			lost := (*regexp.Regexp)(nil)
			if r.lost != "" {
				lost = regexp.MustCompile(r.lost)
			}
			p.Generations, p.Compared = 1, said(lost)
			testkit.Restored(t, e, p)
		})
	}
}

// targetOf returns a row of the table by its name.
func targetOf(t *testing.T, name string) target {
	t.Helper()
	for _, x := range targets {
		if x.name == name {
			return x
		}
	}
	t.Fatalf("no target %q", name)
	return target{}
}
