package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	"glis.dev/glis/options"
)

// describe parses a line of words separated by tabs and writes down the result
// as the program that made testdata/getopt.txt does.
func describe(p *parser, line string) string {
	given, words, err := p.parse(strings.Split(line, "\t"))
	var b strings.Builder
	for _, g := range given {
		b.WriteString(g.Spelled)
		if g.Has {
			b.WriteString("=" + g.Arg)
		}
		b.WriteString(";")
	}
	if err != nil {
		return b.String() + "glis: " + err.Error() + "\n stop\n"
	}
	b.WriteString(" words:")
	for _, w := range words {
		b.WriteString("[" + w + "]")
	}
	return b.String() + "\n"
}

// TestGlibc compares with what glibc 2.36's getopt_long made of the same words
// and the same table, in testdata/getopt.txt: after "$ " the words, separated
// by tabs, then its answer.
func TestGlibc(t *testing.T) {
	text, err := os.ReadFile("testdata/getopt.txt")
	if err != nil {
		t.Fatal(err)
	}
	p := newParser(options.All(), false)
	cases := strings.Split("\n"+strings.TrimSpace(string(text)), "\n$ ")[1:]
	if len(cases) < 100 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		line, want, _ := strings.Cut(c, "\n")
		if got, want := sortPossible(describe(p, line)), sortPossible(want); got != want {
			t.Errorf("%q:\n got %s\nwant %s", line, got, want)
		}
	}
}

// sortPossible sorts what an ambiguous option may mean: the order is that of
// the table, which may change.
func sortPossible(answer string) string {
	head, tail, ok := strings.Cut(strings.TrimSpace(answer), "possibilities:")
	if !ok {
		return head
	}
	names := strings.Fields(tail)
	slices.Sort(names)
	return head + "possibilities: " + strings.Join(names, " ")
}

// TestOwnOptionsStandBack: what criu's table makes of a beginning stays so.
func TestOwnOptionsStandBack(t *testing.T) {
	own := &options.Option{Name: "joy", Own: true, Uses: []options.Use{{Verb: options.VerbInspect}}}
	p := newParser(append([]*options.Option{own}, options.All()...), false)
	for in, want := range map[string]string{
		"--jo\tnet:5": "--join-ns=net:5; words:\n",
		"--joy\tx":    "--joy; words:[x]\n",
		"--jos":       "glis: unrecognized option '--jos'\n stop\n",
	} {
		if got := describe(p, in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestPosixlyCorrect(t *testing.T) {
	p := newParser(options.All(), true)
	if got, want := describe(p, "-R\tdump\t-s\t--\tx"), "-R; words:[dump][-s][--][x]\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// checkParse: no word is lost, and every option is one of the table with the
// argument it must have.
func checkParse(t *testing.T, line string) {
	t.Helper()
	for _, posix := range []bool{false, true} {
		given, words, err := newParser(options.All(), posix).parse(strings.Split(line, "\t"))
		for _, g := range given {
			o := g.Option
			if o == nil || g.Spelled == "" || o.Arg == options.ArgNone && g.Has || o.Arg == options.ArgRequired && !g.Has || g.Negated && !o.Negatable {
				t.Errorf("%q gives %+v", line, g)
			}
		}
		if n := strings.Count(line, "\t") + 1; err == nil && len(words) > n {
			t.Errorf("%q: %d words", line, len(words))
		}
	}
}
