# Everything a fresh machine needs is fetched once into .cache (see simulations/demo/setup.py); LIBTORCH is honoured if set.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
SETUP := $(PYTHON) simulations/demo/setup.py
LIBTORCH ?= $(shell $(SETUP) --print-libtorch)
export LIBTORCH

.PHONY: help setup build demo test lint doc deny bench clean-cache

help: ## List the commands.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Fetch libtorch, the encoder and the texts, once.
	$(SETUP)

build: setup ## Build the release binaries.
	cargo build --release --locked -p consilium-coordinator -p consilium-client -p consilium-simulations

demo: build ## Five hospitals, one coordinator, one death: the main job (QUICK=1: 90 seconds).
	$(PYTHON) simulations/demo/run.py $(if $(QUICK),--quick)

# Not yet among them: the simulator's tests and one of the session's, which are still being written.
test: setup ## The tests.
	cargo check --locked -p consilium-crypto --no-default-features
	cargo test --release --locked -p consilium-crypto -p consilium-proto -p consilium-coordinator
	cargo test --release --locked -p consilium-client -- --skip an_altered_sum_is_refused
	# Apart, because these build client and coordinator with test hooks, under other names.
	cargo test --release --locked -p consilium-tests

lint: setup ## Format and clippy, warnings refused.
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings

doc: setup ## The documentation, warnings refused.
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps

bench: setup ## Measure what the product promises: a table, and target/bench/summary.json.
	cargo bench --locked -p consilium-crypto --bench cost
	# The rows that need the real service, once their bench is there:
	# cargo run --release --locked -p consilium-tests --bin service_bench

deny: ## Advisories, licences and sources of every dependency (needs cargo-deny).
	cargo deny check
