package image

import (
	"fmt"
	"slices"
	"strings"
)

// NotWhole says of a store without an inventory, which is written last, what that
// means: there is no checkpoint, or a dump has not come to its end. err is why the
// inventory can't be opened.
func NotWhole(s Store, err error) error {
	names, list := s.List()
	if list == nil && slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".img") }) {
		return fmt.Errorf("%v holds no whole checkpoint: a dump into it is running, or did not come to its end; dump again: %w", s, err)
	}
	return fmt.Errorf("%v holds no checkpoint; give the directory of one with -D: %w", s, err)
}
