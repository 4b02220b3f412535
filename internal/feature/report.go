package feature

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Scope says what a report is about.
type Scope struct {
	Feature string // only this one; "" for all
	Extra   bool   // also what only some processes need
}

// Answer is what a report says of one row.
type Answer struct {
	Probe *Probe
	Err   error // nil: kernel and Glis both can
}

// OK tells whether kernel and Glis both can.
func (a Answer) OK() bool { return a.Err == nil }

// Reason says why, and what it costs, or would, to be without.
func (a Answer) Reason() string {
	if a.Err == nil {
		return a.why()
	}
	reason := a.Err.Error()
	if !errors.Is(a.Err, ErrMissing) {
		reason = "can't tell: " + reason
	}
	if w := a.Probe.Without; w != "" {
		reason += "; without it, " + w
	}
	return reason
}

// why says of what is there how that is known.
func (a Answer) why() string {
	reason := "tried, and it works"
	if a.Probe.Since != (Version{}) {
		reason += fmt.Sprintf("; Linux has it since %v", a.Probe.Since)
	}
	if cost, _, _ := strings.Cut(a.Probe.Without, ": "); cost != "" { // without the advice
		reason += "; without it, " + cost
	}
	return reason
}

// String is one line: "kcmp: ok — …", "tun: missing — …".
func (a Answer) String() string {
	if a.Err == nil {
		return a.Probe.Name + ": ok — " + a.Reason()
	}
	return a.Probe.Name + ": missing — " + a.Reason()
}

// Report answers for the rows in scope, in their order. The error is
// ErrUnknown, or ctx's.
func (p *Probes) Report(ctx context.Context, scope Scope) ([]Answer, error) {
	if scope.Feature != "" {
		row, err := p.Row(scope.Feature)
		if err != nil {
			return nil, err
		}
		return []Answer{{row, p.Feature(ctx, row.Name)}}, ctx.Err()
	}
	var out []Answer
	for i := range p.rows {
		row := &p.rows[i]
		if row.Need != Required && !scope.Extra {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out = append(out, Answer{row, p.Feature(ctx, row.Name)})
	}
	return out, ctx.Err()
}

// Check writes a report to w, one line per row, and returns the reasons for
// what is missing, each with its name before it: those that stop every dump
// or restore, and those that stop some.
func (p *Probes) Check(ctx context.Context, w io.Writer, scope Scope) (required, optional []string, err error) {
	answers, err := p.Report(ctx, scope)
	if err != nil {
		return nil, nil, err
	}
	for _, a := range answers {
		if _, err := fmt.Fprintln(w, a); err != nil {
			return nil, nil, fmt.Errorf("write the report: %w", err)
		}
		switch line := a.Probe.Name + ": " + a.Reason(); {
		case a.OK():
		case a.Probe.Need == Required || scope.Feature != "":
			required = append(required, line)
		default:
			optional = append(optional, line)
		}
	}
	return required, optional, nil
}
