# Two commands matter: `make demo` and `make test`. Each installs what is missing, says so, and builds.
#
# Every cargo call takes the whole workspace: features of build tools unify over what is selected, and another
# selection would compile RocksDB anew. One profile, one target folder outside the checkout: a fresh clone on a
# used machine builds in a minute or two.
SHELL := /bin/sh
.DEFAULT_GOAL := help
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/live-drops/target
export PATH := $(PATH):$(HOME)/.cargo/bin

LOG ?= embedded
REPORT ?= demo-report.json
BUYERS ?= 10000
STOCK ?= 1000
PROGRAM = $(CARGO_TARGET_DIR)/debug/livedrops
DEMO_PARTS = postgres,clickhouse$(if $(filter kafka,$(LOG)),$(comma)kafka)
comma := ,
PURE = schemas model reservations followers auditor

.PHONY: help demo test dev up down lint purity build latency

help: ## List what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

build:
	@deploy/install build
	cargo build --workspace --locked --quiet

demo: build ## One live drop, verified. LOG=kafka for a real broker; REPORT=path, BUYERS=, STOCK=
	@deploy/stack run --with $(DEMO_PARTS) -- \
	  $(PROGRAM) demo --log $(LOG) --buyers $(BUYERS) --stock $(STOCK) --report $(REPORT)

test: lint purity ## Everything: lint, purity, unit, property, protocol, and the real stack
	deploy/stack run --with postgres,clickhouse,kafka -- cargo test --workspace --locked --quiet

lint: ## Format, clippy, docs; warnings are errors
	@deploy/install build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --locked --quiet

purity: ## The pure crates reach no I/O, no clock, no runtime
	deploy/purity $(PURE)

latency: build ## 150 orders/s for 60 s over HTTP through real Kafka with the views running
	@deploy/stack run --with postgres,clickhouse,kafka -- deploy/latency $(PROGRAM)

dev: build ## Leave everything running on http://127.0.0.1:8080; Ctrl-C ends it
	@deploy/stack run --with $(DEMO_PARTS) -- deploy/dev $(PROGRAM) $(LOG)

up: ## Start Kafka, registry, Postgres and ClickHouse and leave them running
	@if docker info >/dev/null 2>&1; then docker compose -f kafka-compose.yml up -d --wait; \
	else deploy/stack up --with postgres,clickhouse,kafka; fi

down: ## Stop what `up` started
	@if docker info >/dev/null 2>&1; then docker compose -f kafka-compose.yml down; else deploy/stack down; fi
