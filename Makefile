# Every target does its own set-up. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Tools of this tree, apart from the user's own.
TOOLS := $(CURDIR)/target/tools
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(TOOLS)/bin/cargo-deny
CARGO_AUDITABLE_VERSION := 0.7.7
CARGO_AUDITABLE := $(TOOLS)/bin/cargo-auditable
AUDITABLE2CDX_VERSION := 0.1.0
AUDITABLE2CDX := $(TOOLS)/bin/auditable2cdx
ACTIONLINT_VERSION := 1.7.12
ACTIONLINT := $(TOOLS)/bin/actionlint
# Of Python, as .ci/lint/requirements.txt pins them.
LINTERS := $(TOOLS)/linters
CARGO_FUZZ_VERSION := 0.13.1
CARGO_FUZZ := $(TOOLS)/bin/cargo-fuzz
HELM := tests/kubernetes/bin/helm
HELM_DOCS := tests/kubernetes/bin/helm-docs

# For `make fuzz`: how long each fuzzer runs, and which ones do.
FUZZ_SECONDS ?= 600
FUZZERS ?= $(patsubst fuzz/fuzz_targets/%.rs,%,$(wildcard fuzz/fuzz_targets/*.rs))

# For `make scale`: nodes, profiles, how long nothing happens, in seconds, and how it is built (what is counted is the
# same with `dev`, for which there is little to build after `make test`).
N ?= 1000
P ?= 200
IDLE ?= 600
SCALE_PROFILE ?= bench

# For `make image`: amd64 or arm64.
IMAGE_ARCH ?= $(shell dpkg --print-architecture)
# What it needs to compile for the other one.
CROSS_arm64 := gcc-aarch64-linux-gnu libc6-dev-arm64-cross
CROSS_amd64 := gcc-x86-64-linux-gnu libc6-dev-amd64-cross

# For `make chaos`: the seed of an earlier run, and other sizes (`make chaos CHAOS=--help`).
SEED ?=
CHAOS ?=

# Builds as the user that calls, and runs what it built as root.
AS_ROOT := cargo --config 'target."cfg(unix)".runner="$(CURDIR)/tests/as-root"'

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: packages kubernetes $(if $(filter 0,$(shell id -u)),helm nodes) ## Show the main job on a local Kubernetes, step by step; as root with a node
	@echo "Building callgate and the demo"
	cargo build --locked --bin callgate --example demo
	cargo run --locked --quiet --example demo

.PHONY: test
test: root packages kubernetes helm promtool nodes ## Run every test, on a real kube-apiserver and real container runtimes
	$(AS_ROOT) test --locked --workspace

# All that asks an API server for more than to keep objects.
.PHONY: oldest
oldest: root packages helm promtool ## Test on the API server of the oldest Kubernetes that Callgate is for
	@tests/kubernetes/build oldest
	KUBEBUILDER_ASSETS=$(CURDIR)/tests/kubernetes/bin/oldest $(AS_ROOT) test --locked --test agent --test api_policies \
	  --test api_schema --test chart --test controller --test daemons --test metrics --test rights

.PHONY: soak
soak: root packages kubernetes helm nodes ## Test nodes through ten minutes without an API server
	CALLGATE_SOAK=1 $(AS_ROOT) test --locked --test nodes -- --nocapture control_plane

.PHONY: cluster
cluster: root packages kubernetes helm nodes ## Start two real nodes with Callgate on them, until Ctrl-C (needs root)
	cargo build --locked --example cluster
	@tests/as-root target/debug/examples/cluster

.PHONY: lint
lint: packages helm chart-tools $(CARGO_DENY) $(ACTIONLINT) $(LINTERS) ## Check format, lints, docs, dependencies, scripts, workflows and the chart
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo metadata --locked --manifest-path fuzz/Cargo.toml --format-version 1 >/dev/null
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	$(CARGO_DENY) --locked check bans licenses sources
	shellcheck --external-sources .ci/run deploy/image/build deploy/image/root tests/as-root tests/packages tests/kubernetes/build \
	  tests/kubernetes/workload/build tests/harness/src/nodes/machine.sh tests/harness/src/nodes/power_off.sh \
	  tests/runtimes/build tests/chart/lint kind/up kind/test kind/down
	$(ACTIONLINT)
	$(LINTERS)/bin/hadolint --config .ci/lint/hadolint.yaml deploy/Dockerfile
	$(LINTERS)/bin/yamllint --strict --config-file .ci/lint/yamllint.yaml .
	tests/chart/lint

.PHONY: audit
audit: $(CARGO_DENY) ## Look the dependencies up in the advisory database (downloads it)
	$(CARGO_DENY) --locked check advisories

.PHONY: fuzz
fuzz: packages $(CARGO_FUZZ) ## Feed made-up bytes to all that reads foreign ones (needs nightly Rust, an hour and more)
	cd fuzz && PATH="$(TOOLS)/bin:$$PATH" RUSTUP_TOOLCHAIN=nightly cargo fuzz build --sanitizer none
	cd fuzz && for fuzzer in $(FUZZERS); do \
	  mkdir -p "corpus/$$fuzzer" && \
	  PATH="$(TOOLS)/bin:$$PATH" RUSTUP_TOOLCHAIN=nightly cargo fuzz run --sanitizer none "$$fuzzer" \
	    "corpus/$$fuzzer" "seeds/$$fuzzer" -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 \
	    -rss_limit_mb=512 -dict=profile.dict || exit 1; \
	done

.PHONY: bench
bench: packages kubernetes ## Measure against the budgets, and print a table
	cargo build --locked --release --bin callgate
	cargo bench --locked --bench latency

# Not optimised, with the checks of debug builds, and only itself to build after `make test`.
.PHONY: chaos
chaos: root packages kubernetes ## Kill, cut the power and break the API server by the thousand: SEED=N, CHAOS="--kills 100"
	$(AS_ROOT) bench --locked --profile dev --bench chaos -- $(if $(SEED),--seed $(SEED)) $(CHAOS)

.PHONY: scale
scale: root packages kubernetes ## Measure with a thousand nodes (N, P, IDLE in seconds; GROWTH=1: how costs grow); needs root
	$(AS_ROOT) bench --locked --profile $(SCALE_PROFILE) --bench scale -- --nodes $(N) --profiles $(P) --idle $(IDLE) $(if $(GROWTH),--growth)

.PHONY: measure
measure: root packages runtimes ## Measure what container runtimes do and need, and write docs/runtimes.md
	CALLGATE_WRITE_RUNTIMES=1 $(AS_ROOT) test --locked --test runtimes
	$(AS_ROOT) run --locked --quiet --example runtimes

.PHONY: build
build: packages ## Build target/release/callgate
	cargo build --locked --release --bin callgate

.PHONY: image
image: packages $(CARGO_AUDITABLE) $(AUDITABLE2CDX) ## Build the container image into target/image, without a container engine
	@$(if $(filter-out $(shell dpkg --print-architecture),$(IMAGE_ARCH)),tests/packages $(CROSS_$(IMAGE_ARCH)))
	@PATH="$(TOOLS)/bin:$$PATH" deploy/image/build $(IMAGE_ARCH)

.PHONY: crds
crds: packages ## Write crds/ anew from the types
	cargo run --locked --bin callgate -- crds --dir crds

.PHONY: manifests
manifests: crds helm chart-tools ## Write deploy/ and the chart's README anew from the chart, with crds/ in it
	cp crds/*.yaml charts/callgate/files/crds/
	{ echo '# What charts/callgate renders with its defaults. Written by `make manifests`.'; \
	  $(HELM) template callgate charts/callgate --namespace callgate; } > deploy/callgate.yaml.new
	mv deploy/callgate.yaml.new deploy/callgate.yaml
	{ echo '# What charts/callgate renders for monitoring. Written by `make manifests`.'; \
	  $(HELM) template callgate charts/callgate --namespace callgate --show-only templates/monitoring.yaml --set \
	    monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true; \
	} > deploy/monitoring/monitoring.yaml.new
	mv deploy/monitoring/monitoring.yaml.new deploy/monitoring/monitoring.yaml
	$(HELM_DOCS) --chart-search-root charts --sort-values-order file

.PHONY: findings
findings: packages ## Write docs/findings.md anew from the rules
	cargo run --locked --bin callgate -- check --explain all > docs/findings.md.new
	mv docs/findings.md.new docs/findings.md

.PHONY: metrics
metrics: packages kubernetes promtool ## Write the tables of docs/metrics.md anew from what is exposed
	CALLGATE_WRITE_METRICS=1 cargo test --locked --test metrics the_page_describes

.PHONY: kubernetes
kubernetes: ## Build etcd, kube-apiserver and kubectl for tests and demo
	@tests/kubernetes/build

.PHONY: nodes
nodes: packages image workload runtimes ## Build what nodes are made of, for tests: kubelet, containerd, images
	@tests/kubernetes/build nodes

.PHONY: workload
workload: packages ## Build the image that pods of the tests start, into target/image
	@tests/kubernetes/workload/build

.PHONY: helm
helm: ## Build helm, for tests
	@tests/kubernetes/build helm

.PHONY: promtool
promtool: ## Build promtool, for tests
	@tests/kubernetes/build promtool

.PHONY: chart-tools
chart-tools: ## Build what checks the Helm chart
	@tests/kubernetes/build chart-tools

.PHONY: runtimes
runtimes: packages ## Build the container runtimes that Debian does not have, for tests
	tests/runtimes/build

# Asks for the password before anything long begins.
.PHONY: root
root:
	@tests/as-root true || { echo "tests need root, to mount and to start containers: run make as root, or as one who may use sudo" >&2; exit 1; }

.PHONY: packages
packages: ## Install the Debian packages that building and testing needs
	@tests/packages

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf target tests/kubernetes/bin tests/runtimes/bin fuzz/target fuzz/corpus fuzz/artifacts

$(CARGO_DENY):
	@echo "Building cargo-deny $(CARGO_DENY_VERSION), once (about 5 minutes)"
	cargo install --locked --quiet --root $(TOOLS) cargo-deny@$(CARGO_DENY_VERSION)

$(CARGO_FUZZ):
	@echo "Building cargo-fuzz $(CARGO_FUZZ_VERSION), once (about a minute)"
	cargo install --locked --quiet --root $(TOOLS) cargo-fuzz@$(CARGO_FUZZ_VERSION)

$(CARGO_AUDITABLE):
	@echo "Building cargo-auditable $(CARGO_AUDITABLE_VERSION), once"
	cargo install --locked --quiet --root $(TOOLS) cargo-auditable@$(CARGO_AUDITABLE_VERSION)

$(AUDITABLE2CDX):
	@echo "Building auditable2cdx $(AUDITABLE2CDX_VERSION), once"
	cargo install --locked --quiet --root $(TOOLS) auditable2cdx@$(AUDITABLE2CDX_VERSION)

$(ACTIONLINT):
	@echo "Building actionlint $(ACTIONLINT_VERSION), once"
	GOBIN=$(TOOLS)/bin go install github.com/rhysd/actionlint/cmd/actionlint@v$(ACTIONLINT_VERSION)

$(LINTERS): .ci/lint/requirements.txt
	@echo "Installing the linters of $<"
	python3 -m venv --clear $@
	$@/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@
