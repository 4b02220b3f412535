package mem

import (
	"testing"

	"glis.dev/glis/image"
)

// In a tar file that is sorted by name what is linked to comes first, for
// programs that take links for empty files.
func TestLinksComeLast(t *testing.T) {
	for _, row := range []*image.Row{image.Pages, image.Pagemap} {
		if CowDir < row.Pattern {
			t.Errorf("%s comes before %s", CowDir, row.Pattern)
		}
	}
}
