package image

import (
	corex86 "github.com/checkpoint-restore/go-criu/v8/crit/images/core-x86"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/creds"
	core "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-core"
	sa "github.com/checkpoint-restore/go-criu/v8/crit/images/criu-sa"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fown"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/regfile"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/rlimit"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/rseq"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/siginfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/timer"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/vma"
	"google.golang.org/protobuf/proto"
)

// Warm makes the first use of the messages that every checkpoint has cheap:
// the protobuf runtime prepares each type when it meets it, which takes longer
// than the entries of a small process do. Call it on a goroutine of its own
// while there is something else to wait for.
func Warm() {
	for _, m := range []proto.Message{warmCore(), warmFile(), warmMM()} {
		proto.Size(m)
	}
	for _, r := range []*Row{PsTree, Ids, FS, FdInfo, Inventory, Timens, Seccomp, StatsDump} {
		proto.Size(r.New())
	}
}

func warmFile() proto.Message {
	return &fdinfo.FileEntry{Reg: &regfile.RegFileEntry{Fown: &fown.FownEntry{}}}
}

func warmMM() proto.Message { return &mm.MmEntry{Vmas: []*vma.VmaEntry{{}}} }

func warmCore() proto.Message {
	signals := &siginfo.SignalQueueEntry{Signals: []*siginfo.SiginfoEntry{{}}}
	clock := &timer.ItimerEntry{}
	return &core.CoreEntry{
		ThreadInfo: &corex86.ThreadInfoX86{
			Gpregs: &corex86.UserX86RegsEntry{},
			Fpregs: &corex86.UserX86FpregsEntry{Xsave: &corex86.UserX86XsaveEntry{}},
		},
		Tc: &core.TaskCoreEntry{
			Timers:   &timer.TaskTimersEntry{Real: clock, Virt: clock, Prof: clock},
			Rlimits:  &core.TaskRlimitsEntry{Rlimits: []*rlimit.RlimitEntry{{}}},
			SignalsS: signals, Sigactions: []*sa.SaEntry{{}},
		},
		Ids: &core.TaskKobjIdsEntry{},
		ThreadCore: &core.ThreadCoreEntry{
			Sas: &core.ThreadSasEntry{}, SignalsP: signals, Creds: &creds.CredsEntry{}, RseqEntry: &rseq.RseqEntry{},
		},
	}
}
