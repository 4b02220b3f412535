package cli

import "glis.dev/glis/options"

// verb is one command.
type verb struct {
	name     string
	args     string // what stands behind it in the usage text
	summary  string
	settings options.Verb
	words    int // how many words may follow that are no options
	run      func(*App, *call) int
	reason   string // why it is not built, if run is nil
}

// verbs lists criu's commands, and Glis's own.
func verbs() []verb {
	return []verb{
		{name: "dump", args: "-t PID [OPTIONS]", summary: "save a process tree", settings: options.VerbDump, run: (*App).dump},
		{name: "restore", args: "[OPTIONS]", summary: "bring a saved process tree back", settings: options.VerbRestore, run: (*App).restore},
		{name: "check", args: "[--feature NAME] [OPTIONS]", summary: "see what this machine can do", settings: options.VerbCheck, run: (*App).check},
		{name: "inspect", args: "[DIR] [OPTIONS]", summary: "show what images hold", settings: options.VerbInspect, words: 1, run: (*App).inspect},
		{name: "lock", args: "[DIR] [OPTIONS]", summary: "hold back the packets of saved connections", settings: options.VerbLock, words: 1, run: (*App).lock},
		{name: "unlock", args: "[DIR] [OPTIONS]", summary: "let them through again", settings: options.VerbLock, words: 1, run: (*App).unlock},
		{name: "verify", args: "[DIR] [OPTIONS]", summary: "compare images with their checksums", settings: options.VerbVerify, words: 1, run: (*App).verify},
		{name: "demo", args: "[--leave-running] [--big]", summary: "see it work, in ten seconds", settings: options.VerbDemo, run: (*App).demo},
		{name: "pre-dump", reason: "incremental images are not built yet"},
		{name: "page-server", reason: "sending pages over the network is not built yet"},
		{name: "lazy-pages", reason: "restoring pages on demand is not built yet"},
		{name: "service", reason: "requests over a socket are not built yet"},
		{name: "swrk", reason: "requests over a socket are not built yet"},
		{name: "dedup", reason: "incremental images are not built yet"},
		{name: "cpuinfo", reason: "comparing processors is not built yet"},
		{name: "exec", reason: "criu has given it up as well"},
		{name: "show", reason: "criu has given it up as well; see inspect"},
	}
}

// findVerb looks a command up.
func findVerb(name string) *verb {
	for _, v := range verbs() {
		if v.name == name {
			return &v
		}
	}
	return nil
}
