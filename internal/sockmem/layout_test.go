package sockmem

import (
	"errors"
	"os"
	"testing"

	"glis.dev/glis/internal/bpf"
	"glis.dev/glis/internal/bpf/bpftest"
)

const names = "\x00socket\x00sk\x00unix_sock\x00file\x00bpf_iter_task_file\x00sock\x00sk_receive_queue\x00sk_buff_head\x00qlen\x00sk_reuseport_cb\x00sock_reuseport\x00prog\x00sk_peer_pid\x00sk_peer_cred\x00sk_err\x00sk_shutdown\x00"

// whole has everything that is asked for: names at 1, 8, 11, 21, 26, 45, 50,
// 67, 80, 85, 101, 116, 121,
// 133, 146, 153.
func whole() []uint32 {
	return []uint32{
		1, bpf.KindStruct<<24 | 1, 128, 8, 0, 24 * 8, // struct socket { sk at 24 }
		11, bpf.KindStruct << 24, 1088,
		21, bpf.KindStruct << 24, 184,
		26, bpf.KindFunc << 24, 9,
		// struct sock { sk_receive_queue at 192, sk_reuseport_cb at 700, sk_peer_pid at 600, sk_peer_cred at 608, sk_err at 616, sk_shutdown at 620 }
		45, bpf.KindStruct<<24 | 6, 776, 50, 0, 192 * 8, 85, 0, 700 * 8, 121, 0, 600 * 8, 133, 0, 608 * 8, 146, 0, 616 * 8, 153, 0, 620 * 8,
		67, bpf.KindStruct<<24 | 1, 24, 80, 0, 16 * 8, // struct sk_buff_head { qlen at 16 }
		101, bpf.KindStruct<<24 | 1, 48, 116, 0, 24 * 8, // struct sock_reuseport { prog at 24 }
	}
}

func TestLayout(t *testing.T) {
	x, err := bpf.Parse(bpftest.File(whole(), names))
	if err != nil {
		t.Fatal(err)
	}
	l, err := findLayout(x)
	if err != nil {
		t.Fatal(err)
	}
	if want := (layout{function: 4, sk: 24, sock: 1088, file: 184, queue: 192, length: 16, peer: [2]int{600, 608}, err: 616, shutdown: 620, group: 700, program: 24}); *l != want {
		t.Errorf("%+v, want %+v", *l, want)
	}
}

func TestLayoutBad(t *testing.T) {
	huge := whole()
	huge[8] = 1 << 30
	outside := whole()
	outside[20] = 1080 * 8
	tests := []struct {
		name string
		in   []byte
	}{
		{"empty", nil},
		{"no magic", make([]byte, 64)},
		{"cut", bpftest.File(whole(), names)[:60]},
		{"cut type", bpftest.File(whole()[:4], names)},
		{"unknown kind", bpftest.File(append([]uint32{0, 31 << 24, 0}, whole()...), names)},
		{"nothing asked for", bpftest.File([]uint32{11, bpf.KindStruct << 24, 1088}, names)},
		{"no sk", bpftest.File(append([]uint32{1, bpf.KindStruct << 24, 128}, whole()[6:]...), names)},
		{"huge", bpftest.File(huge, names)},
		{"queue outside", bpftest.File(outside, names)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, err := bpf.Parse(tt.in)
			if err == nil {
				_, err = findLayout(x)
			}
			if !errors.Is(err, bpf.ErrBTF) && !errors.Is(err, ErrUnavailable) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestLayoutLive(t *testing.T) {
	if _, err := os.Stat(bpf.File); err != nil {
		t.Skip(err)
	}
	l, err := kernelLayout()
	if err != nil {
		t.Fatal(err)
	}
	if l.sock < 512 || l.file < 100 {
		t.Errorf("%+v", *l)
	}
}

func FuzzLayout(f *testing.F) {
	f.Add(bpftest.File(whole(), names))
	f.Add(bpftest.File(whole()[:7], names))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := bpf.Parse(b)
		if err != nil {
			return
		}
		l, err := findLayout(x)
		if err == nil && (l.sock > maxStruct || l.file > maxStruct || l.sk > maxStruct) {
			t.Errorf("%+v", *l)
		}
	})
}
