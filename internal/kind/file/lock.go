package file

import (
	"fmt"

	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/proc"
	"glis.dev/glis/internal/scan"
)

// refuseLocks refuses files that somebody of the tree has locked: a restored
// program would believe in a lock that it doesn't hold.
func refuseLocks(f *scan.File) error {
	if len(f.Info.Locks) == 0 {
		return nil
	}
	return kind.Unsupported(f, "it holds a file lock (%s), and Glis can't carry locks over yet; let the program release it first", lockText(&f.Info.Locks[0]))
}

func lockText(l *proc.Lock) string {
	end := "the end"
	if l.End != proc.LockEOF {
		end = fmt.Sprint(l.End)
	}
	return fmt.Sprintf("%s %s, bytes %d to %s", l.Kind, l.Access, l.Start, end)
}
