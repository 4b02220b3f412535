package test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"glis.dev/glis/internal/testkit"
)

// nft is a message to nf_tables, with struct nfgenmsg before its attributes.
func nft(kind netlink.HeaderType, flags netlink.HeaderFlags, family byte, attrs []byte) netlink.Message {
	return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: append([]byte{family, 0, 0, 0}, attrs...)}
}

// flush removes the tables that hold packets back, as somebody's "flush ruleset" does
// with all, in one transaction; it returns how many.
func flush(t *testing.T) int {
	t.Helper()
	const tables = unix.NFNL_SUBSYS_NFTABLES << 8
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	found, err := c.Execute(nft(tables|unix.NFT_MSG_GETTABLE, netlink.Dump, unix.NFPROTO_UNSPEC, nil))
	if err != nil {
		t.Fatal(err)
	}
	var out []netlink.Message
	for _, m := range found {
		d, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			t.Fatal(err)
		}
		for d.Next() {
			if d.Type() != unix.NFTA_TABLE_NAME || !strings.HasPrefix(d.String(), "CRIU-") {
				continue
			}
			name, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(d.String()), 0)}})
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, nft(tables|unix.NFT_MSG_DELTABLE, netlink.Acknowledge, m.Data[0], name))
		}
	}
	subsystem := func(kind netlink.HeaderType) netlink.Message {
		m := nft(kind, 0, unix.NFPROTO_UNSPEC, nil)
		binary.BigEndian.PutUint16(m.Data[2:], unix.NFNL_SUBSYS_NFTABLES)
		return m
	}
	all := append([]netlink.Message{subsystem(unix.NFNL_MSG_BATCH_BEGIN)}, out...)
	if _, err := c.SendMessages(append(all, subsystem(unix.NFNL_MSG_BATCH_END))); err != nil {
		t.Fatal(err)
	}
	for range out {
		if _, err := c.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	return len(out)
}

// quiet has a connection acknowledge at once what came, which it would do some 40 ms later:
// when nobody is there, and nothing holds it back.
func quiet(t *testing.T, conn net.Conn) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(n uintptr) { failed = unix.SetsockoptInt(int(n), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
}

// Somebody flushes the ruleset while a tree is away: its lock is gone, which harms
// nobody who says nothing meanwhile, and the restore does not need it. One that was
// set again by "glis lock" is gone after the restore, too, and "glis unlock" finds
// nothing and is content.
func TestFlushedRules(t *testing.T) {
	e := glisOnly(t)
	testkit.NoLeaks(t)
	p := testkit.Start(t, testkit.NewDir(t), testkit.BuildC(t, "targets/echo.c"))
	port := p.Told(t, "port")
	conn, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	talk := func(text string) {
		t.Helper()
		got := make([]byte, len(text))
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != text {
			t.Fatalf("%q came back as %q: %v", text, got, err)
		}
		quiet(t, conn)
	}
	flush(t) // what dumps of other tests have left that nobody restored
	before := tables(t)
	for _, again := range []bool{false, true} {
		talk("good night")
		img := testkit.NewDir(t)
		e.Save(t, p.PID, img, established...)
		if n := flush(t); n != 1 || tables(t) != before {
			t.Fatalf("%d tables were flushed; there are %d, %d before", n, tables(t), before)
		}
		if again {
			if r := e.Run(t, "lock", img); r.Code != 0 || tables(t) != before+1 {
				t.Errorf("lock: exit status %d, %d tables, %d before: %s", r.Code, tables(t), before, r.Stderr)
			}
		}
		e.Restore(t, img, established...)
		talk("good morning")
		if r := e.Run(t, "unlock", img); r.Code != 0 || tables(t) != before {
			t.Errorf("unlock: exit status %d, %d tables, %d before: %s", r.Code, tables(t), before, r.Stderr)
		}
	}
}
