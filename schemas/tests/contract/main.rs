//! The contract as other programs see it: documented fields, pinned bytes, an independent decoder,
//! compatibility of every released version with every other.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod bytes;
mod compatibility;
mod samples;
