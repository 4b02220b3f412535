# make            build bin/glis, one static binary
# sudo make test  vet, format and all tests; they save and restore processes
# sudo make demo  see it work, in ten seconds
# make fuzz       every parser, with FUZZTIME of inputs
# make torture    every system call of a dump and of a restore fails once, with
#                 each of some errors; TORTURE=1-200 for the first 200 only,
#                 TORTURE=1-100000:EIO,EINTR for these errors only
GO ?= go
BIN ?= bin
# A number of inputs (20000x) or a time (1m).
FUZZTIME ?= 20000x
TORTURE ?= 1-100000
# Without processes of their own: what the race detector can watch.
RACE = ./options ./image/... ./internal/arch ./internal/cli ./internal/inspect ./internal/pages ./internal/par ./internal/plan ./internal/proc ./internal/sockdiag ./internal/undo

.PHONY: all demo build test root vet fmt race fuzz torture bench clean FORCE

all: build

build: $(BIN)/glis

# Go's linker writes a file page by page. One that was written at once is kept in large
# pieces (folios) by file systems that can, and half a millisecond less of each run,
# 6 without, goes into finding its pages and letting go of them.
$(BIN)/glis: FORCE
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags=-E=glis_start -o $(BIN)/linked/glis ./cmd/glis
	@cmp -s $(BIN)/linked/glis $@ || { \
	  dd if=$(BIN)/linked/glis of=$@.new bs=64M status=none && chmod 755 $@.new && mv -f $@.new $@; }

FORCE:

demo: build
	@$(BIN)/glis demo || { test "$$(id -u)" = 0 || echo 'make demo needs root: sudo env PATH="$$PATH" make demo' >&2; exit 1; }

# Tests of several packages share the machine's PIDs, sessions and memory
# figures: one package at a time. No result of an earlier run: what is tested
# is a binary that Go does not know to be part of it.
test: root vet fmt build race
	$(GO) test -count=1 -p 1 -timeout 20m $(TESTFLAGS) ./...

root:
	@test "$$(id -u)" = 0 || { echo 'make test needs root, since it saves and restores processes: sudo env PATH="$$PATH" make test' >&2; exit 1; }

vet:
	$(GO) vet ./...

fmt:
	@bad=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); \
	test -z "$$bad" || { echo "gofmt -w $$bad" >&2; exit 1; }

race:
	$(GO) test -race -short $(TESTFLAGS) $(RACE)

fuzz:
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz'); do \
	    echo "$$p $$f"; \
	    $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s $$p || exit 1; \
	  done; \
	done

# It takes hours.
torture: root
	GLIS_TORTURE=$(TORTURE) $(GO) test -count=1 -timeout 24h -run TestTorture -v ./test

# Parts have benchmarks; a whole dump and restore tells its own times.
bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...
	@echo 'glis dump -t PID -D DIR --leave-running --display-stats tells the times of a dump'

clean:
	rm -rf $(BIN)
