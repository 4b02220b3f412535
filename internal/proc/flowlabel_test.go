package proc

import (
	"net/netip"
	"slices"
	"testing"
)

const flowLabelHead = "Label S Owner  Users  Linger Expires  Dst                              Opt\n"

func TestFlowLabels(t *testing.T) {
	got, err := parseFlowLabels([]byte(flowLabelHead +
		"00200 1 0      0      7      -9       00000000000000000000000000000001 8   \n" +
		"5DC62 255 0      1      6      6        20010db8000000000000000000000001 0   \n" +
		"00202 3 -2     2      70     90       00000000000000000000000000000001 0   \n"))
	want := []FlowLabel{
		{0x200, 1, 0, 0, 7, -9, netip.MustParseAddr("::1"), 8},
		{0x5dc62, 255, 0, 1, 6, 6, netip.MustParseAddr("2001:db8::1"), 0},
		{0x202, 3, 0xfffffffe, 2, 70, 90, netip.MustParseAddr("::1"), 0},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"x", "100000 1 0 0 7 9 00000000000000000000000000000001 8", "200 1 0 0 7 9 1 8", "200 1 0 0 7 9 00000000000000000000000000000001"} {
		if _, err := parseFlowLabels([]byte(flowLabelHead + bad + "\n")); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := FlowLabels(); err != nil {
		t.Error(err)
	}
}
