# `make run` shows the service at work, `make test` runs its tests, `make help` lists the rest. Nothing but Go is needed.

BUILD := .build
BINARY := $(BUILD)/kyverno-notation-venafi
PLUGINS := $(BUILD)/plugins
# Static and without paths of this machine, as in the image; tests too, so that each package is compiled once for both.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath $(GOFLAGS)
STATIC := go build -buildvcs=false -ldflags '-s -w'

# The manifests are held against those who read them in a module of its own, which keeps those out of ours. Go's cache
# of test results does not see them change, as they are outside of that module.
VALIDATE := config/validate
# So does Kyverno's engine, against which conditions are held.
DIFFERENTIAL := core/condition/differential
# And a collector of OpenTelemetry, which receives the service's traces.
COLLECTOR := shell/tracing/collector
# And Prometheus, which tests the alerts.
MONITORING := config/monitoring/validate
# And the library that reads the description of the HTTP API.
OPENAPI := function/openapi
# And krew, which installs the plugin of kubectl.
KREW := config/krew
# And the driver of a browser, which looks at the console.
BROWSER := function/browser
# And func, whose scaffolding, host builder and runner the function is for.
FUNC := e2e/tools/func
# And what makes releases.
RELEASE := release
RELEASE_DIR := $(BUILD)/release

.PHONY: architecture run help test test-monitoring test-console screenshots race check-format lint worlds simulate simulate-proof fuzz bench bench-admission bench-audit bench-auditor bench-records bench-fleet soak e2e e2e-up e2e-down cluster-up cluster-down e2e-knative e2e-eventing e2e-release build size plugins image-test test-func man krew release release-twice test-release vulncheck clean

run: plugins ## images signed on the spot, a verdict on each, and the server left running
	$(STATIC) -o $(BUILD)/demo ./function/cmd/demo
	$(BUILD)/demo --pluginDir $(PLUGINS) $(ARGS)

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## all tests that need nothing but Go
	go test ./...
	go -C $(VALIDATE) test -count=1 ./...
	go -C $(DIFFERENTIAL) test -count=1 ./...
	go -C $(COLLECTOR) test -count=1 ./...
	go -C $(OPENAPI) test -count=1 ./...
	go -C $(KREW) test -count=1 ./...
	go -C $(FUNC) test -count=1 ./...
	GODEBUG=fuzzseed=1 go run ./adversary/cmd/fuzz --unguided --each 1000x --parallel 1 --executions 1

test-monitoring: ## alerts and dashboard with a real Prometheus, which takes two minutes to build once
	go -C $(MONITORING) vet ./...
	go -C $(MONITORING) test -count=1 ./...

test-console: ## the console's pages in a real Chromium, which Debian has (apt-get install chromium); skipped without one
	go -C $(BROWSER) test -count=1 -v ./...

screenshots: ## the images of the console in function/screenshots
	go -C $(BROWSER) test -count=1 -run Screenshots . -args -screenshots $(CURDIR)/function/screenshots

race: ## the same under the race detector, but for the core, which starts no goroutine; the longest are left to make test
	CGO_ENABLED=1 go test -race -short . ./adversary/... ./function/... ./shell/...

check-format: ## whether all is as gofmt has it, which takes a second
	@unformatted=$$(gofmt -l *.go adversary config core e2e function release shell simulation); test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }

