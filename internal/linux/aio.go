package linux

// From fs/aio.c and include/uapi/linux/aio_abi.h; see io_setup(2).
const (
	AIO_RING_MAGIC   = 0xa10a10a1
	IOCB_CMD_PWRITE  = 1
	AIORingHeader    = 32 // bytes of struct aio_ring before its events
	AIOEventSize     = 32 // bytes of struct io_event
	AIORingHead      = 8  // where struct aio_ring has its members: id, nr, head, tail, magic
	AIORingTail      = 12
	AIORingNr        = 4
	AIORingMagic     = 16
	AIOIocbSize      = 64 // bytes of struct iocb
	AIOIocbOpcode    = 16 // where it has its members
	AIOIocbFildes    = 20
	AIOIocbBuf       = 24
	AIOIocbBytes     = 32
	AIOEventsPerCall = 256
)
