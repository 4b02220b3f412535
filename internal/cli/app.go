// Package cli is the command line of Glis: criu's verbs and options with
// criu's meaning, and Glis's own verbs beside them, in one grammar.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"glis.dev/glis/options"
)

// App is one run of the program. Main fills it from the process; tests from
// elsewhere.
type App struct {
	Name   string // what the program was called as
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	Engine Engine
	System System
	Start  time.Time // log lines count from here
	Last   bool      // the process ends with Run, so that what it does with signals stays

	calm func() os.Signal // see interruptible; nil if there was no need to
}

// System is what the command line does with the process it runs in.
type System struct {
	Privileges func() (Privileges, error)
	Exec       func(dir string, argv []string) error // becomes another program
}

// Exit statuses, criu's.
const (
	exitOK    = 0
	exitError = 1
)

// Main runs the program with the arguments of this process and returns its
// exit status.
func Main(engine Engine) int {
	app := App{
		Name:   filepath.Base(os.Args[0]),
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Getenv: os.Getenv,
		Engine: engine,
		System: System{Privileges: ownPrivileges, Exec: become},
		Start:  time.Now(),
		Last:   true,
	}
	return app.Run(os.Args[1:])
}

// Run does what the arguments say and returns the exit status. Unless the process ends
// with it, signals do afterwards what they did before; one that came too late to end
// anything does it then.
func (a *App) Run(args []string) int {
	status := a.run(args)
	if a.calm != nil && !a.Last {
		if late := a.calm(); status == exitOK {
			endBy(late)
		}
	}
	return status
}

func (a *App) run(args []string) int {
	if len(args) == 0 {
		a.printUsage()
		return exitError
	}
	p := newParser(options.All(), a.Getenv("POSIXLY_CORRECT") != "")
	given, words, err := p.parse(args)
	if asksHelp(args) || has(given, "help") {
		a.printHelp(words)
		return exitOK
	}
	if has(given, "version") {
		printVersion(a.Stdout)
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(a.Stderr, "%s: %s\nTry '%s --help'.\n", a.Name, appendClean(nil, err.Error()), a.Name)
		return exitError
	}
	if len(words) == 0 {
		return a.fail(a.Name, fmt.Errorf("command is required; try '%s --help'", a.Name))
	}
	v := findVerb(words[0])
	if v == nil {
		return a.fail(a.Name, fmt.Errorf("unknown command: %s; try '%s --help'", words[0], a.Name))
	}
	if v.run == nil {
		return a.fail(v.name, fmt.Errorf("%s is %w: %s", v.name, options.ErrNotBuilt, v.reason))
	}
	return a.runVerb(p, v, given, words[1:])
}

// call is one verb with its settings.
type call struct {
	verb       *verb
	settings   any             // pointer to the verb's struct in package options
	given      []options.Value // on the command line
	configured []options.Value // in files
	words      []string        // what stands behind the verb and is no option
}

// runVerb reads configuration and options, in criu's order, and runs a verb.
func (a *App) runVerb(p *parser, v *verb, given []options.Value, words []string) int {
	c := &call{verb: v, settings: options.New(v.settings), given: given, words: words}
	configured, err := a.configured(p, given)
	if err != nil {
		return a.fail(v.name, err)
	}
	for _, g := range configured {
		if err := g.value.Apply(v.settings, c.settings); err != nil {
			return a.fail(v.name, fmt.Errorf("%s: %w", g.file, err))
		}
		c.configured = append(c.configured, g.value)
	}
	for _, g := range given {
		if err := g.Apply(v.settings, c.settings); err != nil {
			return a.fail(v.name, err)
		}
	}
	if err := c.checkWords(); err != nil {
		return a.fail(v.name, err)
	}
	if err := options.Resolve(c.settings); err != nil {
		return a.fail(v.name, err)
	}
	return v.run(a, c)
}

// checkWords refuses words that mean nothing to the verb.
func (c *call) checkWords() error {
	exec := has(c.given, "exec-cmd")
	switch {
	case exec && c.verb.settings != options.VerbRestore:
		return errors.New("--exec-cmd is available for the restore command only")
	case exec && len(c.words) == 0:
		return errors.New("--exec-cmd requires a command: restore --exec-cmd [OPTIONS] -- PROGRAM [ARGUMENTS]")
	case !exec && len(c.words) > c.verb.words:
		extra, plural := c.words[c.verb.words:], ""
		if len(extra) > 1 {
			plural = "s"
		}
		return fmt.Errorf("excessive parameter%s for command %s: %s", plural, c.verb.name, strings.Join(extra, " "))
	}
	return nil
}

// asksHelp looks for help before anything else is read, as criu does: it comes
// even if another argument is wrong.
func asksHelp(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "-h", "--help":
			return true
		case "--":
			return false
		}
	}
	return false
}

// has reports whether an option was given.
func has(given []options.Value, name string) bool {
	for _, g := range given {
		if g.Option.Name == name && !g.Negated {
			return true
		}
	}
	return false
}

// fail reports an error that comes before there is a log.
func (a *App) fail(stage string, err error) int {
	writeError(a.Stderr, stage, err)
	return exitError
}

// writeError writes one line in the form of the log.
func writeError(w io.Writer, stage string, err error) {
	line := append([]byte("Error ("), stage...)
	line = append(line, "): "...)
	line = appendClean(line, oneLine(err))
	_, _ = w.Write(append(line, '\n'))
}

// oneLine gives an error's text without line breaks: joined errors have them.
func oneLine(err error) string { return joined(err.Error()) }

func joined(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ") }
