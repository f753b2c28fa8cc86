//! The program as its users meet it: processes, HTTP, real Kafka, registry, Postgres and `ClickHouse` engine.
//!
//! `make test` starts the servers; alone: `deploy/stack run --with postgres,clickhouse,kafka,stripe -- cargo test --workspace`.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod embedded;
mod fencing;
mod harness;
mod http;
mod kafka;
mod life;
mod malformed;
mod ownership;
mod refusals;
mod standby;
mod stripe;
mod views;
