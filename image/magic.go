package image

// The magics at the start of image files.
const (
	CommonMagic  uint32 = 0x54564319 // before the own magic, since format 1.1
	ServiceMagic uint32 = 0x55105940 // the same in service files: stats, irmap-cache
)

// Versions of the format, as in the inventory's img_version.
const (
	Version1  uint32 = 1 // no common magic
	Version11 uint32 = 2 // with common magic: what criu 4.2 and this package write
)

// The own magic of each sort of file.
const (
	magicInventory   uint32 = 0x58313116
	magicPsTree      uint32 = 0x50273030
	magicFdInfo      uint32 = 0x56213732
	magicPagemap     uint32 = 0x56084025
	magicCore        uint32 = 0x55053847
	magicIds         uint32 = 0x54432030
	magicVMAs        uint32 = 0x54123737
	magicPipes       uint32 = 0x56513555
	magicPipesData   uint32 = 0x56453709
	magicFifo        uint32 = 0x58364939
	magicFifoData    uint32 = 0x59333054
	magicSigActs     uint32 = 0x55344201
	magicUnixSk      uint32 = 0x54373943
	magicInetSk      uint32 = 0x56443851
	magicPacketSk    uint32 = 0x60454618
	magicITimers     uint32 = 0x57464056
	magicPosixTimers uint32 = 0x52603957
	magicSkQueues    uint32 = 0x56264026
	magicUTSNS       uint32 = 0x54473203
	magicCreds       uint32 = 0x54023547
	magicIPCVar      uint32 = 0x53115007
	magicIPCShm      uint32 = 0x46283044
	magicIPCMsg      uint32 = 0x55453737
	magicIPCSem      uint32 = 0x59573019
	magicRegFiles    uint32 = 0x50363636
	magicExtFiles    uint32 = 0x59255641
	magicFS          uint32 = 0x51403912
	magicMM          uint32 = 0x57492820
	magicRemapFile   uint32 = 0x59133954
	magicGhostFile   uint32 = 0x52583605
	magicTCPStream   uint32 = 0x51465506
	magicEventFD     uint32 = 0x44523722
	magicEpoll       uint32 = 0x45023858
	magicEpollTFD    uint32 = 0x44433746
	magicSignalFD    uint32 = 0x57323820
	magicInotify     uint32 = 0x48424431
	magicInotifyWD   uint32 = 0x54562009
	magicMounts      uint32 = 0x55563928
	magicNetDev      uint32 = 0x57373951
	magicNetNS       uint32 = 0x55933752
	magicTTYFiles    uint32 = 0x59433025
	magicTTYInfo     uint32 = 0x59453036
	magicTTYData     uint32 = 0x59413026
	magicFileLocks   uint32 = 0x54323616
	magicRLimit      uint32 = 0x57113925
	magicFanotify    uint32 = 0x55096122
	magicFanMark     uint32 = 0x56506035
	magicSignal      uint32 = 0x59255647
	magicNetlinkSk   uint32 = 0x58005614
	magicNSFiles     uint32 = 0x61394011
	magicTunFile     uint32 = 0x57143751
	magicCgroup      uint32 = 0x59383330
	magicTimerFD     uint32 = 0x50493712
	magicCPUInfo     uint32 = 0x61404013
	magicUserNS      uint32 = 0x55474906
	magicSeccomp     uint32 = 0x64413049
	magicBinfmtMisc  uint32 = 0x67343323
	magicAutofs      uint32 = 0x49353943
	magicFiles       uint32 = 0x56303138
	magicMemfd       uint32 = 0x48453499
	magicTimens      uint32 = 0x43114433
	magicPidNS       uint32 = 0x61157326
	magicBPFMapFile  uint32 = 0x57506142
	magicBPFMapData  uint32 = 0x64324033
	magicAppArmor    uint32 = 0x59423047
	magicPidFD       uint32 = 0x54435556
	magicStats       uint32 = 0x57093306
	magicIrmapCache  uint32 = 0x57004059
)
