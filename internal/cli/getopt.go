package cli

import (
	"fmt"
	"strings"

	"glis.dev/glis/options"
)

// parser reads a command line as glibc's getopt_long(3) does with criu's
// table: long options may be shortened as long as they are unique, short ones
// may be bundled, and other words may stand anywhere.
type parser struct {
	table []*options.Option
	long  []longName
	// posix ends the options at the first other word, as POSIXLY_CORRECT asks.
	posix bool
}

// longName is one spelling of a long option.
type longName struct {
	name    string
	opt     *options.Option
	negated bool
}

// newParser prepares a table for parsing.
func newParser(table []*options.Option, posix bool) *parser {
	p := &parser{table: table, posix: posix, long: make([]longName, 0, 2*len(table))}
	for _, o := range table {
		for _, name := range []string{o.Name, o.Alias} {
			if name == "" {
				continue
			}
			p.long = append(p.long, longName{name, o, false})
			if o.Negatable {
				p.long = append(p.long, longName{"no-" + name, o, true})
			}
		}
	}
	return p
}

// parse returns the options and the other words of args, each in their order.
// After an error it returns what came before: criu acts on that first.
func (p *parser) parse(args []string) (given []options.Value, words []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return given, append(words, args...), nil
		case strings.HasPrefix(arg, "--"):
			given, args, err = p.parseLong(given, arg[2:], args)
		case len(arg) > 1 && arg[0] == '-':
			given, args, err = p.parseShort(given, arg[1:], args)
		case p.posix:
			return given, append(append(words, arg), args...), nil
		default:
			words = append(words, arg)
		}
		if err != nil {
			return given, words, err
		}
	}
	return given, words, nil
}

// parseLong adds one long option, written without its dashes, and takes its
// argument from rest if it needs one.
func (p *parser) parseLong(given []options.Value, text string, rest []string) ([]options.Value, []string, error) {
	name, arg, has := strings.Cut(text, "=")
	l, err := p.find(name, text)
	if err != nil {
		return given, rest, err
	}
	v := options.Value{Option: l.opt, Spelled: "--" + l.name, Negated: l.negated, Has: has, Arg: arg}
	switch {
	case has && l.opt.Arg == options.ArgNone:
		return given, rest, fmt.Errorf("option '--%s' doesn't allow an argument", l.name)
	case !has && l.opt.Arg == options.ArgRequired:
		if len(rest) == 0 {
			return given, rest, fmt.Errorf("option '--%s' requires an argument", l.name)
		}
		v.Has, v.Arg, rest = true, rest[0], rest[1:]
	}
	return append(given, v), rest, nil
}

// find looks up a long option by its name or an unambiguous beginning of it.
// Glis's own options never make a beginning ambiguous that criu takes.
func (p *parser) find(name, text string) (longName, error) {
	for _, l := range p.long {
		if l.name == name {
			return l, nil
		}
	}
	found := p.matches(name, false)
	if len(found) == 0 {
		found = p.matches(name, true)
	}
	switch len(found) {
	case 0:
		return longName{}, fmt.Errorf("unrecognized option '--%s'", text)
	case 1:
		return found[0], nil
	}
	var names strings.Builder
	for _, l := range found {
		names.WriteString(" '--" + l.name + "'")
	}
	return longName{}, fmt.Errorf("option '--%s' is ambiguous; possibilities:%s", text, names.String())
}

// matches lists the spellings that begin with name, of two that mean exactly
// the same as the first only that one.
func (p *parser) matches(name string, own bool) []longName {
	var found []longName
	for _, l := range p.long {
		if l.opt.Own != own || !strings.HasPrefix(l.name, name) {
			continue
		}
		if len(found) > 0 && found[0].opt == l.opt && found[0].negated == l.negated {
			continue
		}
		found = append(found, l)
	}
	return found
}

// parseShort adds a bundle of short options, written without its dash. An
// option with an argument ends the bundle: what follows is its argument, or if
// nothing follows and it needs one, the next word is.
func (p *parser) parseShort(given []options.Value, text string, rest []string) ([]options.Value, []string, error) {
	for i := 0; i < len(text); i++ {
		o := p.short(text[i])
		if o == nil {
			return given, rest, fmt.Errorf("invalid option -- '%c'", text[i])
		}
		v := options.Value{Option: o, Spelled: "-" + text[i:i+1]}
		if o.Arg == options.ArgNone {
			given = append(given, v)
			continue
		}
		v.Arg = text[i+1:]
		v.Has = v.Arg != ""
		if !v.Has && o.Arg == options.ArgRequired {
			if len(rest) == 0 {
				return given, rest, fmt.Errorf("option requires an argument -- '%c'", text[i])
			}
			v.Has, v.Arg, rest = true, rest[0], rest[1:]
		}
		return append(given, v), rest, nil
	}
	return given, rest, nil
}

// short looks up a short option.
func (p *parser) short(letter byte) *options.Option {
	for _, o := range p.table {
		if o.Short == letter && letter != 0 {
			return o
		}
	}
	return nil
}
