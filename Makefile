# make          builds everything into bin/
# make test     unit and integration tests (root)
# make demo     a database, committed and cloned before your eyes (root)
# make help     lists the rest

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

GO ?= go
BIN := $(CURDIR)/bin

VERSION ?= $(shell git describe --tags --always --dirty --match 'v*' 2>/dev/null || echo 0.0.0-dev)
COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
BUILD_TIME ?= $(shell git log -1 --format=%cI 2>/dev/null || true)
LDFLAGS := -X slipway/internal/version.version=$(VERSION) \
	-X slipway/internal/version.commit=$(COMMIT) \
	-X slipway/internal/version.buildTime=$(BUILD_TIME)

PROGRAMS := ./cmd/slipwayd ./cmd/slipway ./cmd/slipway-logger
# Runs inside containers: always static.
INIT := ./cmd/slipway-init
# The job-object shim exists on Windows alone; the init there does not.
WINDOWS_PROGRAMS := $(PROGRAMS) $(wildcard ./cmd/containerd-shim-slipway-job-v1)
ENGINE_TOOLS := bin/runc bin/containerd-shim-runc-v2

.PHONY: build
build: tools engine windows ## build everything into bin/

include tools/tools.mk

.PHONY: tools
tools: $(ENGINE_TOOLS) bin/clients/docker ## build the pinned programs of others only

.PHONY: engine
engine: ## build Slipway's own programs only
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags "-s -w $(LDFLAGS)" -o $(BIN)/ $(PROGRAMS) $(INIT)

.PHONY: windows
windows: ## build Slipway's own programs for Windows into bin/windows/
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags "-s -w $(LDFLAGS)" -o $(BIN)/windows/ $(WINDOWS_PROGRAMS)

# The daemon looks for its tools beside itself, so they stand there too.
.PHONY: race
race: $(ENGINE_TOOLS) ## build Slipway with the race detector into bin/race/
	mkdir -p $(BIN)/race
	CGO_ENABLED=1 $(GO) build -race -buildvcs=false -trimpath -ldflags "$(LDFLAGS)" -o $(BIN)/race/ $(PROGRAMS)
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags "-s -w" -o $(BIN)/race/ $(INIT)
	ln -sfn $(patsubst bin/%,../%,$(ENGINE_TOOLS)) $(BIN)/race/

.PHONY: setup
setup: ## install what building and testing need (Debian, root)
	@script/setup

# --- checking -----------------------------------------------------------------

SUMMARY := $(GO) run ./tools/testsummary
UNIT = $$($(GO) list ./... | grep -v '^slipway/integration')
INTEGRATION := SLIPWAY_TEST_BIN=$(BIN)/race SLIPWAY_TEST_CLIENTS=$(BIN)/clients CGO_ENABLED=0 $(GO) test -json -count=1 -timeout 20m

.PHONY: test
test: setup build race vet bin/clients/docker.exe bin/clients/docker-compose ## build, vet, unit tests and integration tests (root)
	{ rc=0; \
	  $(GO) test -json -race -count=1 -timeout 10m $(UNIT) || rc=1; \
	  $(INTEGRATION) ./integration/... || rc=1; \
	  script/test-wine || rc=1; \
	  exit $$rc; } | $(SUMMARY)

.PHONY: test-unit
test-unit: ## unit tests only
	$(GO) test -json -race -count=1 -timeout 10m $(UNIT) | $(SUMMARY)

.PHONY: test-integration
test-integration: tools race bin/clients/docker-compose ## integration tests only (root); RUN=regexp chooses
	$(INTEGRATION) $(if $(RUN),-run '$(RUN)') ./integration/... | $(SUMMARY)

.PHONY: test-wine
test-wine: windows bin/clients/docker bin/clients/docker.exe ## tests of the Windows half under Wine (root, Debian); RUN=regexp chooses
	script/test-wine | $(SUMMARY)

.PHONY: soak
soak: setup build race ## the fault tests, ten times
	$(INTEGRATION) -count=10 -timeout 120m -run '^TestFault' ./integration/... | $(SUMMARY)

.PHONY: vet
vet: ## go vet for Linux and Windows
	$(GO) vet ./...
	GOOS=windows $(GO) vet ./...

.PHONY: lint
lint: bin/tools/golangci-lint ## the linter
	bin/tools/golangci-lint run

.PHONY: demo
demo: setup build ## a real database: committed under load, cloned, compared (root)
	script/demo.sh

.PHONY: bench
bench: ## measure against Debian's docker.io on this machine (root); BENCH=options; BENCH_SIZE=10 for the full size
	script/setup bench
	$(MAKE) build
	$(GO) build -buildvcs=false -o $(BIN)/slipway-bench ./script/bench
	$(BIN)/slipway-bench --bin $(BIN)

.PHONY: test-vm
test-vm: ## what this kernel cannot show, in a small virtual machine
	script/setup vm
	$(MAKE) build
	script/test-vm

# --- installing ---------------------------------------------------------------

PREFIX ?= /usr/local
DESTDIR ?=
UNITDIR ?= /etc/systemd/system
LIBEXEC := $(PREFIX)/lib/slipway
DAEMON_FILES := slipwayd slipway-logger slipway-init runc containerd-shim-runc-v2

# The daemon's tools stand beside it, away from PATH: another engine on the
# machine keeps its own runc.
.PHONY: install
install: ## install into PREFIX (/usr/local) with a systemd unit, after make build
	@for f in $(DAEMON_FILES) slipway; do [[ -x bin/$$f ]] || { echo "bin/$$f is missing: run make build first" >&2; exit 1; }; done
	install -d $(DESTDIR)$(LIBEXEC) $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(UNITDIR)
	install -m 755 $(addprefix bin/,$(DAEMON_FILES)) $(DESTDIR)$(LIBEXEC)/
	install -m 755 bin/slipway $(DESTDIR)$(PREFIX)/bin/slipway
	ln -sfn $(LIBEXEC)/slipwayd $(DESTDIR)$(PREFIX)/bin/slipwayd
	sed 's|@LIBEXEC@|$(LIBEXEC)|g' packaging/systemd/slipway.service >$(DESTDIR)$(UNITDIR)/slipway.service
	install -m 644 packaging/systemd/slipway.socket $(DESTDIR)$(UNITDIR)/slipway.socket
	chmod 644 $(DESTDIR)$(UNITDIR)/slipway.service
ifeq ($(DESTDIR),)
	getent group slipway >/dev/null || groupadd --system slipway
	if [[ -d /run/systemd/system ]]; then systemctl daemon-reload; fi
	@echo "installed; start it with: systemctl enable --now slipway.socket slipway.service"
endif

.PHONY: uninstall
uninstall: ## remove what install installed; containers, images and volumes stay
ifeq ($(DESTDIR),)
	if [[ -d /run/systemd/system ]]; then systemctl disable --now slipway.socket slipway.service 2>/dev/null || true; fi
endif
	rm -f $(addprefix $(DESTDIR)$(LIBEXEC)/,$(DAEMON_FILES)) $(DESTDIR)$(PREFIX)/bin/slipway $(DESTDIR)$(PREFIX)/bin/slipwayd
	rm -f $(DESTDIR)$(UNITDIR)/slipway.service $(DESTDIR)$(UNITDIR)/slipway.socket
	rmdir $(DESTDIR)$(LIBEXEC) 2>/dev/null || true
ifeq ($(DESTDIR),)
	if [[ -d /run/systemd/system ]]; then systemctl daemon-reload; fi
endif

.PHONY: clean
clean: ## remove everything that was built
	rm -rf $(BIN)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
