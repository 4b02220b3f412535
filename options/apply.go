package options

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNotBuilt is wrapped by the error about an option or a value that criu
// has and Glis does not have yet.
var ErrNotBuilt = errors.New("not supported yet")

// errBadValue is replaced by a message that names option and value.
var errBadValue = errors.New("invalid argument")

// Value is an option as it was given.
type Value struct {
	Option  *Option
	Spelled string // how it was written: "-t", "--tree"
	Negated bool   // --no-NAME
	Has     bool   // whether there is an argument
	Arg     string
}

// Setter is a setting that reads itself.
type Setter interface{ Set(string) error }

// NewDump returns the settings of a dump without options.
func NewDump() *Dump { return withDefaults(new(Dump)) }

// NewRestore returns the settings of a restore without options.
func NewRestore() *Restore { return withDefaults(new(Restore)) }

// NewCheck returns the settings of a check without options.
func NewCheck() *Check { return withDefaults(new(Check)) }

// NewInspect returns the settings of an inspection without options.
func NewInspect() *Inspect { return withDefaults(new(Inspect)) }

// NewLock returns the settings of a lock or unlock with their defaults.
func NewLock() *Lock { return withDefaults(new(Lock)) }

// NewVerify returns the settings of a verification without options.
func NewVerify() *Verify { return withDefaults(new(Verify)) }

// NewDemo returns the settings of a demonstration without options.
func NewDemo() *Demo { return withDefaults(new(Demo)) }

// New returns the settings of a verb, a pointer to its struct, or nil.
func New(v Verb) any {
	switch v {
	case VerbDump:
		return NewDump()
	case VerbRestore:
		return NewRestore()
	case VerbCheck:
		return NewCheck()
	case VerbInspect:
		return NewInspect()
	case VerbLock:
		return NewLock()
	case VerbVerify:
		return NewVerify()
	case VerbDemo:
		return NewDemo()
	}
	return nil
}

// Apply puts a given option into a verb's settings, a pointer to its struct.
// An option that means nothing to the verb changes nothing, but its argument
// still has to make sense. The error names the option as it was written; it
// wraps [ErrNotBuilt] if criu would have taken it.
func (g Value) Apply(v Verb, settings any) error {
	u := g.Option.For(v)
	if u == nil {
		if len(g.Option.Uses) == 0 {
			return nil
		}
		u = &g.Option.Uses[0]
		return g.set(u, New(u.Verb))
	}
	if g.Negated {
		return g.set(u, settings)
	}
	if u.Support == Refused {
		return fmt.Errorf("%s is %w: %s", g.Spelled, ErrNotBuilt, u.Reason)
	}
	if err := g.set(u, settings); err != nil {
		return err
	}
	// Of a resource, KIND[ID], the kind counts.
	if word, _, _ := strings.Cut(g.arg(), "["); len(u.Only) > 0 && !slices.Contains(u.Only, strings.TrimSuffix(word, ":")) {
		return fmt.Errorf("%s=%s is %w: %s", g.Spelled, g.arg(), ErrNotBuilt, u.Reason)
	}
	return nil
}

// arg is the argument, or the one that is meant when it is missing.
func (g Value) arg() string {
	if !g.Has {
		return g.Option.Implied
	}
	return g.Arg
}

// set stores the value in its field. Blank fields only have it checked.
func (g Value) set(u *Use, settings any) error {
	root := reflect.ValueOf(settings).Elem()
	sf := root.Type().FieldByIndex(u.field)
	field := root.FieldByIndex(u.field)
	if sf.Name == "_" {
		field = reflect.New(sf.Type).Elem()
	}
	if other := sf.Tag.Get("clears"); other != "" && root.FieldByName(other).IsValid() {
		root.FieldByName(other).SetBool(false)
	}
	var err error
	if g.Option.Arg == ArgNone {
		field.SetBool(!g.Negated)
	} else {
		err = parse(field, sf.Tag, g.arg())
	}
	switch {
	case errors.Is(err, errBadValue):
		return fmt.Errorf("invalid argument for %s: %q", g.Spelled, g.Arg)
	case err != nil:
		return fmt.Errorf("invalid argument for %s: %w", g.Spelled, err)
	}
	return nil
}

// parse reads s into a field according to the field's type.
func parse(field reflect.Value, tag reflect.StructTag, s string) error {
	if setter, ok := field.Addr().Interface().(Setter); ok {
		return setter.Set(s)
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(s)
	case reflect.Int, reflect.Int64:
		n, err := number(tag, s)
		if err != nil {
			return err
		}
		if field.Type() == reflect.TypeFor[time.Duration]() {
			n *= int64(time.Second)
		}
		field.SetInt(n)
	case reflect.Slice:
		one := reflect.New(field.Type().Elem()).Elem()
		if err := parse(one, tag, s); err != nil {
			return err
		}
		field.Set(reflect.Append(field, one))
	default:
		return fmt.Errorf("settings of type %s cannot be read", field.Type())
	}
	return nil
}

// number reads a decimal number that fits criu's int and is not below min.
func number(tag reflect.StructTag, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0, errBadValue
	}
	if m := tag.Get("min"); m != "" {
		if least, err := strconv.ParseInt(m, 10, 32); err == nil && n < least {
			return 0, errBadValue
		}
	}
	return n, nil
}

// withDefaults fills the fields that have a default. A default that cannot be
// read is a mistake in the table, which the tests look for.
func withDefaults[T any](settings *T) *T {
	eachField(reflect.ValueOf(settings).Elem(), func(sf reflect.StructField, field reflect.Value) {
		if def := sf.Tag.Get("def"); def != "" {
			_ = parse(field, sf.Tag, def)
		}
	})
	return settings
}

// eachField calls f for every setting that is stored.
func eachField(v reflect.Value, f func(reflect.StructField, reflect.Value)) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		switch {
		case sf.Anonymous:
			eachField(v.Field(i), f)
		case sf.Name != "_":
			f(sf, v.Field(i))
		}
	}
}

// Resolve makes all paths in a verb's settings absolute, so that nothing
// depends on the current directory from here on: images directory and working
// directory from the current directory, the others from the working directory.
// The log file "-", which is standard output, stays.
func Resolve(settings any) error {
	root := reflect.ValueOf(settings).Elem()
	common, ok := root.FieldByName("Common").Addr().Interface().(*Common)
	if !ok {
		return fmt.Errorf("%T has no common settings", settings)
	}
	if common.ImagesDir == "" {
		return errors.New("the images directory has no name; give one with -D, or leave -D out for the current directory")
	}
	if common.WorkDir == "" {
		common.WorkDir = common.ImagesDir
	}
	for _, dir := range []*string{&common.ImagesDir, &common.WorkDir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return fmt.Errorf("finding directory %s: %w", *dir, err)
		}
		*dir = abs
	}
	eachField(root, func(sf reflect.StructField, field reflect.Value) {
		s := field.String()
		if sf.Tag.Get("path") == "work" && s != "" && s != "-" && !filepath.IsAbs(s) {
			field.SetString(filepath.Join(common.WorkDir, s))
		}
	})
	return nil
}

// WorksApart tells whether the working directory is another one than the images',
// by whatever names. It is asked after Resolve.
func (c *Common) WorksApart() bool {
	if c.WorkDir == "" || c.WorkDir == c.ImagesDir {
		return false
	}
	images, err := os.Stat(c.ImagesDir)
	if err != nil {
		return false
	}
	work, err := os.Stat(c.WorkDir)
	return err == nil && !os.SameFile(images, work)
}
