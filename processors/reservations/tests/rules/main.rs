//! The reservation rules: every refusal, every pair of neighbouring refusals, holds and their time, and
//! random histories under an independent auditor.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod life;
mod money;
mod neighbours;
mod properties;
mod refusals;
mod time;
mod waitlist;
mod world;
