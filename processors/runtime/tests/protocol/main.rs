//! The log protocol on a log in memory: what a crash, a zombie, a lost answer, poison and a wrong clock do.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod crashes;
mod life;
mod memory_log;
mod poison;
mod refusals;
mod rig;
mod standby;
mod time;
