package file

import (
	"glis.dev/glis/image/proto"
	"glis.dev/glis/image/protowire"
)

// What criu's messages can't say travels in them as fields that criu does not
// know and skips.
const (
	// In RegFileEntry. CRIU wants a file to have the very size it had, so it
	// gets none for files that are only appended to.
	regSize     protowire.Number = 1500 // varint: bytes
	regQueue    protowire.Number = 1501 // varint: a POSIX message queue: see queueOpen
	regNotify   protowire.Number = 1502 // bytes: who asks for signals of changes (F_NOTIFY): each process, descriptor and what for (DN_*), varints
	regPressure protowire.Number = 1503 // bytes: what was written to a file of pressure (PSI)
	regLog      protowire.Number = 1504 // varint: of the kernel's log, the message that comes next

	// In TimerfdEntry. CRIU has what is left, which says nothing about when.
	timerfdDeadline protowire.Number = 1500 // varint: ns on its clock, of TFD_TIMER_ABSTIME only

	// In FifoEntry. A reader that has never had a writer waits for one; one
	// whose writers have gone is told so.
	fifoUnwritten protowire.Number = 1500 // varint: 1

	// In TtyInfoEntry of a master.
	ttyMode   protowire.Number = 1500 // varint: mode of the slave's file, without the type
	ttyHungUp protowire.Number = 1501 // varint: 1: it has had slaves, and has none
	ttyHeld   protowire.Number = 1502 // varint: a ttyFlow

	// In InotifyFileEntry.
	inotifyNext protowire.Number = 1500 // varint: the number of its next watch

	// In PidfdEntry, of a process that was dead.
	pidfdStatus protowire.Number = 1500 // varint: how it ended, see wait(2)

	// In EventpollTfdEntry. CRIU has a number the file has now.
	tfdNumber protowire.Number = 1500 // varint: the number it was added under
	tfdFile   protowire.Number = 1501 // varint: which file it is, of one that the first task has under no number
	epollTask protowire.Number = 1500 // varint, of an epoll file that is only in a message: whose numbers its members have

	// In RemapFilePathEntry of a deleted file. What is behind that is not followed.
	ghostStood protowire.Number = 1500 // varint: how much of its path led to a directory that was no link, in bytes

	// In GhostFileEntry.
	ghostChattr protowire.Number = 1500 // varint: flags of the inode (ioctl_iflags(2))

	// In FileLockEntry, of process 0.
	lockFile protowire.Number = 1500 // varint: which file it is of, one that is only in a message

	// In PipeDataEntry.
	pipeUser    protowire.Number = 1500 // varint: owner of the pipe, as the two below
	pipeGroup   protowire.Number = 1501
	pipeAccess  protowire.Number = 1502 // varint: mode, without the type
	pipePackets protowire.Number = 1503 // bytes: lengths of the packets, each a varint, and of plain data among them, each after a zero
	pipeOutside protowire.Number = 1504 // varint: 1: an end is held outside of the tree
)

// putVarint adds a field of ours.
func putVarint(m proto.Message, n protowire.Number, v uint64) {
	b := protowire.AppendTag(m.Unknown(), n, protowire.VarintType)
	m.SetUnknown(protowire.AppendVarint(b, v))
}

// putBytes adds a field of ours.
func putBytes(m proto.Message, n protowire.Number, v []byte) {
	b := protowire.AppendTag(m.Unknown(), n, protowire.BytesType)
	m.SetUnknown(protowire.AppendBytes(b, v))
}

// extra returns a field that criu does not know: its number if it is one, its
// bytes if it has any. Fields that nobody here knows are of a newer criu.
func extra(m proto.Message, want protowire.Number) (v uint64, b []byte, ok bool) {
	for rest := m.Unknown(); len(rest) > 0; {
		n, typ, size := protowire.ConsumeField(rest)
		if size < 0 {
			return 0, nil, false
		}
		field := rest[protowire.SizeTag(n):size]
		rest = rest[size:]
		if n != want {
			continue
		}
		switch typ {
		case protowire.VarintType:
			v, size = protowire.ConsumeVarint(field)
		case protowire.BytesType:
			b, size = protowire.ConsumeBytes(field)
		}
		ok = size >= 0
	}
	return v, b, ok
}
