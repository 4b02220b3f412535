package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	core "glis.dev/glis/image/criu/criu-core"
	"glis.dev/glis/image/criu/inventory"
	ipcmsg "glis.dev/glis/image/criu/ipc-msg"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/image/criu/pstree"
	"glis.dev/glis/image/criu/utsns"
	"glis.dev/glis/image/proto"
)

func words(w ...uint32) []byte {
	var b []byte
	for _, v := range w {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func TestHostileFiles(t *testing.T) {
	pipes := words(CommonMagic, magicPipesData)
	for name, tt := range map[string]struct {
		row  *Row
		file []byte
		want error
		text string
	}{
		"entry of 4 GiB":       {PsTree, append(words(CommonMagic, magicPsTree, 0xffffffff), 1), ErrTooLarge, "at offset 8"},
		"entry beyond the end": {PsTree, append(words(CommonMagic, magicPsTree, 1<<20), 1), io.ErrUnexpectedEOF, "entry of 1048576 bytes, 1 are left"},
		"payload beyond end":   {PipesData, append(pipes, "\x08\x00\x00\x00\x08\x01\x10\xff\xff\xff\xff\x0f\x00\x00"...), io.ErrUnexpectedEOF, "payload of 4294967295 bytes"},
		"not protobuf":         {PsTree, append(words(CommonMagic, magicPsTree, 1), 0xff), nil, "at offset 8"},
		"required missing":     {PsTree, words(CommonMagic, magicPsTree, 0), nil, "required"},
		"second of a single":   {Core, append(words(CommonMagic, magicCore), "\x02\x00\x00\x00\x08\x01\x02\x00\x00\x00\x08\x01"...), nil, "entry 2 in a file that has only 1"},
		"service, not common":  {PsTree, words(ServiceMagic, magicPsTree), ErrMagic, "0x55105940 instead of 0x54564319"},
		"another sort":         {PsTree, words(CommonMagic, magicCore), ErrMagic, "at offset 4"},
		"ghost of huge chunk":  {GhostFile, append(words(CommonMagic, magicGhostFile), "\x08\x00\x00\x00\x08\x00\x10\x00\x18\x00\x48\x01\x0d\x00\x00\x00\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x00"...), io.ErrUnexpectedEOF, "payload of 9223372036854775807"},
		"messages that lack":   {IPCMsg, messagesMissing(), io.ErrUnexpectedEOF, "4294967295 more entries"},
	} {
		t.Run(name, func(t *testing.T) {
			rd := newReader(&memFile{tt.file}, tt.row, "x.img")
			err := rd.header()
			if err == nil {
				_, err = readEntries(rd)
			}
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Error(err)
			}
			if !strings.HasPrefix(err.Error(), "image x.img: at offset ") {
				t.Error(err)
			}
		})
	}
}

func messagesMissing() []byte {
	m := fill(&ipcmsg.IpcMsgEntry{})
	m.Qnum = proto.Uint32(0xffffffff)
	b, _ := proto.Marshal(m)
	return append(words(CommonMagic, magicIPCMsg, uint32(len(b))), b...)
}

func TestUnknownFieldsAreKept(t *testing.T) {
	const file = "\x19\x43\x56\x54\x47\x38\x05\x55\x07\x00\x00\x00\x08\x01\xf2\x7f\x02hi"
	s := memory{"core-1.img": &memFile{[]byte(file)}}
	m, err := ReadOne[*core.CoreEntry](s, Core, 1)
	check(t, err)
	check(t, WriteOne(s, Core, m, 2))
	if got := string(s["core-2.img"].b); got != file {
		t.Errorf("%q\nwant %q", got, file)
	}
}

func TestWriterRefuses(t *testing.T) {
	pipe := &pipedata.PipeDataEntry{PipeId: proto.Uint32(1), Bytes: proto.Uint32(5)}
	message := fill(&ipcmsg.IpcMsgEntry{})
	for name, put := range map[string]func(t *testing.T, s Store) (*Writer, error){
		"another message": func(t *testing.T, s Store) (*Writer, error) { return put(t, s, PipesData, &core.CoreEntry{}) },
		"payload missing": func(t *testing.T, s Store) (*Writer, error) { return put(t, s, PipesData, pipe) },
		"field missing":   func(t *testing.T, s Store) (*Writer, error) { return put(t, s, PsTree, &pstree.PstreeEntry{}) },
		"two":             func(t *testing.T, s Store) (*Writer, error) { m := fill(Core.New()); return put(t, s, Core, m, m) },
		"not the message that must follow": func(t *testing.T, s Store) (*Writer, error) {
			return put(t, s, IPCMsg, message, message)
		},
		"short source": func(t *testing.T, s Store) (*Writer, error) {
			w, err := Create(s, PipesData)
			check(t, err)
			return w, w.PutPayloadFrom(pipe, strings.NewReader("hi"), 5)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := put(t, memory{})
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%v is not an *Error", err)
			}
			if again := w.Close(); again != err { //nolint:errorlint // the very same
				t.Errorf("Close: %v, want %v", again, err)
			}
		})
	}
}

