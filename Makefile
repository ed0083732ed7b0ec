# Everything a fresh machine needs is fetched once into .cache (see simulations/demo/setup.py); LIBTORCH is honoured if set.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
SETUP := $(PYTHON) simulations/demo/setup.py
LIBTORCH ?= $(shell $(SETUP) --print-libtorch)
export LIBTORCH

.PHONY: help setup build demo test wheel parity lint doc deny bench soak bundle clean-cache

help: ## List the commands.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Fetch libtorch, the encoder and the texts, once.
	$(SETUP)

build: setup ## Build the release binaries.
	cargo build --release --locked -p consilium-coordinator -p consilium-client -p consilium-simulations

demo: build ## Five hospitals, one coordinator, one death: the main job (QUICK=1: 90 seconds).
	$(PYTHON) simulations/demo/run.py $(if $(QUICK),--quick)

test: setup ## The tests.
	cargo check --locked -p consilium-crypto --no-default-features
	cargo test --release --locked --workspace --exclude consilium-tests
	# Apart, because these builds have test hooks and walls that can be taken down.
	cargo test --release --locked -p consilium-crypto --features test-walls --test secagg_adversary
	cargo test --release --locked -p consilium-tests
	$(PYTHON) -m unittest discover -s simulations/demo

wheel: build ## Build the Python trainer package, install it afresh, and test it: also a whole job with real processes.
	$(PYTHON) client/python/wheel.py --release $(or $(CARGO_TARGET_DIR),target)/release

parity: build ## Compare the built-in trainer with PEFT and Opacus, in an environment of its own: target/parity/summary.json.
	cargo build --release --locked -p consilium-client --example parity --example next_token_steps
	$(PYTHON) client/parity/parity.py --release $(or $(CARGO_TARGET_DIR),target)/release

lint: setup ## Format and clippy, warnings refused.
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	# On a machine that has no libtorch.
	cargo clippy --release --locked -p consilium-simulations --no-default-features -- -D warnings

doc: setup ## The documentation, warnings refused.
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --workspace --no-deps

bench: setup ## Measure what the product promises: a table, and target/bench/summary.json.
	cargo bench --locked -p consilium-crypto --bench cost
	cargo bench --locked -p consilium-coordinator --bench service
	cargo bench --locked -p consilium-simulations --bench rounds

deny: ## Advisories, licences and sources of every dependency (needs cargo-deny).
	cargo deny check

soak: setup ## 200 rounds under random faults, real processes on loopback: up to half an hour (QUICK=1: 24 rounds).
	# The programs as the tests have them: nothing is built twice.
	cargo test --release --locked -p consilium-tests --no-run
	$(or $(CARGO_TARGET_DIR),target)/release/soak $(if $(QUICK),--quick) $(if $(SEED),--seed $(SEED))

bundle: build ## A signed archive and Debian packages that install with the network off (KEY=file, MODEL=folder).
	$(PYTHON) deploy/bundle.py $(if $(KEY),--key $(KEY)) $(if $(MODEL),--model $(MODEL))
	$(PYTHON) deploy/check.py
