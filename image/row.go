package image

import (
	"fmt"
	"strconv"
	"strings"

	"glis.dev/glis/image/proto"
)

// RestOfFile is what a [Row.Payload] returns for an entry that is followed by
// raw bytes up to the end of the file.
const RestOfFile int64 = -1

// Row describes one sort of image file. Rows are constants: don't change them.
type Row struct {
	Name    string // short name, unique in Table: "core"
	Pattern string // file name, "core-%d.img"; at most one verb, %d or %x
	Magic   uint32 // own magic; 0 for a raw file, which has no header at all
	Common  uint32 // magic before Magic: CommonMagic, ServiceMagic or 0 for none

	// New makes an empty message of the sort the file's entries are; nil for a
	// raw file.
	New func() proto.Message
	// many returns a New for a file that may have thousands of entries; nil: none has.
	many func() func() proto.Message
	// Head makes the first entry's message where that is of another sort.
	Head func() proto.Message
	// Sub makes the message of the entries that follow one made by New, and
	// Subs says how many there are.
	Sub  func() proto.Message
	Subs func(m proto.Message) uint64

	// Payload gives the number of raw bytes that follow the entry m, without
	// padding, or RestOfFile; nil if no entry has any.
	Payload func(m proto.Message) int64
	// Align is what a payload's length is padded to with zeros; 0 is none.
	Align int64

	Single   bool // exactly one entry
	Critical bool // a checkpoint without this file cannot be restored
	Old      bool // written by criu before 3.0 only; nothing reads it here

	title string // of an image of Glis's own, see Own
}

// Raw tells whether the file has neither header nor entries. Use Store.Open and
// Store.Create for such a file, not Open and Create.
func (r *Row) Raw() bool { return r.Magic == 0 }

// String returns the row's short name.
func (r *Row) String() string { return r.Name }

// FileName returns the name of the file for the given ids: one for a pattern
// with a verb, none otherwise. It panics on any other number of ids, which is a
// mistake in the calling program.
func (r *Row) FileName(ids ...uint32) string {
	if len(ids) != r.idCount() {
		panic(fmt.Sprintf("image: %s takes %d ids, got %d", r.Pattern, r.idCount(), len(ids)))
	}
	if len(ids) == 0 {
		return r.Pattern
	}
	return r.FileName64(uint64(ids[0]))
}

// FileName64 is FileName for ids that may be wider: a pagemap-shmem file is
// named after an inode number.
func (r *Row) FileName64(id uint64) string {
	before, base, after, verb := r.parts()
	if !verb {
		return fmt.Sprintf(r.Pattern, id)
	}
	var digits [64]byte
	return before + string(strconv.AppendUint(digits[:0], id, base)) + after
}

// parts returns what is before the id in a name, in which base it is, and what is behind;
// false: there is none.
func (r *Row) parts() (before string, base int, after string, ok bool) {
	before, after, ok = strings.Cut(r.Pattern, "%")
	if !ok {
		return before, 0, "", false
	}
	if after[0] == 'x' {
		return before, 16, after[1:], true
	}
	return before, 10, after[1:], true
}

func (r *Row) idCount() int { return strings.Count(r.Pattern, "%") }

// match returns the id in fileName if it is of this row.
func (r *Row) match(fileName string) (ids []uint64, ok bool) {
	before, base, after, verb := r.parts()
	if !verb {
		return nil, fileName == r.Pattern
	}
	digits, ok := strings.CutPrefix(fileName, before)
	if !ok {
		return nil, false
	}
	digits, ok = strings.CutSuffix(digits, after)
	if !ok {
		return nil, false
	}
	id, err := strconv.ParseUint(digits, base, 64)
	// The round trip refuses "+1", "007" and "0X1": criu would not open them.
	if err != nil || r.FileName64(id) != fileName {
		return nil, false
	}
	return []uint64{id}, true
}

// RowFor finds the row a file belongs to by its name, and the ids in the name.
func RowFor(fileName string) (r *Row, ids []uint64, ok bool) {
	for _, r := range Table() {
		if ids, ok := r.match(fileName); ok {
			return r, ids, true
		}
	}
	return nil, nil, false
}
