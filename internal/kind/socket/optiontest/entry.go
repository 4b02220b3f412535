package optiontest

import (
	"glis.dev/glis/image/criu/fown"
	"glis.dev/glis/image/criu/sk-opts"
	"glis.dev/glis/image/proto"
)

// Required are the parts that criu's entries of all families must have.
func Required() (*fown.FownEntry, *sk_opts.SkOptsEntry) {
	number, long := proto.Uint32, proto.Uint64
	owner := &fown.FownEntry{Uid: number(0), Euid: number(0), Signum: number(0), PidType: number(0), Pid: number(0)}
	opts := &sk_opts.SkOptsEntry{
		SoSndbuf: number(1), SoRcvbuf: number(1),
		SoSndTmoSec: long(0), SoSndTmoUsec: long(0), SoRcvTmoSec: long(0), SoRcvTmoUsec: long(0),
	}
	return owner, opts
}
