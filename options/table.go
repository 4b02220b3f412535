package options

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Verb is a command that has settings.
type Verb string

// The verbs with settings of their own.
const (
	VerbDump    Verb = "dump"
	VerbRestore Verb = "restore"
	VerbCheck   Verb = "check"
	VerbInspect Verb = "inspect"
	VerbLock    Verb = "lock" // and unlock
	VerbVerify  Verb = "verify"
	VerbDemo    Verb = "demo"
)

// ArgKind says whether an option takes an argument.
type ArgKind int

// The kinds, as getopt_long(3) knows them. An optional argument counts only
// when it is attached: --name=value or -xvalue.
const (
	ArgNone ArgKind = iota
	ArgRequired
	ArgOptional
)

// Support says what becomes of an option that is given.
type Support int

// What becomes of an option.
const (
	Supported Support = iota // it does what it says
	Accepted                 // it is taken and changes nothing, for Reason
	Refused                  // it is an error that names Reason
)

// Option is one row of the table: one option of the command line.
type Option struct {
	Name      string  // long name
	Alias     string  // second long name, or empty
	Short     byte    // short letter, or 0
	Arg       ArgKind // whether it takes an argument
	ArgName   string  // what help calls the argument
	Implied   string  // the argument when an optional one is missing
	Negatable bool    // whether --no-NAME exists
	Own       bool    // whether criu lacks it
	Uses      []Use   // what it means to which verb
}

// Use is what an option means to one verb.
type Use struct {
	Verb    Verb
	Group   string // heading in the help text
	Help    string
	RPC     string // field of criu_opts, or empty
	Support Support
	Reason  string   // why it is refused or without effect, or why others than Only are refused
	Only    []string // if not empty, the only values that are built
	field   []int    // index path in the verb's struct
}

// For returns what the option means to a verb, or nil if nothing: such an
// option is taken and ignored, as criu does.
func (o *Option) For(v Verb) *Use {
	for i := range o.Uses {
		if o.Uses[i].Verb == v {
			return &o.Uses[i]
		}
	}
	return nil
}

// Verbs lists the verbs in the order of the table.
func Verbs() []Verb {
	return []Verb{VerbDump, VerbRestore, VerbCheck, VerbInspect, VerbLock, VerbVerify, VerbDemo}
}

// All returns the table: every option of every verb once, in the order of the
// struct fields.
func All() []*Option {
	var t table
	t.byName = make(map[string]*Option, 128)
	t.add(VerbDump, reflect.TypeFor[Dump](), nil)
	t.add(VerbRestore, reflect.TypeFor[Restore](), nil)
	t.add(VerbCheck, reflect.TypeFor[Check](), nil)
	t.add(VerbInspect, reflect.TypeFor[Inspect](), nil)
	t.add(VerbLock, reflect.TypeFor[Lock](), nil)
	t.add(VerbVerify, reflect.TypeFor[Verify](), nil)
	t.add(VerbDemo, reflect.TypeFor[Demo](), nil)
	return t.rows
}

type table struct {
	rows   []*Option
	byName map[string]*Option
}

// add walks one struct and those embedded in it.
func (t *table) add(v Verb, typ reflect.Type, at []int) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		path := append(slices.Clone(at), i)
		if f.Anonymous {
			t.add(v, f.Type, path)
			continue
		}
		if tag := split(f.Tag); tag.Get("opt") != "" {
			o := t.row(&tag)
			o.Uses = append(o.Uses, use(v, &tag, path))
		}
	}
}

// row returns the row of a field's option, made when seen for the first time.
func (t *table) row(tag *tags) *Option {
	name, short, _ := strings.Cut(tag.Get("opt"), ",")
	if o := t.byName[name]; o != nil {
		return o
	}
	o := &Option{
		Name:      name,
		Alias:     tag.Get("alias"),
		ArgName:   tag.Get("arg"),
		Implied:   tag.Get("implied"),
		Negatable: tag.Get("no") == "yes",
		Own:       tag.Get("own") == "yes",
	}
	if short != "" {
		o.Short = short[0]
	}
	switch {
	case strings.HasPrefix(o.ArgName, "["):
		o.Arg = ArgOptional
	case o.ArgName != "":
		o.Arg = ArgRequired
	}
	t.byName[name] = o
	t.rows = append(t.rows, o)
	return o
}

// use reads what a field's tags say to one verb.
func use(v Verb, tag *tags, path []int) Use {
	u := Use{Verb: v, Group: tag.Get("group"), Help: tag.Get("help"), RPC: tag.Get("rpc"), field: path}
	if s := tag.Get("supported"); s != "" {
		word, reason, _ := strings.Cut(s, "; ")
		u.Support, u.Reason = Refused, reason
		if word == "accepted" {
			u.Support = Accepted
		}
	}
	if s := tag.Get("only"); s != "" {
		values, reason, _ := strings.Cut(s, "; ")
		u.Only, u.Reason = strings.Split(values, ","), reason
	}
	return u
}

// tags are the tags of a field, taken apart once: reflect.StructTag does it anew
// for every question.
type tags struct {
	keys, values [16]string
	n            int
}

// split takes apart KEY:"VALUE" KEY:"VALUE", as reflect.StructTag has it.
func split(tag reflect.StructTag) (t tags) {
	rest := strings.TrimLeft(string(tag), " ")
	for t.n < len(t.keys) {
		key, quoted, ok := strings.Cut(rest, ":")
		value, err := strconv.QuotedPrefix(quoted)
		if !ok || err != nil {
			return t
		}
		rest = strings.TrimLeft(quoted[len(value):], " ")
		if value, err = strconv.Unquote(value); err == nil {
			t.keys[t.n], t.values[t.n] = key, value
			t.n++
		}
	}
	return t
}

// Get returns the value of a key, or the empty string.
func (t *tags) Get(key string) string {
	if i := slices.Index(t.keys[:t.n], key); i >= 0 {
		return t.values[i]
	}
	return ""
}
