# Every target works on a fresh machine with Go; it installs or builds whatever else it needs.

GOLANGCI_VERSION := v2.15.0
GOFUMPT_VERSION  := v0.12.0
GORELEASER_VERSION  := v2.15.1
CYCLONEDX_VERSION   := v1.10.0
COSIGN_VERSION      := v3.1.3
GOVULNCHECK_VERSION := v1.9.0
TOOLS            := $(CURDIR)/.tools
VERSION          ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Without gRPC's traces, and without the formats of yq that no expression reaches.
TAGS             := grpcnotrace yq_nolua yq_nohcl yq_notoml yq_noini yq_noshell
LDFLAGS          := -s -w -X github.com/talosmate/talosmate/internal/app.version=$(VERSION)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build talosmate and the lab into bin/
	CGO_ENABLED=0 go build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o bin/talosmate ./cmd/talosmate
	go build -C lab -trimpath -o ../bin/talosmate-lab ./cmd/talosmate-lab

.PHONY: demo
demo: build ## Start the lab and run the main jobs on it
	bash hack/demo.sh

.PHONY: deps
deps: ## Install what the tests need in addition to Go (podman, jq, chromium, zsh, fish)
	bash hack/deps.sh

.PHONY: test
# The race detector's runtime otherwise sleeps a second at the exit of every program.
test: export GORACE = atexit_sleep_ms=20
test: deps kube ## All tests: units with the race detector, scenarios against the lab, real Kubernetes
	bash hack/timed.sh 'unit tests and scenarios' go test -race -parallel 4 -timeout 50m ./...
	bash hack/timed.sh 'lab tests' go test -C lab -race -timeout 20m ./...
	bash hack/timed.sh 'kubernetes bed tests' go test -C lab/kube -race -timeout 10m ./...

.PHONY: test-short
test-short: ## Unit tests only
	go test -race ./internal/... ./commands/...

.PHONY: chaos
chaos: kube ## Run 2000 seeds of commands over a bad network (TALOSMATE_CHAOS_SEEDS, _TIME; _SEED runs one again)
	TALOSMATE_CHAOS_SEEDS=$${TALOSMATE_CHAOS_SEEDS:-2000} TALOSMATE_CHAOS_TIME=$${TALOSMATE_CHAOS_TIME:-3h} \
		go test ./test -run 'TestChaos$$' -count=1 -v -timeout 4h

.PHONY: stress
stress: deps kube ## Run each scenario 20 times on a busy machine (STRESS_COUNT, STRESS_LOAD, STRESS_JOBS, STRESS_RUN=regexp)
	bash hack/stress.sh

.PHONY: kube
kube: ## Build the real Kubernetes control plane for the tests (cached)
	@bash hack/timed.sh 'kubernetes bed' go run -C lab/kube ./build

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Run the linters
	$(TOOLS)/golangci-lint run ./...
	cd lab && $(TOOLS)/golangci-lint run --config ../.golangci.yml ./...

$(TOOLS)/golangci-lint: Makefile
	GOBIN=$(TOOLS) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@touch $@

.PHONY: generate
generate: ## Write docs/cli, docs/schemas, docs/fields.txt and completions/ from the command tree
	go run ./internal/docgen

.PHONY: man
man: ## Write the man pages into dist/man (dated by SOURCE_DATE_EPOCH)
	go run ./internal/docgen man dist/man

.PHONY: screenshots
screenshots: ## Take the pictures of docs/screenshots again
	TALOSMATE_WRITE_SCREENSHOTS=1 go test ./test -run TestScreenshots

.PHONY: agent-tasks
agent-tasks: ## Do twelve tasks as an agent would that knows only --help, and count what it reads
	go test ./test -run TestAgentTasks -count=1 -v

.PHONY: check
check: ## What CI runs in addition to the tests: generated files, vet, module files, linters
	bash hack/timed.sh 'generated files' bash hack/check-generated.sh
	bash hack/timed.sh 'go vet' go vet ./...
	bash hack/timed.sh 'module files' bash hack/tidy.sh -diff
	bash hack/timed.sh 'linters' $(MAKE) --no-print-directory lint

.PHONY: tidy
tidy: ## Tidy go.mod and go.sum, with the versions of the workspace
	bash hack/tidy.sh

.PHONY: bench
bench: build ## Measure beside the talosctl that TALOSCTL names, and write docs/benchmarks.md; fails above the limits
	bash hack/bench.sh

.PHONY: load
load: build ## 500 simulated nodes, 20 command lines at once for LOAD_TIME (1m): no error, bounded memory, sockets closed
	bash hack/load.sh

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZ_TIME (30s)
	bash hack/fuzz.sh

.PHONY: snapshot
snapshot: $(TOOLS)/goreleaser $(TOOLS)/cyclonedx-gomod ## Build a release into dist/, twice, compare the checksums, and install each package
	bash hack/snapshot.sh

.PHONY: release
release: $(TOOLS)/goreleaser $(TOOLS)/cyclonedx-gomod $(TOOLS)/cosign ## Publish the release of the tag that is checked out (the release workflow runs it)
	PATH="$(TOOLS):$$PATH" goreleaser release --clean

.PHONY: vulnerabilities
vulnerabilities: $(TOOLS)/govulncheck ## Look for known vulnerabilities in what is called (reads vuln.go.dev)
	$(TOOLS)/govulncheck -tags '$(TAGS)' ./...

$(TOOLS)/goreleaser: Makefile
	GOBIN=$(TOOLS) go install -ldflags '-s -w' github.com/goreleaser/goreleaser/v2@$(GORELEASER_VERSION)
	@touch $@

$(TOOLS)/cyclonedx-gomod: Makefile
	GOBIN=$(TOOLS) go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_VERSION)
	@touch $@

$(TOOLS)/cosign: Makefile
	GOBIN=$(TOOLS) go install github.com/sigstore/cosign/v3/cmd/cosign@$(COSIGN_VERSION)
	@touch $@

$(TOOLS)/govulncheck: Makefile
	GOBIN=$(TOOLS) go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
	@touch $@

.PHONY: clean
clean: ## Remove build results
	rm -rf bin dist .tools coverage.out
