// Package options is the single table of Glis's settings.
//
// Every setting is one struct field with tags. The command line, the help
// text, the configuration file and the RPC server all read the same tags
// through [All] (rows.go, which a test writes and compares), so that a setting cannot mean one thing here and another
// there. The names, short letters and defaults are those of criu 4.2.
//
// The tags of a field:
//
//	opt:"images-dir,D"   long name and, where there is one, short letter
//	alias:"daemon"       a second long name with the same meaning
//	arg:"DIR"            what the argument is called; "[MODE]" if it may be left out
//	implied:"soft"       the argument's value when it is left out
//	no:"yes"             --no-NAME takes the option back
//	def:"10"             the value when the option is not given
//	min:"1"              the smallest number allowed
//	path:"work"          a path, relative to the working directory (--work-dir)
//	clears:"Other"       a given option takes back this other field: the last one wins
//	group:"Logging"      the heading it stands under in the help text
//	help:"..."           one or two sentences
//	rpc:"images_dir"     the field of criu_opts with the same meaning
//	supported:"no; why"  known but refused, with the reason
//	supported:"accepted; why"  known and without effect, with the reason
//	only:"a,b; why"      only these values are built; the others are refused
//	by:"cli"             the command line acts on it itself
//	own:"yes"            an option of Glis that criu does not have
//
// A blank field (_) is an option that leaves nothing behind: it is refused, or
// has no effect, or is acted upon by the command line itself.
package options
