package bpf_test

import (
	"errors"
	"slices"
	"testing"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/bpf/bpftest"
	"glis.dev/glis/internal/testkit"
)

const names = "\x00outer\x00a\x00b\x00c\x00d\x00"

// nested is struct outer { long a; union { long b; struct { int _; int c; }; }; }:
// names at 1, 7, 9, 11, 13.
func nested() []uint32 {
	return []uint32{
		0, bpf.KindInt << 24, 8, 64, // 1
		1, bpf.KindStruct<<24 | 2, 16, 7, 1, 0, 0, 3, 64, // 2
		0, bpf.KindUnion<<24 | 2, 8, 9, 1, 0, 0, 4, 0, // 3
		0, bpf.KindStruct<<24 | 1, 8, 11, 1, 32, // 4
	}
}

func find(t *testing.T, x *bpf.Types, name string) bpf.Type {
	t.Helper()
	var out bpf.Type
	err := x.Each(func(t *bpf.Type) bool {
		if x.Named(t, name) {
			out = *t
		}
		return out.ID == 0
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFields(t *testing.T) {
	x, err := bpf.Parse(bpftest.File(nested(), names))
	if err != nil {
		t.Fatal(err)
	}
	outer := find(t, x, "outer")
	got, err := x.Fields(&outer, "a", "b", "c", "d")
	if err != nil {
		t.Fatal(err)
	}
	if want := []bpf.Field{{}, {Offset: 8, Union: 8}, {Offset: 12}, {Offset: -1}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if n := x.Member(&outer, "a"); n != 0 {
		t.Errorf("a is at %d", n)
	}
	if n := x.Member(&outer, "b"); n != -1 {
		t.Errorf("b is at %d, but it is in a union", n)
	}
}

// A type that contains itself can't be, but must not take for ever.
func TestFieldsEndless(t *testing.T) {
	x, err := bpf.Parse(bpftest.File([]uint32{1, bpf.KindStruct<<24 | 1, 16, 0, 1, 0}, names))
	if err != nil {
		t.Fatal(err)
	}
	outer := find(t, x, "outer")
	if got, err := x.Fields(&outer, "a"); err != nil || got[0].Offset != -1 {
		t.Error(got, err)
	}
}

func TestParseBad(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
	}{
		{"empty", nil},
		{"no magic", make([]byte, 64)},
		{"cut", bpftest.File(nested(), names)[:60]},
		{"cut type", bpftest.File(nested()[:2], names)},
		{"cut members", bpftest.File(nested()[:8], names)},
		{"unknown kind", bpftest.File([]uint32{0, 31 << 24, 0}, names)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, err := bpf.Parse(tt.in)
			if err == nil {
				err = x.Each(func(*bpf.Type) bool { return true })
			}
			if !errors.Is(err, bpf.ErrBTF) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestKernel(t *testing.T) {
	x, err := bpf.Kernel()
	testkit.KernelMemory(t, err)
	if task := find(t, x, "task_struct"); task.Size < 1024 {
		t.Errorf("a task_struct of %d bytes", task.Size)
	}
	if err := errors.Join(x.Close(), x.Close()); err != nil {
		t.Error(err)
	}
}

func BenchmarkEach(b *testing.B) {
	x, err := bpf.Kernel()
	if err != nil {
		b.Skip(err)
	}
	defer x.Close() //nolint:errcheck // nothing was written
	for b.Loop() {
		if err := x.Each(func(*bpf.Type) bool { return true }); err != nil {
			b.Fatal(err)
		}
	}
}

func TestFind(t *testing.T) {
	x, err := bpf.Parse(bpftest.File(nested(), names))
	if err != nil {
		t.Fatal(err)
	}
	got, err := x.Find(bpf.Name{Kind: bpf.KindStruct, Name: "outer"}, bpf.Name{Kind: bpf.KindFunc, Name: "outer"},
		bpf.Name{Kind: bpf.KindStruct, Name: "a"}, bpf.Name{Kind: bpf.KindStruct, Name: "out"})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].ID != 2 || got[1].ID != 0 || got[2].ID != 0 || got[3].ID != 0 {
		t.Errorf("%v", got)
	}
	if b := x.Bits(&got[0], "a"); b != (bpf.Bits{}) {
		t.Errorf("a is %v", b)
	}
	if b := x.Bits(&got[0], "d"); b.Offset != -1 {
		t.Errorf("d is %v", b)
	}
	if is, err := x.IsPointer(&got[0], "a"); err != nil || is {
		t.Error("a number is said to be a pointer", err)
	}
	if at, err := x.Inner(&got[0], "a", "b"); err != nil || at != -1 {
		t.Errorf("a number has a member at %d: %v", at, err)
	}
}
