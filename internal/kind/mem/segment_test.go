package mem

import (
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"glis.dev/glis/image"
	ipcdesc "glis.dev/glis/image/criu/ipc-desc"
	ipcshm "glis.dev/glis/image/criu/ipc-shm"
	"glis.dev/glis/image/proto"
	"glis.dev/glis/internal/linux"
	"glis.dev/glis/internal/pages"
	"glis.dev/glis/internal/plan"
)

type shmSource []*ipcshm.IpcShmEntry

func (s shmSource) Entries(*image.Row, ...uint32) ([]plan.Entry, error) {
	var out []plan.Entry
	for _, e := range s {
		out = append(out, plan.Entry{Message: e})
	}
	return out, nil
}

func shmEntry(id uint32, size uint64) *ipcshm.IpcShmEntry {
	return &ipcshm.IpcShmEntry{
		Desc: &ipcdesc.IpcDescEntry{Id: proto.Uint32(id), Key: proto.Uint32(0), Uid: proto.Uint32(0), Gid: proto.Uint32(0), Cuid: proto.Uint32(0), Cgid: proto.Uint32(0), Mode: proto.Uint32(0o600)},
		Size: proto.Uint64(size), InPagemaps: proto.Bool(true),
	}
}

func attachment(id uint32, start, end, offset uint64) area {
	return area{Span: pages.Span{Start: start, End: end}, offset: offset, segment: id, status: statusRegular | statusAnonShared | statusSysVIPC, access: unix.O_RDWR}
}

// TestPlanSegments refuses images that make no sense before anything is made.
func TestPlanSegments(t *testing.T) {
	whole := []area{attachment(0, 0x10000, 0x12000, 0), attachment(0, 0x12000, 0x14000, 0x2000), attachment(0, 0x14000, 0x18000, 0)}
	huge := shmEntry(0, 0x4000)
	huge.HugetlbFlag = proto.Uint32(linux.SHM_HUGETLB | 21<<unix.MAP_HUGE_SHIFT)
	nosize := shmEntry(0, 0x4000)
	nosize.HugetlbFlag = proto.Uint32(linux.SHM_HUGETLB | 22<<unix.MAP_HUGE_SHIFT)
	raw := shmEntry(0, 0x4000)
	raw.InPagemaps = nil
	mode := shmEntry(0, 0x4000)
	mode.Desc.Mode = proto.Uint32(1 << 20)
	for _, c := range []struct {
		name  string
		src   shmSource
		areas []area
		err   string
	}{
		{"none", nil, []area{{status: statusRegular | statusAnonPrivate}}, ""},
		{"whole, twice", shmSource{shmEntry(0, 0x3f01)}, whole, ""},
		{"missing", shmSource{shmEntry(1, 0x4000)}, whole, "0 is missing"},
		{"no image", nil, whole, "0 is missing"},
		{"twice", shmSource{shmEntry(0, 1), shmEntry(0, 1)}, whole, "twice"},
		{"larger", shmSource{shmEntry(0, 0x4001)}, whole, "only a part"},
		{"smaller", shmSource{shmEntry(0, 0x2000)}, whole, "only a part"},
		{"from the middle", shmSource{shmEntry(0, 0x4000)}, whole[1:], "only a part"},
		{"empty", shmSource{shmEntry(0, 0)}, whole, "can't be"},
		{"vast", shmSource{shmEntry(0, 1<<63)}, whole, "can't be"},
		{"id", shmSource{shmEntry(1<<31, 1)}, whole, "can't be"},
		{"huge", shmSource{huge}, []area{attachment(0, 0x200000, 0x400000, 0)}, ""},
		{"huge, a part", shmSource{huge}, whole, "only a part"},
		{"huge of no size", shmSource{nosize}, whole, "no size that can be"},
		{"raw", shmSource{raw}, whole, "before 3.9"},
		{"mode", shmSource{mode}, whole, "mode"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := PlanSegments(c.src, 3, []*Space{{areas: c.areas}})
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}

// TestRowsStayWhole: a child that has only a part of an attachment as its
// parent has it attaches all of it anew.
func TestRowsStayWhole(t *testing.T) {
	src := shmSource{shmEntry(7, 0x4000)}
	parent := &Space{areas: []area{attachment(7, 0x10000, 0x14000, 0)}}
	child := &Space{areas: []area{attachment(7, 0x10000, 0x12000, 0), attachment(7, 0x12000, 0x14000, 0x2000)}}
	child.areas[1].name = "renamed"
	if _, err := PlanSegments(src, 3, []*Space{parent, child}); err != nil {
		t.Fatal(err)
	}
	child.link(parent)
	for i := range child.areas {
		if child.areas[i].from != nil {
			t.Errorf("%v is inherited", &child.areas[i])
		}
	}
	child.areas[1].name = ""
	child.link(parent)
	if child.areas[0].from == nil || child.areas[1].from == nil {
		t.Error("what the parent has is attached anew")
	}
}

// checkSegment plans whatever decodes as a segment that is attached where the
// other bytes say: beginning, end, offset.
func checkSegment(t *testing.T, b, where []byte) {
	t.Helper()
	e := &ipcshm.IpcShmEntry{}
	if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(b, e) != nil {
		return
	}
	var at [3]uint64
	for i := range at {
		if len(where) >= 8*i+8 {
			at[i] = binary.LittleEndian.Uint64(where[8*i:])
		}
	}
	start, end, offset := at[0], at[1], at[2]
	if start >= end {
		return
	}
	areas := []area{attachment(e.GetDesc().GetId(), start, end, offset)}
	if _, err := PlanSegments(shmSource{e}, 3, []*Space{{areas: areas}}); err == nil && e.GetSize() > end-start {
		t.Errorf("a segment of %#x bytes is attached from %#x to %#x", e.GetSize(), start, end)
	}
}
