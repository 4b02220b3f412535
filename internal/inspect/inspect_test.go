package inspect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	"glis.dev/glis/options"
)

var update = flag.Bool("update", false, "write the golden files anew")

// inspect runs the whole thing.
func inspect(s image.Store, asJSON bool) (string, error) {
	var out bytes.Buffer
	err := Run(context.Background(), &options.Inspect{JSON: asJSON}, s, &out)
	return out.String(), err
}

func TestGolden(t *testing.T) {
	for _, c := range []struct {
		name   string
		store  func(testing.TB) memory
		asJSON bool
	}{
		{"sleep.txt", sleep, false}, {"sleep.json", sleep, true}, {"tree.txt", tree, false}, {"tree.json", tree, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := inspect(c.store(t), c.asJSON)
			check(t, err)
			name := "testdata/" + c.name
			if *update {
				check(t, os.WriteFile(name, []byte(got), 0o644))
			}
			want, err := os.ReadFile(name)
			check(t, err)
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("- wanted, + got:\n%s", diff)
			}
		})
	}
}

func TestJSONRoundTrip(t *testing.T) {
	s := tree(t)
	want, err := Read(t.Context(), s)
	check(t, err)
	out, err := inspect(s, true)
	check(t, err)
	var got Report
	dec := json.NewDecoder(strings.NewReader(out))
	dec.DisallowUnknownFields()
	check(t, dec.Decode(&got))
	// JSON has no bytes that are not UTF-8.
	text := cmp.Transformer("text", func(s string) string { return strings.ToValidUTF8(s, "\ufffd") })
	private := cmpopts.IgnoreUnexported(Task{}, Descriptor{}, File{}, Socket{}, Member{}, Pipe{})
	if diff := cmp.Diff(want, &got, text, private, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("- read, + from JSON:\n%s", diff)
	}
}

// TestNameBytes: what JSON cannot say as text is there all the same.
func TestNameBytes(t *testing.T) {
	var f File
	f.name("caf\xe9")
	b, err := json.Marshal(&f)
	check(t, err)
	var got File
	check(t, json.Unmarshal(b, &got))
	if string(got.NameBytes) != "caf\xe9" {
		t.Errorf("%s", b)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain né 日本": "plain né 日本", "": "", "a\tb\n\x1b[0m": `a\tb\n\x1b[0m`, "\xff\x80": `\xff\x80`,
		`a\b`: `a\\b`, "\u202eevil": `\u202eevil`, "\ufffd": "\ufffd", "\x00": `\x00`, "\u0085": `\u0085`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %s, want %s", in, got, want)
		}
		// Nothing is lost: it reads back as a Go string.
		if back, err := strconv.Unquote(`"` + strings.ReplaceAll(clean(in), `"`, `\"`) + `"`); err != nil || back != in {
			t.Errorf("%q comes back as %q, %v", in, back, err)
		}
	}
}

// TestBroken damages one image in one way each: the error names the file, and
// nothing is printed.
func TestBroken(t *testing.T) {
	whole := tree(t)
	cut := func(name string) memory { b := whole[name].b; return whole.with(name, b[:len(b)-1]) }
	without := func(name string) memory { s := whole.with(name, nil); delete(s, name); return s }
	for what, c := range map[string]struct {
		store memory
		want  string
	}{
		"empty directory":   {memory{}, "memory holds no checkpoint"},
		"cut tree":          {cut("pstree.img"), "image pstree.img: at offset 70: file is cut"},
		"no tree":           {without("pstree.img"), "no tasks in memory"},
		"cut files":         {cut("files.img"), "image files.img: at offset "},
		"cut table":         {cut("fdinfo-1.img"), "image fdinfo-1.img: at offset "},
		"no core":           {without("core-110.img"), "core-110.img"},
		"no core of thread": {without("core-101.img"), "core-101.img"},
		"no memory":         {without("mm-110.img"), "mm-110.img"},
		"no pages":          {without("pages-110.img"), "pages-110.img"},
		"cut pages":         {cut("pages-110.img"), "image pages-110.img: at offset 12287: file is cut"},
		"no files":          {without("files.img"), "image glis-sockets.img: at offset 26: socket 9"},
		"no memfds":         {without("memfd.img"), "memfd.img"},
		"wrong magic":       {whole.with("files.img", whole["pstree.img"].b), "image files.img: at offset 4: wrong magic"},
	} {
		t.Run(what, func(t *testing.T) {
			got, err := inspect(c.store, false)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one about %s", err, c.want)
			}
			if got != "" {
				t.Errorf("printed all the same: %s", got)
			}
		})
	}
}

