package options

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
// struct fields. It is not to be changed.
func All() []*Option { return rows[:] }
