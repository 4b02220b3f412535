package image

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	core "glis.dev/glis/image/criu/criu-core"
	ghost "glis.dev/glis/image/criu/ghost-file"
	"glis.dev/glis/image/criu/inventory"
	ipcmsg "glis.dev/glis/image/criu/ipc-msg"
	ipcshm "glis.dev/glis/image/criu/ipc-shm"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	"glis.dev/glis/image/criu/stats"
	"glis.dev/glis/image/proto"
)

type entry struct {
	m       proto.Message
	payload []byte
}

// samples makes entries for a file of row r: more than one, if it may have that.
func samples(r *Row) []entry {
	if r == IPCMsg {
		return messageSamples()
	}
	count := 3
	if r.Single {
		count = 1
	}
	seq := sequence{row: r}
	var all []entry
	for range count {
		e := entry{m: fill(seq.next())}
		if n := seq.took(e.m); n > 0 {
			e.payload = bytes.Repeat([]byte{0xa5}, int(n))
		}
		all = append(all, e)
	}
	return all
}

func messageSamples() []entry {
	head := fill(&ipcmsg.IpcMsgEntry{})
	head.Qnum = proto.Uint32(2)
	empty := fill(&ipcmsg.IpcMsgEntry{})
	empty.Qnum = proto.Uint32(0)
	return []entry{
		{m: head},
		{&ipcmsg.IpcMsg{Mtype: proto.Uint64(1), Msize: proto.Uint32(8)}, []byte("eight...")},
		{&ipcmsg.IpcMsg{Mtype: proto.Uint64(2), Msize: proto.Uint32(5)}, []byte("five.")},
		{m: empty},
		{m: empty},
	}
}

func writeEntries(t testing.TB, s Store, r *Row, all []entry, ids ...uint32) {
	t.Helper()
	w, err := Create(s, r, ids...)
	check(t, err)
	for _, e := range all {
		check(t, w.PutPayload(e.m, e.payload))
	}
	check(t, w.Close())
}

func readEntries(rd *Reader) (all []entry, err error) {
	for {
		m, err := rd.NextAny()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		b, err := rd.PayloadBytes(1 << 20)
		if err != nil {
			return all, err
		}
		all = append(all, entry{m, b})
	}
}

