package tcp

import (
	"testing"

	"glis.dev/glis/internal/sockmem"
)

// A time stamp of Linux 6.1 is not taken for one of µs by a later one.
func TestStampOf(t *testing.T) {
	for _, x := range []struct{ stamp, options, want uint32 }{
		{1000, optTimestamps, 1000}, {1001, optTimestamps, 1002}, {1<<32 - 1, optTimestamps, 0}, {1001, optTimestamps | optUsecStamps, 1001},
	} {
		if got := stampOf(x.stamp, x.options); got != x.want {
			t.Errorf("%d with options %#x: %d, want %d", x.stamp, x.options, got, x.want)
		}
	}
}

// No time stamp is earlier than what a segment may have had, and none says that stamps count µs.
func TestStampIsNotEarlier(t *testing.T) {
	for _, clock := range []uint32{1000, 1001, 1<<32 - 1} {
		for _, offset := range []uint32{0, 1, 7} {
			var p sockmem.Picture
			p.Word[sockmem.TstampOK], p.Word[sockmem.Tsoffset] = 1, offset
			got := FromPicture(&p, clock, nil).Entry.GetTimestamp()
			if later := got - (clock + offset); later > 1 || got&usecStamps != 0 {
				t.Errorf("clock %d, offset %d: time stamp %d", clock, offset, got)
			}
		}
	}
}
