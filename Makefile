# Every target does its own set-up: on a fresh Debian 12 machine with Rust and make, each may be the first command.
# Tools that are not the system's live in .tools/, and `make clean-tools` forgets them.

SHELL         := /bin/bash
.SHELLFLAGS   := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
# Nothing may be printed after cargo's own last line, not even when make calls make.
MAKEFLAGS     += --no-print-directory

FUZZ_TARGET   ?= decode
FUZZ_SECONDS  ?= 60

BUF_VERSION        := 1.75.0
CARGO_FUZZ_VERSION := 0.13.2
CARGO_DENY_VERSION := 0.20.2

TOOLS := $(CURDIR)/.tools
BUF   := $(TOOLS)/buf/node_modules/.bin/buf

# Where tests/python_client.rs finds its interpreter. Set by `make test`, never looked up on PATH, so that the test
# cannot pass or be left out because of what a machine happens to have.
export PILEWAY_TEST_PYTHON := $(TOOLS)/venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

## The ones to know

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^## /{print "\n" substr($$0, 4) ":"} /^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' Makefile

# The dev profile: it shares its build with `make test`, and one charge needs no optimiser.
.PHONY: demo
demo: setup-cc ## one charge, from login to settled bill, through the public API
	cargo run --locked --quiet -- demo

.PHONY: test
test: setup-cc setup-python setup-redis ## every test, with an independent Python client and real Redis servers among them
	cargo test --locked

.PHONY: lint
lint: lint-rust lint-licences lint-proto lint-tidy ## formatting, clippy, licences, buf, the rules of the house

.PHONY: fmt
fmt: setup-rust ## format the Rust sources
	cargo fmt

.PHONY: bench
bench: setup-cc setup-redis ## every figure beside what it is measured against (BENCH_ARGS="--json | --only PART")
	cargo bench --locked --quiet --bench figures -- $(BENCH_ARGS)

# `-s none`: without a sanitizer libFuzzer runs on stable, and a crate that forbids unsafe code has little to sanitize.
.PHONY: fuzz
fuzz: setup-cc setup-fuzz ## fuzz the frame decoder (FUZZ_SECONDS=60, FUZZ_TARGET=decode)
	PATH="$(TOOLS)/bin:$$PATH" cargo fuzz run -s none $(FUZZ_TARGET) -- -max_total_time=$(FUZZ_SECONDS)

.PHONY: ci
ci: ## what has to hold before a merge: lint, demo, test
	.ci/run

## The parts of lint

.PHONY: lint-rust
lint-rust: setup-cc setup-rust ## cargo fmt --check and clippy without a warning
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

.PHONY: lint-licences
lint-licences: ## licence and origin of every dependency, against deny.toml
	@tools/need 'python3 -c "import tomllib"' python3
	@python3 -m doctest tools/licences.py
	cargo metadata --locked --format-version 1 | python3 tools/licences.py deny.toml
	@echo "advisories: not checked here, they need the RustSec database from GitHub; make deny checks them where it is reachable"

.PHONY: lint-proto
lint-proto: setup-buf ## buf's STANDARD rules on proto/
	$(BUF) lint

.PHONY: lint-tidy
lint-tidy: setup-cc ## import direction, file lengths, the map in src/lib.rs (tests/tidy.rs)
	cargo test --locked --test tidy

.PHONY: deny
deny: setup-cc $(TOOLS)/deny-$(CARGO_DENY_VERSION).ok ## cargo-deny in full: licences, sources, duplicates, advisories (builds it first)
	PATH="$(TOOLS)/bin:$$PATH" cargo deny --locked check

## Set-up (the targets above call what they need)

.PHONY: setup
setup: setup-cc setup-rust setup-python setup-redis setup-buf setup-fuzz ## everything at once

.PHONY: setup-cc
setup-cc: ## a linker and a C compiler, for rustc and ring
	@tools/need 'command -v cc' gcc libc6-dev

.PHONY: setup-rust
setup-rust: ## rustfmt and clippy
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

.PHONY: setup-python
setup-python: $(TOOLS)/python.ok ## a virtual environment with grpcio, for the Python client test

# Debian starts a server of its own with it; the tests have theirs, on other ports. setpriv ends them with the tests.
.PHONY: setup-redis
setup-redis: ## redis-server, redis-sentinel and Redis's tools, for the shared store's tests and figures
	@tools/need 'command -v redis-server && command -v redis-sentinel && command -v redis-cli && command -v redis-benchmark && command -v setpriv' \
	    redis-server redis-sentinel redis-tools util-linux

.PHONY: setup-buf
setup-buf: $(TOOLS)/buf-$(BUF_VERSION).ok ## buf, by npm

.PHONY: setup-fuzz
setup-fuzz: $(TOOLS)/fuzz-$(CARGO_FUZZ_VERSION).ok ## cargo-fuzz, built from crates.io

.PHONY: clean-tools
clean-tools: ## forget every tool that was set up
	rm -rf $(TOOLS)

# The stamps. Each is touched last, after the tool has answered, so that half a set-up is done again.

$(TOOLS)/python.ok: tools/requirements.txt
	@tools/need 'python3 -c "import ensurepip, venv"' python3 python3-venv
	@rm -rf $(TOOLS)/venv
	python3 -m venv $(TOOLS)/venv
	$(PILEWAY_TEST_PYTHON) -m pip install --quiet --only-binary :all: --requirement tools/requirements.txt
	$(PILEWAY_TEST_PYTHON) -c 'import grpc, grpc_reflection, grpc_status, google.type.money_pb2; print("grpcio", grpc.__version__)'
	@touch $@

# buf is one binary; npm only carries it, so its install scripts stay off.
$(TOOLS)/buf-$(BUF_VERSION).ok:
	@tools/need 'command -v node && command -v npm' nodejs npm
	@mkdir -p $(TOOLS)/buf
	npm install --prefix $(TOOLS)/buf --no-save --no-audit --no-fund --ignore-scripts --loglevel=error @bufbuild/buf@$(BUF_VERSION)
	$(BUF) --version
	@touch $@

$(TOOLS)/fuzz-$(CARGO_FUZZ_VERSION).ok:
	@tools/need 'command -v c++' g++
	cargo install cargo-fuzz --version $(CARGO_FUZZ_VERSION) --locked --root $(TOOLS)
	@touch $@

$(TOOLS)/deny-$(CARGO_DENY_VERSION).ok:
	cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --root $(TOOLS)
	@touch $@
