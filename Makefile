# Two commands matter: `make demo` and `make test`. Each installs what is missing, says so, and builds.
#
# Every cargo call takes the whole workspace: features of build tools unify over what is selected, and another
# selection would compile RocksDB anew. One profile, one target folder outside the checkout: a fresh clone on a
# used machine builds in two to four minutes.
SHELL := /bin/sh
.DEFAULT_GOAL := help
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/live-drops/target
export PATH := $(PATH):$(HOME)/.cargo/bin

LOG ?= embedded
REPORT ?= demo-report.json
BUYERS ?= 10000
STOCK ?= 1000
PROGRAM = $(CARGO_TARGET_DIR)/debug/livedrops
BENCH = $(CARGO_TARGET_DIR)/debug/bench
DEMO_PARTS = postgres,clickhouse$(if $(filter kafka,$(LOG)),$(comma)kafka)
comma := ,
PURE = schemas model reservations followers auditor

# Seeds of the simulator: a fixed set, then as many from a fresh start.
SEEDS ?= 5000
ENCORE_BUYERS ?= 20000
ENCORE_STOCK ?= 5000
TEST_SEEDS = 1500
# Rounds of the benchmarks, every side in each.
ROUNDS ?= 5

.PHONY: help demo test dev up down lint purity build bench-core bench growth scale profile latency payments sim sim-short sim-bugs full-disk

help: ## List what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

build:
	@deploy/install build
	cargo build --workspace --locked --quiet

demo: build ## One live drop, verified. LOG=kafka for a real broker; REPORT=path, BUYERS=, STOCK=
	@deploy/stack run --with $(DEMO_PARTS) -- \
	  $(PROGRAM) demo --log $(LOG) --buyers $(BUYERS) --stock $(STOCK) --report $(REPORT)

test: lint purity sim-short ## Everything: lint, purity, simulation, unit, property, protocol, and the real stack
	deploy/stack run --minutes 30 --with postgres,clickhouse,kafka,stripe -- cargo test --workspace --locked --quiet

lint: ## Format, clippy, docs; warnings are errors
	@deploy/install build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --locked --quiet

purity: ## The pure crates reach no I/O, no clock, no runtime
	deploy/purity $(PURE)

sim: build ## Simulate: 5,000 fixed seeds, then as many fresh ones; SEEDS=
	$(CARGO_TARGET_DIR)/debug/simulator run --first 1 --seeds $(SEEDS)
	$(CARGO_TARGET_DIR)/debug/simulator run --first $$(date +%s%N) --seeds $(SEEDS)

sim-short: build
	$(CARGO_TARGET_DIR)/debug/simulator run --first 1 --seeds $(TEST_SEEDS)
	$(CARGO_TARGET_DIR)/debug/simulator run --first $$(date +%s%N) --seeds $(TEST_SEEDS)

sim-bugs: ## Show that the simulator finds every deliberate defect, and after how many seeds
	@deploy/install build
	cargo run -p simulator --features defects --locked --quiet --target-dir $(CARGO_TARGET_DIR)-defects -- bugs

full-disk: build ## A node whose disk fills up in a drop, is ended, and gets room back, on both logs (root: mounts a tmpfs)
	@deploy/full_disk.py $(PROGRAM) embedded
	@deploy/stack run --with kafka -- deploy/full_disk.py $(PROGRAM) kafka

payments: build ## 20,000 orders of a paid drop with a waitlist on real Kafka, and a provider that has bad moments
	@deploy/stack run --with postgres,clickhouse,kafka -- $(PROGRAM) demo --log kafka --buyers 100 --stock 10 \
	  --encore-buyers $(ENCORE_BUYERS) --encore-stock $(ENCORE_STOCK) --encore-hold-seconds 30 --report $(REPORT)

bench-core: build ## decide + apply on one thread, per command
	cargo bench --workspace --bench decide --locked --profile dev -- --noplot

bench: bench-core ## Every bar in one table, beside Kafka Streams, Redis and Postgres; JSON and a picture in bench/results
	@mkdir -p bench/results
	@deploy/stack run --long --with postgres,clickhouse,kafka -- $(BENCH) http --program $(PROGRAM) --out bench/results/http.json
	@deploy/stack run --long --with postgres,clickhouse,kafka,redis,streams -- $(BENCH) run --rounds $(ROUNDS) \
	  --http bench/results/http.json \
	  --core "$(CARGO_TARGET_DIR)/criterion/decide + apply/place, 1 % win/new/estimates.json"

growth: build ## What grows with the orders and drops of a partition, 1,000 to 10,000,000
	@$(BENCH) growth

scale: build ## Hot drops on 1, 2 and 4 partitions and processes, beside a model fitted to the first
	@deploy/stack run --with kafka -- $(BENCH) scale

profile: build ## Where the nanoseconds of a decision go, by thread and by step (needs perf)
	@deploy/stack run --with kafka -- bench/profile $(BENCH)

latency: build ## 150 orders/s for 60 s over HTTP through real Kafka with the views running
	@deploy/stack run --long --with postgres,clickhouse,kafka -- $(BENCH) http --program $(PROGRAM) --latency-only

dev: build ## Leave everything running on http://127.0.0.1:8080; Ctrl-C ends it
	@deploy/stack run --long --with $(DEMO_PARTS) -- deploy/dev $(PROGRAM) $(LOG)

up: ## Start Kafka, registry, Postgres and ClickHouse and leave them running
	@if docker info >/dev/null 2>&1; then docker compose -f kafka-compose.yml up -d --wait; \
	else deploy/stack up --with postgres,clickhouse,kafka; fi

down: ## Stop what `up` started
	@if docker info >/dev/null 2>&1; then docker compose -f kafka-compose.yml down; else deploy/stack down; fi
