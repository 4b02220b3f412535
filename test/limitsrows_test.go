package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// elsewhere are the rows of docs/limits.md that no target of a list is refused for, and
// where that is shown, or why it can't be: tests and packages that are named exist.
var elsewhere = map[string]string{
	"traced by process N":                                 "TestStrace",
	"Glis runs under seccomp itself":                      "it would have to be started that way",
	"POSIX timers with numbers far apart":                 "of kernels before 6.15",
	"its cgroup is frozen":                                "TestFreezeCgroup",
	"with `--manage-cgroups`":                             "needs a cgroup namespace",
	"its security label differs":                          "needs a security module",
	"may have no memory of its own":                       "needs a security module",
	"shadow stack":                                        "needs a CPU with it",
	"PR_SET_IO_FLUSHER":                                   "needs CAP_SYS_RESOURCE; internal/kind/task",
	"on its way out of a checkpoint":                      "TestKilledDump",
	"io_uring, device memory":                             "of descriptors, below; internal/kind/mem",
	"protection keys":                                     "needs a CPU with them; internal/kind/mem",
	"MAP_SYNC":                                            "needs persistent memory",
	"uprobes":                                             "internal/kind/mem",
	"a property that this Glis does not":                  "internal/kind/mem",
	"memory with a NUMA policy of its own":                "internal/dump: TestPolicies",
	"guard regions":                                       "of kernels before 6.15",
	"the kernel's code in the task (vdso)":                "needs another kernel; internal/kind/mem",
	"file that was deleted on NFS":                        "needs NFS",
	"deleted file on a hugetlbfs":                         "internal/kind/file",
	"eventfd that a cgroup of version 1":                  "internal/kind/file: TestCgroupEvent",
	"/dev/kmsg that is open for reading":                  "needs a kernel whose memory can't be read",
	"file of pressure (PSI":                               "needs a kernel whose memory can't be read",
	"anonymous file that was opened with O_PATH":          "internal/kind/file: TestPathOnly",
	"file of tracefs":                                     "internal/kind/file: TestTracing",
	"record lock that a process outside":                  "internal/kind/file",
	"lease (F_SETLEASE) of a file that is only":           "internal/kind/file: TestLocksQueued",
	"lease that lets others read":                         "internal/kind/file: TestLeaseType",
	"of which a pidfd has a lease":                        "TestPidLease",
	"its end is held outside":                             "TestInheritFD",
	"terminal whose master is outside":                    "internal/kind/file",
	"pseudo-terminal that controls":                       "internal/kind/file",
	"pseudo-terminal whose number":                        "of a restore",
	"epoll: busy polling":                                 "internal/kind/file",
	"epoll file that is only in":                          "internal/kind/file: TestEpollQueued",
	"TCP connection that is about to begin and has data":  "internal/kind/socket/inet: TestConnectionRefused",
	"time stamps and ends of transmissions":               "internal/kind/socket/inet: TestRefused",
	"urgent data that waits (TCP), if":                    "needs a kernel whose memory can't be read",
	"TCP connections that wait to be accepted, if":        "internal/kind/socket/inet: TestForesee, TestRefused, TestPassedRefused, TestWaitingAway, TestShutBefore",
	"TCP socket whose connection has ended with an error": "internal/kind/socket/inet: TestRefused, TestEndedAway",
	"TCP socket in repair mode":                           "internal/kind/socket/inet: TestRefused",
	"keys of TCP-AO":                                      "internal/kind/socket/inet: TestRefused",
	"connections of Multipath TCP":                        "internal/kind/socket/inet: TestRefused",
	"datagrams in a UDP queue":                            "internal/kind/socket/inet: TestRefused",
	"a UDP socket of IPv6 that was disconnected":          "internal/kind/socket/inet: TestHeardAway",
	"datagrams in the queue of a UDP-Lite socket":         "internal/kind/socket/inet: TestLiteRefused",
	"what a UDP socket hasn't sent yet":                   "internal/kind/socket/inet: TestRefused",
	"errors that wait at a UDP, ping or raw socket":       "internal/kind/socket/inet: TestRefused, TestRawErrors",
	"a netlink socket that packets are queued for":        "internal/kind/socket/netlink: TestNetfilter",
	"a filter of SO_ATTACH_BPF":                           "needs a machine without a BPF file system",
	"the end of a kernel's tunnel":                        "internal/kind/socket/inet: TestRefused",
	"a socket of IPv4 or IPv6 that is bound to an":        "internal/kind/socket/inet: TestGone",
	"several unix sockets that are called by one":         "needs a kernel whose memory can't be read",
	"AF_ALG, CAN, Bluetooth":                              "internal/kind/socket: TestOthersRefuse",
	"a process of another PID namespace sent":             "needs another PID namespace than that of the test",
}

// TestLimitsRows: every state of docs/limits.md is tried, or it is known why not.
func TestLimitsRows(t *testing.T) {
	doc, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	var tried []string
	for _, x := range refusals {
		tried = append(tried, x.row)
	}
	for _, x := range socketRefusals {
		tried = append(tried, x.row)
	}
	for _, x := range unixRefusals {
		tried = append(tried, x.row)
	}
	for words := range elsewhere {
		tried = append(tried, words)
	}
	used := map[string]bool{}
	_, tables, _ := strings.Cut(string(doc), "\n## Tasks\n")
	tables, _, _ = strings.Cut(tables, "\n## What a restore needs\n")
	for line := range strings.Lines(tables) {
		row, ok := strings.CutPrefix(line, "| ")
		if !ok || strings.HasPrefix(row, "state |") {
			continue
		}
		found := false
		for _, words := range tried {
			if strings.Contains(row, words) {
				used[words], found = true, true
			}
		}
		if !found {
			t.Errorf("docs/limits.md: no test refuses: %s", row)
		}
	}
	for words, where := range elsewhere {
		if !used[words] {
			t.Errorf("docs/limits.md has no row that says %q", words)
		}
		hasTests(t, where)
	}
}

var (
	testNames   = regexp.MustCompile(`\bTest\w+`)
	packageName = regexp.MustCompile(`\binternal/[\w/]+`)
)

// hasTests fails if a test or package that is named isn't there.
func hasTests(t *testing.T, where string) {
	dir := "."
	if pkg := packageName.FindString(where); pkg != "" {
		dir = filepath.Join("..", pkg)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("%s: there are no tests in %s (%v)", where, dir, err)
	}
	names := map[string]bool{}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = true
			}
		}
	}
	for _, name := range testNames.FindAllString(where, -1) {
		if !names[name] {
			t.Errorf("%s: there is no %s in %s", where, name, dir)
		}
	}
}
