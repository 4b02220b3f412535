#include "textflag.h"

// glis_start is where Go programs start: there is no Glis on this CPU yet.
TEXT glis_start(SB), NOSPLIT|NOFRAME, $0
	JMP _rt0_arm64_linux(SB)
