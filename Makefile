# The two commands: `make run` shows the service at work, `make test` runs its tests. Nothing but Go is needed.

BUILD := .build
BINARY := $(BUILD)/kyverno-notation-venafi
PLUGINS := $(BUILD)/plugins
# Packages under testdata are not part of ./..., so they are named.
PACKAGES := ./... ./testdata/attestations/... ./testdata/registry/... ./testdata/scenario/... ./testdata/signing/... ./testdata/standin/...

.PHONY: run test race lint bench build plugins vulncheck clean

run: build plugins ## images signed on the spot, a verdict on each, and the server left running
	$(BINARY) demo --pluginDir $(PLUGINS) $(ARGS)

test: ## all tests
	go test $(PACKAGES)

race: ## all tests under the race detector
	go test -race $(PACKAGES)

lint: ## formatting, vet and staticcheck
	@unformatted=$$(gofmt -l core shell function testdata *.go); test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	go vet $(PACKAGES)
	go tool staticcheck $(PACKAGES)

vulncheck: ## known vulnerabilities; skipped where their data cannot be had
	@.ci/vulncheck

bench: ## benchmarks, with counts of registry requests and plugin processes
	go test ./function -run '^$$' -bench . -benchmem

build:
	go build -o $(BINARY) ./function/cmd/kyverno-notation-venafi

plugins:
	CGO_ENABLED=0 go build -o $(PLUGINS)/venafi-csp/notation-venafi-csp ./testdata/standin

clean:
	rm -rf $(BUILD)
