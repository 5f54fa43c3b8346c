# `make` alone lists the targets.

# Where cargo puts what it builds, if a developer has moved that.
target_dir := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help demo test check fmt clippy doc deny image image-test screenshots soak soak-long bench bench-quick bench-guard

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## sign in, and use kubectl, on this computer: stand-ins play Entra and the cluster
	scripts/tools build kubectl
	cargo build --workspace
	@$(target_dir)/debug/demo $(target_dir)/debug/entrada

test: ## every test, with real kubectls and a real browser
	scripts/tools all
	cargo test --workspace

check: fmt clippy doc test deny ## all that a change must pass

fmt: ## formatting
	cargo fmt --all --check

clippy: ## lints
	cargo clippy --workspace --all-targets --all-features -- -D warnings

doc: ## the documentation builds, and its links lead somewhere
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

soak: ## load and faults against the release build, with figures: docs/measurements.md says what they were
	cargo test --release --features soak --test soak -- --nocapture --test-threads=1

soak-long: ## the same, with a tunnel that idles for ten minutes
	SOAK_IDLE_SECONDS=600 $(MAKE) soak

# Entrada by itself, so that it has the features of the shipped program and not those of a test.
bench: ## beside nginx and HAProxy, for about half an hour: writes docs/performance.md
	scripts/tools build bench
	cargo build --release -p entrada --bin entrada
	cargo run --release -p bench

bench-quick: ## the same for a developer, in a minute or two: processor time of a request, memory of a watch
	BENCH_QUICK=1 BENCH_ONLY=$(or $(BENCH_ONLY),cpu,watches) $(MAKE) bench

# With the whole workspace, so that it is the build that `test` makes, too.
bench-guard: ## instructions and allocations of a request, an event and a watch, against those that are kept
	scripts/tools guard
	cargo test --workspace --test guard

screenshots: ## pictures of every page, light and dark, on a desk and on a phone, into docs/images
	scripts/tools browser pictures
	cargo test --test suite -- pages_fit_every_screen chromium::troubles
	mkdir -p docs/images
	for picture in $(target_dir)/tmp/tour/*.png $(target_dir)/tmp/pages/trouble-*.png; do \
		pngquant --force --strip --speed 1 --output docs/images/$${picture##*/} 48 $$picture; done

# Not part of `test`: it asks the network for the latest advisories, and a new one must not fail an old commit.
deny: ## licences, advisories and sources of every dependency
	cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked
	cargo deny check bans licenses sources
	cargo deny check advisories

image: ## the container image, as entrada:latest, with docker, podman or buildah
	scripts/image entrada:latest

# Not part of `test`: it compiles the release build twice, and must be root. The demo's stand-ins sign in at the result.
image-test: ## the image: built twice to the same bytes, run as Kubernetes would, without a container engine
	scripts/tools build kubectl image
	cargo build -p standin --bin demo
	IMAGE_TEST_DEMO=$(target_dir)/debug/demo scripts/image-test
