package image

import (
	"math"

	bpfdata "glis.dev/glis/image/criu/bpfmap-data"
	ghost "glis.dev/glis/image/criu/ghost-file"
	ipcmsg "glis.dev/glis/image/criu/ipc-msg"
	ipcsem "glis.dev/glis/image/criu/ipc-sem"
	ipcshm "glis.dev/glis/image/criu/ipc-shm"
	pipedata "glis.dev/glis/image/criu/pipe-data"
	skpacket "glis.dev/glis/image/criu/sk-packet"
	tcpstream "glis.dev/glis/image/criu/tcp-stream"
	"glis.dev/glis/image/proto"
)

// The Payload functions of the table. Each is only given messages of its row.

func pipePayload(m proto.Message) int64 {
	return int64(m.(*pipedata.PipeDataEntry).GetBytes())
}

func packetPayload(m proto.Message) int64 {
	return int64(m.(*skpacket.SkPacketEntry).GetLength())
}

// tcpPayload: the receive queue, then the send queue.
func tcpPayload(m proto.Message) int64 {
	e := m.(*tcpstream.TcpStreamEntry)
	return int64(e.GetInqLen()) + int64(e.GetOutqLen())
}

// bpfPayload: all keys, then all values.
func bpfPayload(m proto.Message) int64 {
	e := m.(*bpfdata.BpfmapDataEntry)
	return int64(e.GetKeysBytes()) + int64(e.GetValuesBytes())
}

// semPayload: one u16 for each semaphore of the set.
func semPayload(m proto.Message) int64 {
	return 2 * int64(m.(*ipcsem.IpcSemEntry).GetNsems())
}

// shmPayload: since criu 3.9 the segment is in pagemap-shmem instead.
func shmPayload(m proto.Message) int64 {
	e := m.(*ipcshm.IpcShmEntry)
	if e.GetInPagemaps() {
		return 0
	}
	return length(e.GetSize())
}

func messageCount(m proto.Message) uint64 {
	return uint64(m.(*ipcmsg.IpcMsgEntry).GetQnum())
}

func messagePayload(m proto.Message) int64 {
	if e, ok := m.(*ipcmsg.IpcMsg); ok {
		return int64(e.GetMsize())
	}
	return 0
}

// ghostPayload: a file's content is either all that is left, or comes in
// chunks, each behind an entry of its own. Only regular files have content.
func ghostPayload(m proto.Message) int64 {
	const sIFMT, sIFREG = 0o170000, 0o100000
	switch e := m.(type) {
	case *ghost.GhostChunkEntry:
		return length(e.GetLen())
	case *ghost.GhostFileEntry:
		if e.GetMode()&sIFMT == sIFREG && !e.GetChunks() {
			return RestOfFile
		}
	}
	return 0
}

// length makes a 64 bit length of a file harmless: what does not fit is larger
// than any file, and is refused as such.
func length(n uint64) int64 {
	return int64(min(n, math.MaxInt64))
}
