# The programs of others that Slipway needs, each built from its Go module at a
# version pinned by a go.mod of its own in this folder, so that the engine's
# go.mod carries none of their dependencies. They are built when they are
# missing, or when the pin or this file has changed.

TOOLBUILD := $(GO) build -buildvcs=false -trimpath

pin = $(wildcard tools/$(1)/go.mod tools/$(1)/go.sum) tools/tools.mk

# Prints the version of a module from a pin: $(call pinned,folder,module).
pinned = $(shell awk '$$1 == "$(2)" { print $$2; exit }' tools/$(1)/go.mod)

# cgo: libseccomp is a C library.
bin/runc: $(call pin,runc)
	cd tools/runc && CGO_ENABLED=1 $(TOOLBUILD) -tags "seccomp urfave_cli_no_docs" \
		-ldflags "-s -w" -o $(BIN)/runc github.com/opencontainers/runc

# Static, stripped and without gRPC: a container's start executes the shim
# twice, and the smaller program starts 5 ms faster each time.
bin/containerd-shim-runc-v2: $(call pin,shim)
	cd tools/shim && CGO_ENABLED=0 $(TOOLBUILD) -tags no_grpc \
		-ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$(call pinned,shim,github.com/containerd/containerd/v2)" \
		-o $(BIN)/containerd-shim-runc-v2 github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2

# The client's module has no go.mod: Go would compile it as Go 1.16 without -lang.
# Its requirements in tools/docker/go.mod are those of its own vendor.mod.
DOCKERBUILD = cd tools/docker && CGO_ENABLED=0 $(TOOLBUILD) -gcflags=github.com/docker/cli/...=-lang=go1.26 \
	-ldflags "-s -w -X github.com/docker/cli/cli/version.Version=$(patsubst v%+incompatible,%,$(call pinned,docker,github.com/docker/cli))" \
	-o $(CURDIR)/$@ github.com/docker/cli/cmd/docker

bin/clients/docker: $(call pin,docker)
	$(DOCKERBUILD)

# A plugin of the client, and a program by itself.
bin/clients/docker-compose: $(call pin,compose)
	cd tools/compose && CGO_ENABLED=0 $(TOOLBUILD) \
		-ldflags "-s -w -X github.com/docker/compose/v2/internal.Version=$(call pinned,compose,github.com/docker/compose/v2)" \
		-o $(BIN)/clients/docker-compose github.com/docker/compose/v2/cmd

# What the tests under Wine drive the engine with.
bin/clients/docker.exe: export GOOS = windows
bin/clients/docker.exe: $(call pin,docker)
	$(DOCKERBUILD)

# The formatters come with the linter: bin/tools/golangci-lint fmt
bin/tools/golangci-lint: $(call pin,golangci)
	cd tools/golangci && CGO_ENABLED=0 $(TOOLBUILD) -ldflags "-s -w" \
		-o $(BIN)/tools/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