func sameEntries(t *testing.T, got, want []entry) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i := range want {
		if !proto.Equal(got[i].m, want[i].m) || !bytes.Equal(got[i].payload, want[i].payload) {
			t.Errorf("entry %d: %v %q\nwant %v %q", i, got[i].m, got[i].payload, want[i].m, want[i].payload)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, r := range Table() {
		if r.Raw() {
			continue
		}
		t.Run(r.Name, func(t *testing.T) {
			s, ids := memory{}, []uint32{7}[:r.idCount()]
			want := samples(r)
			writeEntries(t, s, r, want, ids...)
			rd, err := Open(s, r, ids...)
			check(t, err)
			got, err := readEntries(rd)
			check(t, err)
			sameEntries(t, got, want)
			check(t, rd.Close())
			cutEverywhere(t, s, r, ids)
			otherMagic(t, s, r, ids)
		})
	}
}

// cutEverywhere cuts the file at every byte: what remains is either an error or
// a file of fewer entries, never anything else.
func cutEverywhere(t *testing.T, s memory, r *Row, ids []uint32) {
	name := r.FileName(ids...)
	whole, want := s[name].b, samples(r)
	for n := range whole {
		s[name] = &memFile{whole[:n]}
		rd, err := Open(s, r, ids...)
		if err != nil {
			checkCut(t, n, err)
			continue
		}
		got, err := readEntries(rd)
		if err != nil {
			checkCut(t, n, err)
		} else if len(got) == len(want) {
			t.Errorf("cut at %d of %d goes unnoticed", n, len(whole))
		}
		sameEntries(t, got, want[:len(got)])
	}
	s[name] = &memFile{whole}
}

func checkCut(t *testing.T, n int, err error) {
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || e.Offset > int64(n) {
		t.Errorf("cut at %d: %v", n, err)
	}
}

func otherMagic(t *testing.T, s memory, r *Row, ids []uint32) {
	name := r.FileName(ids...)
	for i := range s[name].b[:4] {
		b := bytes.Clone(s[name].b)
		b[i] ^= 0x80
		s[name+"x"] = &memFile{b}
		if _, err := open(s, r, name+"x"); !errors.Is(err, ErrMagic) {
			t.Errorf("magic %x: %v", b[:8], err)
		}
	}
}

func TestGolden(t *testing.T) {
	s := memory{}
	check(t, WriteOne(s, Inventory, &inventory.InventoryEntry{ImgVersion: proto.Uint32(2)}))
	check(t, WriteOne(s, Core, &core.CoreEntry{Mtype: core.CoreEntry_X86_64.Enum()}, 5))
	check(t, WriteOne(s, StatsDump, &stats.StatsEntry{}))
	writeEntries(t, s, PipesData, []entry{{&pipedata.PipeDataEntry{PipeId: proto.Uint32(1), Bytes: proto.Uint32(2)}, []byte("hi")}})
	for name, want := range map[string]string{
		"inventory.img":  "16313158" + "02000000" + "0802",
		"core-5.img":     "19435654" + "47380555" + "02000000" + "0801",
		"stats-dump":     "40591055" + "06330957" + "00000000",
		"pipes-data.img": "19435654" + "09374556" + "04000000" + "08011002" + "6869",
	} {
		if got := hex.EncodeToString(s[name].b); got != want {
			t.Errorf("%s:\n%s, want\n%s", name, got, want)
		}
	}
}

func TestVersion1HasNoCommonMagic(t *testing.T) {
	s := memory{"core-5.img": &memFile{[]byte("\x47\x38\x05\x55\x02\x00\x00\x00\x08\x01")}}
	m, err := ReadOne[*core.CoreEntry](s, Core, 5)
	check(t, err)
	if m.GetMtype() != core.CoreEntry_X86_64 {
		t.Error(m)
	}
}

func TestGhostFileContent(t *testing.T) {
	head := func(mode uint32, chunks bool) *ghost.GhostFileEntry {
		return &ghost.GhostFileEntry{Uid: proto.Uint32(0), Gid: proto.Uint32(0), Mode: proto.Uint32(mode), Chunks: proto.Bool(chunks)}
	}
	chunk := &ghost.GhostChunkEntry{Len: proto.Uint64(3), Off: proto.Uint64(4096)}
	for name, want := range map[string][]entry{
		"whole":     {{head(0o100644, false), []byte("all of it")}},
		"empty":     {{head(0o100644, false), nil}},
		"chunks":    {{head(0o100644, true), nil}, {chunk, []byte("abc")}, {chunk, []byte("def")}},
		"directory": {{head(0o040755, false), nil}},
	} {
		t.Run(name, func(t *testing.T) {
			s := memory{}
			writeEntries(t, s, GhostFile, want, 0x80000001)
			rd, err := Open(s, GhostFile, 0x80000001)
			check(t, err)
			got, err := readEntries(rd)
			check(t, err)
			sameEntries(t, got, want)
		})
	}
}

func TestIPCShmKeptInThePagemap(t *testing.T) {
	m := fill(&ipcshm.IpcShmEntry{})
	m.Size = proto.Uint64(5)
	if n := IPCShm.Payload(m); n != 0 {
		t.Errorf("payload of %d bytes with in_pagemaps", n)
	}
	m.InPagemaps = nil
	s := memory{}
	writeEntries(t, s, IPCShm, []entry{{m, []byte("12345")}}, 1)
	if n := len(s["ipcns-shm-1.img"].b); n != 8+4+proto.Size(m)+8 {
		t.Errorf("file of %d bytes, payload should be padded to 8", n)
	}
}

func TestPayloadIsSkippedOrReadInPieces(t *testing.T) {
	s := memory{}
	m := &pipedata.PipeDataEntry{PipeId: proto.Uint32(1), Bytes: proto.Uint32(100000)}
	w, err := Create(s, PipesData)
	check(t, err)
	for i := range 4 {
		check(t, w.PutPayloadFrom(m, bytes.NewReader(bytes.Repeat([]byte{byte(i)}, 200000)), 100000))
	}
	check(t, w.Close())
	rd, err := Open(s, PipesData)
	check(t, err)
	var got pipedata.PipeDataEntry
	for i, read := range []int{0, 10, 60000, 100000} {
		check(t, rd.Next(&got))
		r, n := rd.Payload()
		if n != 100000 {
			t.Fatalf("payload of %d bytes", n)
		}
		b := make([]byte, read)
		if _, err := io.ReadFull(r, b); err != nil || bytes.Count(b, []byte{byte(i)}) != read {
			t.Fatalf("%d bytes of payload %d: %v", read, i, err)
		}
		if _, left := rd.Payload(); left != int64(100000-read) {
			t.Fatalf("%d bytes left", left)
		}
	}
	if err := rd.Next(&got); err != io.EOF { //nolint:errorlint // must be EOF itself
		t.Fatal(err)
	}
}