func put(t *testing.T, s Store, r *Row, all ...proto.Message) (*Writer, error) {
	t.Helper()
	w, err := Create(s, r, []uint32{1}[:r.idCount()]...)
	check(t, err)
	for _, m := range all {
		err = errors.Join(err, w.Put(m))
	}
	if err != nil {
		err = w.err
	}
	return w, err
}

func TestCloseOfAnIncompleteFile(t *testing.T) {
	for _, r := range []*Row{Core, Pagemap, GhostFile} {
		w, err := Create(memory{}, r, 1)
		check(t, err)
		if err := w.Close(); err == nil || !strings.Contains(err.Error(), "there is no entry") {
			t.Errorf("%s: %v", r, err)
		}
	}
}

func TestClosedWriter(t *testing.T) {
	w, err := Create(memory{}, PsTree)
	check(t, err)
	check(t, w.Close())
	if err := w.Put(fill(PsTree.New())); err == nil {
		t.Error("Put after Close")
	}
}

// full is a file on a full disk.
type full struct {
	memFile
	room int
}

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return 0, fs.ErrInvalid
	}
	f.room -= len(p)
	return f.memFile.Write(p)
}

type fullStore struct{ memory }

func (s fullStore) Create(string) (WriteFile, error) { return &full{room: 10}, nil }

func TestFullDisk(t *testing.T) {
	err := WriteOne(fullStore{}, Core, fill(Core.New()), 1)
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestReadHelpers(t *testing.T) {
	s := memory{}
	if _, err := ReadAll[*pstree.PstreeEntry](s, PsTree); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadAll of no file: %v", err)
	}
	if all, err := ReadOptional[*pstree.PstreeEntry](s, PsTree); err != nil || all != nil {
		t.Errorf("ReadOptional of no file: %v %v", all, err)
	}
	check(t, WriteAll[*pstree.PstreeEntry](s, PsTree, nil))
	if len(s) != 0 {
		t.Error("a file without entries was made")
	}
	e := fill(&pstree.PstreeEntry{})
	check(t, WriteAll(s, PsTree, []*pstree.PstreeEntry{e, e}))
	if all, err := ReadAll[*pstree.PstreeEntry](s, PsTree); err != nil || len(all) != 2 || !proto.Equal(all[1], e) {
		t.Errorf("%v %v", all, err)
	}
	if _, err := ReadOne[*pstree.PstreeEntry](s, PsTree); err == nil {
		t.Error("ReadOne of two")
	}
	if _, err := ReadAll[*utsns.UtsnsEntry](s, PsTree); err == nil {
		t.Error("ReadAll as another message")
	}
	if _, err := Open(s, Pages, 1); err == nil {
		t.Error("Open of a raw image")
	}
}