// TestHostile are checkpoints that no dump writes but that are well formed.
func TestHostile(t *testing.T) {
	entries := func(r *image.Row, b func(memory), ids ...uint32) memory {
		s := tree(t)
		delete(s, r.FileName(ids...))
		b(s)
		return s
	}
	for what, c := range map[string]struct {
		store memory
		want  string
	}{
		"task twice":         {entries(image.PsTree, procs(t, [2]uint32{100, 0}, [2]uint32{100, 0})), "listed twice"},
		"its own parent":     {entries(image.PsTree, procs(t, [2]uint32{100, 100})), "before its parent"},
		"parent later":       {entries(image.PsTree, procs(t, [2]uint32{100, 110}, [2]uint32{110, 0})), "before its parent"},
		"no PID":             {entries(image.PsTree, procs(t, [2]uint32{1 << 30, 0})), "no PID"},
		"overlapping memory": {entries(image.MM, badMemory(t), 100), "not behind the one before"},
		"long name":          {entries(image.Files, badFiles(t, regular(1, strings.Repeat("x", 5000), 0, 0, 0))), "a name of 5000 bytes"},
		"file twice":         {entries(image.Files, badFiles(t, regular(1, "/a", 0, 0, 0), regular(1, "/b", 0, 0, 0))), "listed twice"},
		"missing file":       {entries(image.Files, badFiles(t, regular(1, "/a", 0, 0, 0))), "which is not in files.img"},
		"port out of range":  {entries(image.Files, badFiles(t, inetFile(1, 2, 1, 1<<20, 0))), "no port"},
		"two with one inode": {entries(image.Files, badFiles(t, unixFile(1, 2, 0, 1, ""), unixFile(2, 2, 0, 1, ""))), "two sockets with inode 2"},
	} {
		t.Run(what, func(t *testing.T) {
			if _, err := inspect(c.store, false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %s", err, c.want)
			} else if _, ok := errors.AsType[*image.Error](err); !ok {
				t.Errorf("%v names no image", err)
			}
		})
	}
}

// TestDeepTree: a chain of tasks as long as an image can have it is no reason
// for lines as long.
func TestDeepTree(t *testing.T) {
	r := &Report{}
	for pid := uint32(1); pid <= 5000; pid++ {
		r.Tasks = append(r.Tasks, &Task{PID: pid, Parent: pid - 1, State: stateZombie})
	}
	var out bytes.Buffer
	check(t, r.WriteText(&out))
	for line := range strings.Lines(out.String()) {
		if utf8.RuneCountInString(line) > 400 {
			t.Fatalf("line of %d characters", utf8.RuneCountInString(line))
		}
	}
	if !strings.Contains(out.String(), "─ 5000") {
		t.Error("the last task is missing")
	}
}

// closed is a pipe whose reader has gone.
type closed struct{}

func (closed) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "|1", Err: unix.EPIPE}
}

func TestReaderGone(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		check(t, Run(t.Context(), &options.Inspect{JSON: asJSON}, tree(t), closed{}))
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, tree(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// FuzzImages gives one file of a checkpoint other contents. Whatever comes of
// it, there is no panic, and what is printed has no control characters.
func FuzzImages(f *testing.F) {
	whole := tree(f)
	for name, file := range whole {
		if row, _, ok := image.RowFor(name); !ok || row.Raw() {
			continue
		}
		f.Add(name, file.b)
		f.Add(name, file.b[:len(file.b)/2])
		broken := bytes.Clone(file.b)
		for i := 8; i < len(broken); i += 7 {
			broken[i] ^= 0x55
		}
		f.Add(name, broken)
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if _, ok := whole[name]; !ok {
			return
		}
		s := whole.with(name, b)
		text, err := inspect(s, false)
		if err != nil {
			return
		}
		for _, r := range text {
			if r != '\n' && r != utf8.RuneError && !strconv.IsPrint(r) {
				t.Fatalf("%q in the output", r)
			}
		}
		out, err := inspect(s, true)
		check(t, err)
		check(t, json.Unmarshal([]byte(out), new(Report)))
	})
}
