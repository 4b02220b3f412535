package house

import (
	"strings"
	"testing"
)

// slow are what no package of Glis imports, since it makes every start of the
// program slower than a small process is frozen; with what to take instead.
var slow = map[string]string{
	"google.golang.org/protobuf":             "image/proto, image/protowire",
	"github.com/checkpoint-restore/go-criu/": "image/criu, by the same names",
}

func TestQuickStart(t *testing.T) {
	eachSource(t, product, func(s *source) {
		for _, i := range imports(s) {
			for prefix, instead := range slow {
				if strings.HasPrefix(i, prefix) {
					t.Errorf("%s imports %s, which takes long when the program starts: take %s", s.path, i, instead)
				}
			}
		}
	})
}