func TestPayloadLimit(t *testing.T) {
	s := memory{}
	writeEntries(t, s, PipesData, []entry{{&pipedata.PipeDataEntry{PipeId: proto.Uint32(1), Bytes: proto.Uint32(5)}, []byte("12345")}})
	rd, err := Open(s, PipesData)
	check(t, err)
	check(t, rd.Next(&pipedata.PipeDataEntry{}))
	if _, err := rd.PayloadBytes(4); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if b, err := rd.PayloadBytes(5); err != nil || !bytes.Equal(b, []byte("12345")) {
		t.Error(b, err)
	}
}

// TestPayloadInPlace: of a file that is read as a whole and stays, payloads are where they
// are, and whoever appends to one changes none that follows; of one that doesn't they are not.
func TestPayloadInPlace(t *testing.T) {
	s := memory{}
	writeEntries(t, s, PipesData, []entry{
		{&pipedata.PipeDataEntry{PipeId: proto.Uint32(1), Bytes: proto.Uint32(5)}, []byte("12345")},
		{&pipedata.PipeDataEntry{PipeId: proto.Uint32(2), Bytes: proto.Uint32(2)}, []byte("67")},
	})
	for _, kept := range []bool{true, false} {
		b := bytes.Clone(s[PipesData.FileName()].b)
		rd := newReader(&bytesFile{b: b, kept: kept}, PipesData, PipesData.FileName())
		check(t, rd.header())
		var all [2][]byte
		for i := range all {
			check(t, rd.Next(&pipedata.PipeDataEntry{}))
			var err error
			all[i], err = rd.PayloadBytes(10)
			check(t, err)
			_ = append(all[i], "xxxxxxxxxxxx"...)
		}
		if string(all[0]) != "12345" || string(all[1]) != "67" || !bytes.Equal(b, s[PipesData.FileName()].b) {
			t.Errorf("%q", all)
		}
		clear(b)
		if in := all[0][0] == 0; in != kept {
			t.Errorf("kept %v, in place %v", kept, in)
		}
	}
}

func TestInventoryVersions(t *testing.T) {
	for _, tt := range []struct {
		version uint32
		perID   bool
		cgSet   *uint32
		ok      bool
	}{
		{1, true, nil, true}, {2, true, proto.Uint32(1), true}, {2, true, proto.Uint32(0), false},
		{0, true, nil, false}, {3, true, nil, false}, {2, false, nil, false},
	} {
		s := memory{}
		check(t, WriteOne(s, Inventory, &inventory.InventoryEntry{ImgVersion: &tt.version, FdinfoPerId: &tt.perID, RootCgSet: tt.cgSet}))
		_, err := ReadInventory(s)
		if (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt, err)
		}
		if tt.version == 3 && (!errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "too new")) {
			t.Error(err)
		}
	}
}

// A part of a file is the same whether all of it was read before or not.
func TestRange(t *testing.T) {
	file := append(words(CommonMagic, magicMM), "0123456789"...)
	for name, f := range map[string]ReadFile{"read as a whole": &bytesFile{b: file}, "not": &memFile{file}} {
		rd := newReader(f, MM, "mm-1.img")
		check(t, rd.header())
		for _, c := range []struct {
			off  int64
			n    int
			want string
		}{{8, 10, "0123456789"}, {10, 3, "234"}, {18, 0, ""}} {
			if b, err := rd.Range(c.off, c.n); err != nil || string(b) != c.want {
				t.Errorf("%s: %d bytes at %d: %q, %v", name, c.n, c.off, b, err)
			}
		}
		for _, c := range []struct {
			off int64
			n   int
		}{{8, 11}, {18, 1}, {19, 1}, {-1, 1}} {
			if b, err := rd.Range(c.off, c.n); err == nil {
				t.Errorf("%s: %d bytes at %d: %q", name, c.n, c.off, b)
			}
		}
	}
}
