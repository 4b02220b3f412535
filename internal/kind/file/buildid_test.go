package file

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"testing"
)

// note is an ELF note.
func note(order binary.ByteOrder, name string, typ uint32, desc []byte) []byte {
	b := make([]byte, 12)
	order.PutUint32(b, uint32(len(name)))
	order.PutUint32(b[4:], uint32(len(desc)))
	order.PutUint32(b[8:], typ)
	pad := func(p []byte) []byte { return append(bytes.Clone(p), make([]byte, -len(p)&3)...) }
	return append(append(b, pad([]byte(name))...), pad(desc)...)
}

// elfFile is an ELF file with two program headers, the second for notes.
func elfFile(order binary.ByteOrder, class elf.Class, notes []byte) []byte {
	var b bytes.Buffer
	ident := [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB)}
	if order == binary.BigEndian {
		ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	if class == elf.ELFCLASS64 {
		_ = binary.Write(&b, order, elf.Header64{Ident: ident, Phoff: 64, Phentsize: 56, Phnum: 2})
		_ = binary.Write(&b, order, []elf.Prog64{{Type: uint32(elf.PT_LOAD)}, {Type: uint32(elf.PT_NOTE), Off: 64 + 2*56, Filesz: uint64(len(notes))}})
	} else {
		_ = binary.Write(&b, order, elf.Header32{Ident: ident, Phoff: 52, Phentsize: 32, Phnum: 2})
		_ = binary.Write(&b, order, []elf.Prog32{{Type: uint32(elf.PT_LOAD)}, {Type: uint32(elf.PT_NOTE), Off: 52 + 2*32, Filesz: uint32(len(notes))}})
	}
	return append(b.Bytes(), notes...)
}

func TestElfBuildID(t *testing.T) {
	id := []byte("0123456789abcdefghij")
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		other := note(order, "GNU\x00", 1, make([]byte, 16))
		foreign := note(order, "CORE\x00", noteGNU, id)
		build := note(order, "GNU\x00", noteGNU, id)
		for _, class := range []elf.Class{elf.ELFCLASS32, elf.ELFCLASS64} {
			for _, c := range []struct {
				what  string
				notes []byte
				want  string
			}{
				{"plain", build, string(id)},
				{"behind others", append(append(bytes.Clone(other), foreign...), build...), string(id)},
				{"none", other, ""},
				{"cut", build[:len(build)-1], ""},
				{"empty", note(order, "GNU\x00", noteGNU, nil), ""},
				{"odd length", note(order, "GNU\x00", noteGNU, id[:9]), string(id[:9])},
				{"too long", note(order, "GNU\x00", noteGNU, make([]byte, 513)), ""},
			} {
				t.Run(fmt.Sprint(order, class, c.what), func(t *testing.T) {
					got, err := elfBuildID(bytes.NewReader(elfFile(order, class, c.notes)))
					if err != nil || string(got) != c.want {
						t.Errorf("got %q, %v; want %q", got, err, c.want)
					}
				})
			}
		}
	}
	for _, s := range []string{"", "\x7fELF", "#!/bin/sh\n", "\x7fELF" + string(make([]byte, 60))} {
		if got, err := elfBuildID(bytes.NewReader([]byte(s))); got != nil || err != nil {
			t.Errorf("%q: got %q, %v", s, got, err)
		}
	}
}

func TestPackBuildID(t *testing.T) {
	if got := fmt.Sprintf("%x", packBuildID([]byte{1, 2, 3, 4, 5})); got != "[4030201 5]" {
		t.Error(got)
	}
	if got := packBuildID(nil); got != nil {
		t.Error(got)
	}
}

func TestMapAddress(t *testing.T) {
	for path, want := range map[string]uint64{"map_files/7f00-8000": 0x7f00, "map_files/x-y": 0, "exe": 0, "map_files/10": 0} {
		if got, ok := mapAddress(path); ok != (want != 0) || ok && got != want {
			t.Errorf("%s: %#x, %v", path, got, ok)
		}
	}
}

func FuzzElfBuildID(f *testing.F) {
	build := note(binary.LittleEndian, "GNU\x00", noteGNU, []byte("0123456789abcdefghij"))
	f.Add(elfFile(binary.LittleEndian, elf.ELFCLASS64, build))
	f.Add(elfFile(binary.BigEndian, elf.ELFCLASS32, build))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := elfBuildID(bytes.NewReader(b)); err != nil || len(id) > maxBuildID {
			t.Errorf("%d bytes, %v", len(id), err)
		}
	})
}
