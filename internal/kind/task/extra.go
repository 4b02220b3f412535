package task

import (
	"fmt"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/protowire"
	"glis.dev/glis/internal/kind"
)

// What criu's core image has no field for goes into one that criu does not
// know and therefore skips: field 1500 of core_entry, once for each thing to
// say, as a message { string name = 1; bytes value = 2; }.
const (
	extraField protowire.Number = 1500
	extraName  protowire.Number = 1
	extraValue protowire.Number = 2
)

// Names of what there may be to say. A reader that meets one it does not know
// must not go on: the thread would come back without something.
const (
	extraRestart     = "restart"
	extraXState      = "xstate"
	extraXPermission = "xstate-permission"
	extraSched       = "sched"
	extraAffinity    = "affinity"
	extraPersonality = "personality"
	extraCoreFilter  = "coredump-filter"
	extraMemPolicy   = "memory-policy"
	extraTSC         = "tsc"
	extraAutogroup   = "autogroup"
	extraKeyring     = "session-keyring"
	extraEnded       = "ended"
	extraEndedMask   = "ended-mask"
	extraFutureLock  = "future-lock"
	extraNoTerminal  = "no-terminal"
)

func knownExtra(name string) bool {
	switch name {
	case extraRestart, extraXState, extraXPermission, extraSched, extraAffinity, extraPersonality, extraCoreFilter, extraMemPolicy, extraTSC, extraAutogroup, extraKeyring, extraEnded, extraEndedMask, extraFutureLock, extraNoTerminal:
		return true
	}
	return attributeNamed(name)
}

// putExtra adds a thing to say to a core image.
func putExtra(c *core.CoreEntry, name string, value []byte) {
	m := protowire.AppendTag(nil, extraName, protowire.BytesType)
	m = protowire.AppendString(m, name)
	m = protowire.AppendTag(m, extraValue, protowire.BytesType)
	m = protowire.AppendBytes(m, value)
	b := protowire.AppendTag(c.Unknown(), extraField, protowire.BytesType)
	c.SetUnknown(protowire.AppendBytes(b, m))
}

// ReadExtra reads what a core image says beyond criu's fields; nil if nothing,
// as in every image made by criu.
func ReadExtra(c *core.CoreEntry) (kind.Extra, error) {
	var out kind.Extra
	err := eachField(c.Unknown(), func(n protowire.Number, m []byte) error {
		if n != extraField {
			return nil // of a newer criu
		}
		name, value, err := parseExtra(m)
		switch {
		case err != nil:
			return err
		case !knownExtra(name):
			return fmt.Errorf("core image: extra state %q is not known: restore with the Glis that made it", name)
		case out[name] != nil:
			return fmt.Errorf("core image: extra state %q is there twice", name)
		case out == nil:
			out = kind.Extra{}
		}
		out[name] = value
		return nil
	})
	return out, err
}

func parseExtra(m []byte) (name string, value []byte, err error) {
	value = []byte{}
	err = eachField(m, func(n protowire.Number, b []byte) error {
		switch n {
		case extraName:
			name = string(b)
		case extraValue:
			value = b
		}
		return nil
	})
	return name, value, err
}

// eachField calls f for every field of an encoded message that is bytes.
func eachField(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("core image: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return fmt.Errorf("core image: %w", protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return fmt.Errorf("core image: %w", protowire.ParseError(n))
		}
		if err := f(num, v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// sized returns a value that must have n bytes; nil if there is none.
func sized(x kind.Extra, name string, n int) ([]byte, error) {
	value, ok := x[name]
	if ok && len(value) != n {
		return nil, fmt.Errorf("core image: extra state %q: %d bytes, expected %d", name, len(value), n)
	}
	return value, nil
}
