package cli

import (
	"errors"
	"fmt"
	"strings"

	"glis.dev/glis/options"
)

// check says what this machine can do, in criu's words and exit statuses.
func (a *App) check(c *call) int {
	o, ok := c.settings.(*options.Check)
	if !ok {
		return a.fail(c.verb.name, fmt.Errorf("settings of type %T", c.settings))
	}
	if o.Feature == "" && (has(c.given, "feature") || has(c.configured, "feature")) {
		return a.fail(c.verb.name, errors.New("--feature is empty; give a name, or leave it out to check all"))
	}
	o.Extra = o.Extra || o.All
	o.Experimental = o.Experimental || o.All
	s, ok := a.open(c, &o.Common, reads)
	if !ok {
		return exitError
	}
	report, err := a.Engine.Check(s.ctx, o, s.log)
	if err != nil {
		return s.fail(stopped(s.ctx, err), "")
	}
	defer s.close()
	for _, reason := range report.Required {
		s.logLine(reason)
	}
	for _, reason := range report.Optional {
		s.log.Warn(reason)
	}
	answer, code := verdict(o.Feature, report)
	fmt.Fprintln(a.Stdout, answer)
	return code
}

// verdict gives the closing line and the exit status.
func verdict(feature string, r CheckReport) (string, int) {
	switch {
	case feature != "" && len(r.Required)+len(r.Optional) > 0:
		return feature + " is not supported", exitError
	case feature != "":
		return feature + " is supported", exitOK
	case len(r.Required) > 0:
		return "Does not look good.", exitError
	case len(r.Optional) > 0:
		return strings.Join([]string{
			"Looks good but some kernel features are missing",
			"which, depending on your process tree, may cause",
			"dump or restore failure.",
		}, "\n"), exitError
	}
	return "Looks good.", exitOK
}
