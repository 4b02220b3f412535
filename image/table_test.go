package image

import (
	"slices"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/magic"
)

// magicName is what a row is called in criu's list of magics.
func magicName(r *Row) string {
	odd := map[string]string{
		"stats-dump": "STATS", "stats-restore": "STATS", "binfmt-misc-old": "BINFMT_MISC",
		"memfd": "MEMFD_INODE", "filelocks": "FILE_LOCKS", "pagemap-shmem": "PAGEMAP",
		"ipcns-var": "IPC_VAR", "mountpoints": "MNTS", "eventfd": "EVENTFD_FILE",
		"eventpoll": "EVENTPOLL_FILE", "inotify": "INOTIFY_FILE", "fanotify": "FANOTIFY_FILE",
		"netlinksk": "NETLINK_SK", "tty": "TTY_FILES", "sigacts": "SIGACT",
		"signal-s": "SIGNAL", "signal-p": "SIGNAL",
	}
	if name, ok := odd[r.Name]; ok {
		return name
	}
	return strings.ToUpper(strings.ReplaceAll(r.Name, "-", "_"))
}

func TestMagics(t *testing.T) {
	known := magic.LoadMagic()
	unused := known.ByName
	for _, r := range Table() {
		name := magicName(r)
		// The list is that of an older criu, which did not have pidfd.
		if r.Raw() || r.Name == "pidfd" {
			continue
		}
		if want, ok := known.ByValue[uint64(r.Magic)]; !ok || want != name {
			t.Errorf("%s: magic %#x is that of %q, not of %s", r, r.Magic, want, name)
		}
		delete(unused, name)
	}
	for _, name := range []string{"IMG_COMMON", "IMG_SERVICE", "CRTOOLS_IMAGES_V1_1", "KDAT"} {
		delete(unused, name)
	}
	for name := range unused {
		t.Errorf("no row for %s", name)
	}
}

func TestRowsAreSound(t *testing.T) {
	seen := make(map[string]bool)
	for _, r := range Table() {
		if seen[r.Name] || seen[r.Pattern] {
			t.Errorf("%s is there twice", r)
		}
		seen[r.Name], seen[r.Pattern] = true, true
		if r.Raw() != (r.New == nil) || r.Raw() && r.Common != 0 {
			t.Errorf("%s: a raw row has no message and no magic, any other has both", r)
		}
		if (r.Sub == nil) != (r.Subs == nil) {
			t.Errorf("%s: Sub without Subs", r)
		}
		if (r.Common == 0) != (r.Raw() || r == Inventory) {
			t.Errorf("%s: common magic %#x", r, r.Common)
		}
	}
}

func TestRowFor(t *testing.T) {
	for _, r := range Table() {
		ids := []uint32{4000000017}[:r.idCount()]
		name := r.FileName(ids...)
		got, gotIDs, ok := RowFor(name)
		if !ok || got.Name != r.Name || len(gotIDs) != len(ids) {
			t.Errorf("RowFor(%q) = %v %v %v", name, got, gotIDs, ok)
		}
		if len(ids) > 0 && !slices.Equal(gotIDs, []uint64{uint64(ids[0])}) {
			t.Errorf("RowFor(%q) ids %d", name, gotIDs)
		}
	}
}

func TestRowForNames(t *testing.T) {
	for name, want := range map[string]string{
		"core-17.img":                            "core",
		"pagemap-17.img":                         "pagemap",
		"pagemap-shmem-18446744073709551615.img": "pagemap-shmem",
		"ghost-file-80000000.img":                "ghost-file",
		"tmpfs-dev-32.tar.gz.img":                "tmpfs-dev",
		"stats-dump":                             "stats-dump",
		"binfmt-misc-5.img":                      "binfmt-misc-old",
	} {
		if r, _, ok := RowFor(name); !ok || r.Name != want {
			t.Errorf("RowFor(%q) = %v, want %s", name, r, want)
		}
	}
	for _, name := range []string{
		"", "core-.img", "core-+1.img", "core-01.img", "core--1.img", "core-1.img ", "core-99999999999999999999.img",
		"core-1", "core", "dump.log", "ghost-file-8G.img", "ghost-file-A.img", "parent", "core-%d.img", "files-1.img",
	} {
		if r, _, ok := RowFor(name); ok {
			t.Errorf("RowFor(%q) = %v, want none", name, r)
		}
	}
}

func TestFileNamePanicsOnWrongIDs(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic for a core without a PID")
		}
	}()
	Core.FileName()
}