lint: check-format ## formatting, vet and staticcheck
	go vet -tags e2e,e2e_knative,e2e_eventing,e2e_image,e2e_func,e2e_release ./...
	go tool staticcheck -tags e2e,e2e_knative,e2e_eventing,e2e_image,e2e_func,e2e_release ./...
	go -C $(VALIDATE) vet ./...
	go -C $(VALIDATE) tool -modfile=../../go.mod staticcheck ./...
	go -C $(DIFFERENTIAL) vet ./...
	go -C $(DIFFERENTIAL) tool -modfile=../../../go.mod staticcheck ./...
	go -C $(COLLECTOR) vet ./...
	go -C $(COLLECTOR) tool -modfile=../../../go.mod staticcheck ./...
	go -C $(OPENAPI) vet ./...
	go -C $(KREW) vet ./...
	go -C $(BROWSER) vet ./...
	go -C $(FUNC) vet ./...
	go -C $(FUNC) tool -modfile=../../../go.mod staticcheck ./...
	go -C $(RELEASE) vet ./...
	go -C $(RELEASE) tool -modfile=../go.mod staticcheck ./...
	go -C $(OPENAPI) tool -modfile=../../go.mod staticcheck ./...

architecture: ## ARCHITECTURE.md, drawn from what the code imports
	go test ./core -count=1 -run Picture -update

worlds: ## 100,000 generated worlds, in which the service must agree with an independent verifier; ARGS='-worlds N -seed S'
	go test ./adversary -count=1 -timeout 4h -run '^TestWorlds$$' -v -args -worlds 100000 $(ARGS)

# A sequence runs on one processor, so there is a process for each. Stacks that begin large and a heap that is collected seldom
# save a third of the time.
SEQUENCES := 1000000
SIMULATE := GODEBUG=adaptivestackstart=1,asyncpreemptoff=1 go run ./simulation/cmd/simulate

simulate: ## 1,000,000 sequences of a simulated fleet, in which every answer must be justified; SEQUENCES=N, ARGS='-seed S'
	$(SIMULATE) -sequences $(SEQUENCES) $(ARGS)

simulate-proof: ## the service with each of some errors in turn, which the simulation must find; ARGS='-mutation PART'
	GODEBUG=adaptivestackstart=1,asyncpreemptoff=1 go test ./simulation -count=1 -timeout 4h -run '^TestSimulationFindsMutations$$' -v -args -proof $(ARGS)

fuzz: ## every fuzz target for a minute, and 1,000,000 executions in all; ARGS='--each 1m --executions N --run TARGET'
	go run ./adversary/cmd/fuzz $(ARGS)

vulncheck: ## known vulnerabilities; skipped where their data cannot be had
	@.ci/vulncheck

bench: build plugins ## what an admission costs: Go benchmarks, and the service as its callers see it
	go test ./function -run '^$$' -bench . -benchmem
	go run ./function/cmd/load --service $(BINARY) --plugins $(PLUGINS) $(ARGS)

bench-admission: ## what the API server waits, by each way in and beside Kyverno's own verification; ARGS='-ways TLS -profiles DIR' (Linux)
	go test -tags e2e -count=1 -timeout 30m -v ./e2e/cost -args -turns 8 -samples 50 $(ARGS)

bench-audit: ## what an audit of 50,000 pods of 5,000 images in 200 namespaces takes (Linux)
	go test -tags e2e -count=1 -timeout 60m -v ./e2e/scale -args -pods 50000 -images 5000 -namespaces 200 -contents 500 $(ARGS)

bench-auditor: ## a change of trust that affects 50 of 5,000 images that run: what is verified anew, and when all reports say so (Linux)
	go test -tags e2e -count=1 -timeout 60m -v ./e2e/auditor -run TestScale -args -images 4950 -affected 50 $(ARGS)

bench-records: build plugins ## 100,000 decisions recorded under load, in turns with as many that are not: p99, memory, and nothing lost unsaid
	go run ./function/cmd/load --service $(BINARY) --plugins $(PLUGINS) --records 100000

bench-fleet: build plugins ## 20 cold replicas, 10,000 pods, 2,000 images and 100 tenants at once, with and without what replicas share
	go run ./function/cmd/load --service $(BINARY) --plugins $(PLUGINS) --fleet 20 $(ARGS)

soak: build plugins ## ten minutes of mixed load, after which memory, files and goroutines must be as before
	go run ./function/cmd/load --service $(BINARY) --plugins $(PLUGINS) --soak 10m

