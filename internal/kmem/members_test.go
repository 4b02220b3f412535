package kmem_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/kind"
	"glis.dev/glis/internal/kind/mem"
	"glis.dev/glis/internal/kind/task"
	"glis.dev/glis/internal/kinds"
	"glis.dev/glis/internal/kmem"
	"glis.dev/glis/internal/sockmem"
	"glis.dev/glis/internal/standin"
)

const oldest = "testdata/linux-6.1.members"

var types = flag.String("btf", "", "file with the types of a Linux 6.1 (its /sys/kernel/btf/vmlinux), to write "+oldest+" anew")

// needed are the members of the kernel's structures without which its memory is not read.
func needed() (names []string) {
	all := slices.Concat(kmem.Names(), mem.KernelNames(), task.BlockNames(), sockmem.MemoryNames(standin.Names()...))
	for _, k := range kinds.New().Files {
		if u, ok := k.(kind.MemoryUser); ok {
			all = append(all, u.KernelNames()...)
		}
	}
	for _, n := range all {
		if !strings.HasPrefix(n, "?") {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// One member that is missing, and nothing of the kernel's memory is read: the oldest
// kernel that Glis is for has all that must be there.
func TestMembers(t *testing.T) {
	if *types != "" {
		write(t, *types)
	}
	b, err := os.ReadFile(oldest)
	if err != nil {
		t.Fatal(err)
	}
	has := strings.Fields(string(b))
	for _, n := range needed() {
		if !slices.Contains(has, n) {
			t.Errorf("%s: does Linux 6.1 have it? If not, it is asked for as ?%[1]s, and whoever reads it sees to that (Has). If it does: go test ./internal/kmem -run TestMembers -btf FILE", n)
		}
	}
}

func write(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	x, err := bpf.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	var has []string
	for _, n := range needed() {
		if _, err := kmem.Find(x, []string{n}); err == nil {
			has = append(has, n)
		}
	}
	if err := os.WriteFile(oldest, []byte(strings.Join(has, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A structure may be missing if all that is asked of it may.
func TestMayBeMissing(t *testing.T) {
	x, err := bpf.Kernel()
	if err != nil {
		t.Skip(err)
	}
	defer x.Close() //nolint:errcheck // only read
	if _, err := kmem.Find(x, []string{"?no_such_struct.one", "?no_such_struct.other", "sock.sk_err"}); err != nil {
		t.Error(err)
	}
	if _, err := kmem.Find(x, []string{"?no_such_struct.one", "no_such_struct.other"}); err == nil {
		t.Error("a structure is missing of which a member must be there, and nobody says so")
	}
}
