package sockdiag

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzParse reads whatever may come as an answer, as one of each family.
func FuzzParse(f *testing.F) {
	a := netip.MustParseAddrPort("10.0.0.1:80")
	for _, b := range [][]byte{
		inetMessage(unix.AF_INET, 10, a, a, 5, 6, 42, attr(inetDiagMD5Sig, md5Key(unix.AF_INET, 24)...), attr(inetDiagShutdown, 1)),
		inetMessage(unix.AF_INET6, 1, a, a, 5, 6, 42, attrWords(inetDiagSKMemInfo, 1, 2, 3, 4, 5, 6, 7, 8, 9)),
		message(1, 1, 42, 5, attrWords(unixDiagPeer, 43), attrWords(unixDiagMemInfo, 1, 2, 3, 4, 5, 6, 7, 8, 9)),
		message(1, 10, 9, 5, attr(unixDiagName, []byte("\x00abc")...), attrWords(unixDiagIcons, 7, 0)),
		append(message(1, 1, 9, 5), 8, 0, 2, 0, 1, 2, 3),
		make([]byte, packetMessageSize),
		append(append([]byte{unix.AF_PACKET}, make([]byte, packetMessageSize-1)...), 48, 0, 1, 0),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var i Inet
		if err := ParseInet(b, &i); err == nil && len(i.Keys)*md5KeySize > len(b) {
			t.Errorf("%d bytes gave %d keys", len(b), len(i.Keys))
		}
		var u Unix
		if err := ParseUnix(b, &u); err == nil && (len(u.Name) > len(b) || 4*len(u.Icons) > len(b)) {
			t.Errorf("%d bytes gave a name of %d and %d icons", len(b), len(u.Name), len(u.Icons))
		}
		var p Packet
		if err := ParsePacket(b, &p); err == nil && b[0] != unix.AF_PACKET {
			t.Error("another family is taken")
		}
	})
}
