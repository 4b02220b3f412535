package cli

import (
	"fmt"
	"io"
	"strings"

	"glis.dev/glis/options"
)

// The help text is set for a terminal of 80 columns.
const (
	helpWidth  = 80
	helpIndent = 30
)

// printUsage says how the program is called; criu writes it to standard output.
func (a *App) printUsage() {
	fmt.Fprintf(a.Stdout, "\nUsage:\n")
	var missing []string
	for _, v := range verbs() {
		if v.run == nil {
			missing = append(missing, v.name)
			continue
		}
		fmt.Fprintf(a.Stdout, "  %s %s %s\n", a.Name, v.name, v.args)
	}
	fmt.Fprintf(a.Stdout, "\nCommands:\n")
	for _, v := range verbs() {
		if v.run != nil {
			fmt.Fprintf(a.Stdout, "  %-12s%s\n", v.name, v.summary)
		}
	}
	printList(a.Stdout, "Not supported yet: ", missing)
	fmt.Fprintf(a.Stdout, "\nTry '%s --help' or '%s COMMAND --help' for the options.\n", a.Name, a.Name)
}

// printHelp prints what every option does, or what those of one verb do.
func (a *App) printHelp(words []string) {
	var only *verb
	if len(words) > 0 {
		only = findVerb(words[0])
	}
	if only == nil || only.run == nil {
		a.printUsage()
		only = nil
	} else {
		fmt.Fprintf(a.Stdout, "\nUsage: %s %s %s\n\n%s%s.\n", a.Name, only.name, only.args,
			strings.ToUpper(only.summary[:1]), only.summary[1:])
	}
	fmt.Fprintf(a.Stdout, "\nA long option may be shortened as long as it is unique. Those without an\n"+
		"argument mostly have a --no- form that takes them back.\n")
	rows := map[string][]row{}
	var idle, refused []string
	for _, o := range options.All() {
		r, ok := helpRow(o, only)
		switch {
		case !ok:
		case r.support == options.Refused:
			refused = append(refused, "--"+o.Name)
		case r.support == options.Accepted:
			idle = append(idle, "--"+o.Name)
		default:
			rows[r.group] = append(rows[r.group], r)
		}
	}
	for _, g := range groups() {
		if len(rows[g]) > 0 {
			fmt.Fprintf(a.Stdout, "\n%s:\n", g)
		}
		for _, r := range rows[g] {
			printRow(a.Stdout, r)
		}
	}
	printList(a.Stdout, "Options of criu that change nothing here: ", idle)
	printList(a.Stdout, "Options of criu that are not supported yet: ", refused)
}

// groups lists the headings of the options in the order they are printed.
func groups() []string {
	return []string{"Processes", "Files", "Memory", "Open files", "Network", "Namespaces", "Outside resources",
		"Cgroups", "Page server", "Check", "Inspect", "Demo", "General", "Logging", "Configuration"}
}

// row is one option in the help text.
type row struct {
	group, spelled, text string
	support              options.Support
}

// helpRow writes out an option as one verb uses it, or as all of them do.
func helpRow(o *options.Option, only *verb) (row, bool) {
	u := &o.Uses[0]
	if only != nil {
		if u = o.For(only.settings); u == nil {
			return row{}, false
		}
	}
	r := row{group: u.Group, text: u.Help, support: u.Support, spelled: spell(o)}
	if len(u.Only) > 0 {
		r.text += fmt.Sprintf(" So far only '%s': %s.", strings.Join(u.Only, "', '"), u.Reason)
	}
	if o.Alias != "" {
		r.text += " Also --" + o.Alias + "."
	}
	if only == nil && len(o.Uses) == 1 && (u.Verb == options.VerbDump || u.Verb == options.VerbRestore) {
		r.text = "(" + string(u.Verb) + ") " + r.text
	}
	return r, true
}

// spell writes an option with its argument.
func spell(o *options.Option) string {
	s := "    "
	if o.Short != 0 {
		s = fmt.Sprintf("-%c, ", o.Short)
	}
	s += "--" + o.Name
	switch o.Arg {
	case options.ArgRequired:
		s += " " + o.ArgName
	case options.ArgOptional:
		s += "[=" + strings.Trim(o.ArgName, "[]") + "]"
	}
	return s
}

// printRow prints an option and its text beside it, or below if it is long.
func printRow(w io.Writer, r row) {
	head := "  " + r.spelled
	if len(head) >= helpIndent-1 {
		fmt.Fprintln(w, head)
		head = ""
	}
	for _, line := range wrap(r.text, helpWidth-helpIndent) {
		fmt.Fprintf(w, "%-*s%s\n", helpIndent, head, line)
		head = ""
	}
}

// printList prints names after an introduction.
func printList(w io.Writer, intro string, names []string) {
	if len(names) == 0 {
		return
	}
	fmt.Fprintln(w)
	for _, line := range wrap(intro+strings.Join(names, ", ")+".", helpWidth-1) {
		fmt.Fprintln(w, line)
	}
}

// wrap breaks text into lines of at most width columns where it can.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