e2e: ## with a real API server and a real Kyverno, built once into the user's cache (Linux); KYVERNO_VERSION=v1.18.2 for another one
	go test -tags e2e -count=1 -p 3 -timeout 45m ./e2e/rbac ./e2e/... # the longest first, which would be alone in the end

e2e-up: ## the same control plane, left running to play with
	go run ./e2e/cmd/bed up

e2e-down: ## ends it
	go run ./e2e/cmd/bed down

cluster-up: ## a real node with pods, Knative and Traefik (Linux, root); ARGS=--install-packages gets what Debian has
	go run ./e2e/cmd/cluster up $(ARGS)

cluster-down: ## ends it and puts the machine back
	go run ./e2e/cmd/cluster down

e2e-knative: cluster-up ## the service in pods of that node, installed in each way and called by a Kyverno in a pod
	go run ./e2e/cmd/cluster world
	go test -tags e2e_knative -count=1 -timeout 60m -v ./e2e/knative

e2e-eventing: ## a real Knative Eventing sends changes of trust from config/events to two replicas, in a network of its own (Linux)
	go test -tags e2e,e2e_eventing -count=1 -timeout 60m -v ./e2e/eventing

build: ## the service's binary, as the image has it
	$(STATIC) -o $(BINARY) ./function/cmd/kyverno-notation-venafi

# 48 MB is between what the binary has, 41 MB, and the 55 MB that it has as soon as anything in it looks up methods by names that the linker does not know
# (reflect's MethodByName, of which text/template and html/template make use): then no exported method can be left out.
size: build ## fails when the service's binary is larger than 48 MB, as it is when the linker cannot leave out unused methods
	@size=$$(wc -c <$(BINARY)); echo "$$size bytes"; test $$size -le 48000000

plugins: ## the plugin that stands in for venafi-csp
	$(STATIC) -o $(PLUGINS)/venafi-csp/notation-venafi-csp ./shell/plugin/plugintest/standin

e2e-release: ## a release of this commit for this platform, pushed, verified and installed by the words of the documents (Linux)
	go test -tags e2e,e2e_release -count=1 -timeout 60m -v -run TestReleaseDocuments ./e2e/documents

image-test: ## the image, built by buildah and by BuildKit for two platforms and twice each, which must give the same digests (Linux, root)
	go test -tags e2e_image -count=1 -timeout 60m -v ./e2e/image $(ARGS)

krew: ## archives of kubectl knv for all platforms and krew's manifest, in .build/krew; VERSION=v0.1.0
	go -C $(KREW) run . -root $(CURDIR) -out $(CURDIR)/$(BUILD)/krew -version $(VERSION)

man: ## the man pages of the commands, in function/cmd/kyverno-notation-venafi/man
	go test ./function/cmd/kyverno-notation-venafi -count=1 -run TestManPages -update

release: ## image, SBOMs, provenance, chart and manifests of this commit, signed, and verified with check; VERSION=v0.1.0 ARGS='--key FILE --certificates FILE --push'
	rm -rf $(RELEASE_DIR)
	mkdir -p $(BUILD)
	go -C $(RELEASE) build -o $(CURDIR)/$(BUILD)/make-release ./cmd/release
	$(BUILD)/make-release --source . --out $(RELEASE_DIR) $(ARGS)

release-twice: ## two releases for all platforms, with nothing kept between them, which must give the same digests; then whatever is changed must be denied
	go -C $(RELEASE) test -count=1 -timeout 3h -v . -args -platforms linux/amd64,linux/arm64,linux/arm/v7 -cold

test-release: ## the same in short: for this platform alone
	go -C $(RELEASE) test -count=1 ./...

test-func: ## func's own command line from a clean clone: run, invoke, build, deploy, with a real API server (Linux); make test has less of it
	go test -tags e2e,e2e_func -count=1 -timeout 60m -v ./e2e/func $(ARGS)

clean: ## remove what was built here
	rm -rf $(BUILD)
