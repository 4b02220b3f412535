package house

import (
	"os"
	"strings"
	"testing"
)

// The floors. A package imports from floors below its own only, or what
// sideways allows; leaves may be imported by everybody and import only leaves.
const (
	kernel      = iota + 1 // what Linux and the CPU are like
	instruments            // what works on a stopped task, an image, a plan
	kinds                  // one package for a group of kinds, dump and restore side by side
	list                   // the list of all kinds
	work                   // the order of work
	door                   // what a user meets
)

// leaves stand outside of the floors.
var leaves = map[string]bool{
	"options": true, "image": true, "image/extra": true, "image/proto": true, "image/protowire": true,
	"internal/event": true, "internal/fd": true, "internal/undo": true, "internal/par": true,
	"internal/warm": true,
}

var floors = map[string]int{
	"internal/linux": kernel, "internal/arch": kernel, "internal/arch/start": kernel, "internal/proc": kernel, "internal/feature": kernel,
	"internal/sockdiag": kernel, "internal/bpf": kernel, "internal/sockmem": kernel, "internal/vmamem": kernel,
	"internal/taskmem": kernel, "internal/cgroupfs": kernel, "internal/kmem": kernel, "internal/filemem": kernel,
	"internal/hugepages": kernel,

	"internal/tracee": instruments, "internal/remote": instruments, "internal/stub": instruments,
	"internal/scan": instruments, "internal/plan": instruments, "internal/pages": instruments,
	"internal/netlock": instruments, "internal/guardian": instruments, "internal/standin": instruments,

	"internal/kinds": list,

	"internal/dump": work, "internal/restore": work, "internal/inspect": work,
	"internal/cli": door, "internal/demo": door, "cmd/glis": door, ".": door,
}

// floor tells where a package is; 0 if nobody has decided. Whatever is below
// internal/kind is a kind, or common to some.
func floor(dir string) int {
	if dir == "internal/kind" || strings.HasPrefix(dir, "internal/kind/") {
		return kinds
	}
	return floors[dir]
}

// sideways are the imports within a floor, with the reason where it is not
// plain. A folder may import those it is in.
var sideways = map[string]string{
	"internal/feature -> internal/linux":                    "",
	"internal/feature -> internal/proc":                     "",
	"internal/bpf -> internal/linux":                        "",
	"internal/sockmem -> internal/linux":                    "",
	"internal/sockmem -> internal/bpf":                      "",
	"internal/sockmem -> internal/kmem":                     "",
	"internal/kmem -> internal/linux":                       "",
	"internal/kmem -> internal/bpf":                         "",
	"internal/taskmem -> internal/linux":                    "",
	"internal/filemem -> internal/linux":                    "",
	"internal/filemem -> internal/bpf":                      "",
	"internal/taskmem -> internal/bpf":                      "",
	"internal/taskmem -> internal/arch":                     "whether there are I/O ports",
	"internal/vmamem -> internal/linux":                     "",
	"internal/vmamem -> internal/bpf":                       "",
	"internal/vmamem -> internal/proc":                      "",
	"internal/sockdiag -> internal/linux":                   "",
	"internal/remote -> internal/tracee":                    "",
	"internal/dump -> internal/restore":                     "a tree is ended only if a restore could make it again",
	"internal/guardian -> internal/netlock":                 "it lets packets through",
	"internal/guardian -> internal/remote":                  "it takes the engine's memory out of tasks",
	"internal/guardian -> internal/tracee":                  "",
	"internal/guardian -> internal/stub":                    "it is one page until it is needed",
	"internal/stub -> internal/remote":                      "the stub is a thread like any other once it runs",
	"internal/stub -> internal/tracee":                      "",
	"internal/scan -> internal/remote":                      "a scanned thread is one that batches run in",
	"internal/plan -> internal/netlock":                     "a file says which flows are to be locked",
	"internal/kind/socket -> internal/kind/file":            "the owner of signals (F_SETOWN) is common to files and sockets",
	"internal/kind/socket/unix -> internal/kind/file":       "the owner of signals (F_SETOWN) is common to files and sockets",
	"internal/kind/socket/inet -> internal/kind/file":       "the owner of signals (F_SETOWN) is common to files and sockets",
	"internal/kind/socket/netlink -> internal/kind/file":    "the owner of signals (F_SETOWN) is common to files and sockets",
	"internal/kind/socket/lone -> internal/kind/file":       "the owner of signals (F_SETOWN) is common to files and sockets",
	"internal/kind/socket/tun -> internal/kind/file":        "the owner of signals (F_SETOWN) is common to files and sockets",
	"internal/kind/socket/packet -> internal/kind/file":     "the owner of signals (F_SETOWN) is common to files and sockets",
	"internal/kind/socket/tcp -> internal/kind/file":        "the owner of signals (F_SETOWN) is common to files and sockets",
	"internal/kind/socket/inet -> internal/kind/socket/tcp": "the internet socket that is a TCP one is handed on",
	"cmd/glis -> internal/cli":                              "",
	"cmd/glis -> internal/demo":                             "",
	"internal/demo -> .":                                    "what is shown is the library",
	"cmd/glis -> .":                                         "the command is a user of the library",
	". -> internal/cli":                                     "",
}

func TestFloors(t *testing.T) {
	eachSource(t, product, func(s *source) {
		dir := s.dir()
		if floor(dir) == 0 && !leaf(dir) {
			t.Errorf("%s: package %s has no floor: give it one here and a line in ARCHITECTURE.md", s.path, dir)
			return
		}
		for _, i := range imports(s) {
			to, ours := strings.CutPrefix(i, module+"/")
			if !ours {
				continue
			}
			if !mayImport(dir, to) {
				t.Errorf("%s: %s imports %s: arrows go down only", s.path, dir, to)
			}
		}
	})
}

// leaf tells whether a package is one. There is one for each schema of criu's.
func leaf(dir string) bool { return leaves[dir] || strings.HasPrefix(dir, "image/criu/") }

func mayImport(from, to string) bool {
	switch {
	case leaf(to):
		return true
	case leaf(from) || floor(to) == 0:
		return false
	case floor(to) < floor(from) || strings.HasPrefix(from, to+"/"):
		return true
	}
	_, ok := sideways[from+" -> "+to]
	return ok
}

// A package that is listed and gone would hide that a new one of this name
// has not been thought about.
func TestFloorsExist(t *testing.T) {
	for _, m := range []map[string]bool{leaves, keys(floors)} {
		for dir := range m {
			if _, err := os.Stat("../../" + dir); err != nil {
				t.Errorf("%s is in the table and not in the house", dir)
			}
		}
	}
}

func keys(m map[string]int) map[string]bool {
	out := map[string]bool{}
	for k := range m {
		out[k] = true
	}
	return out
}
