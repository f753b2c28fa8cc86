//! The API without a log, an owner or a view behind it: who may ask, what is shed, and what is answered before all of them
//! have come to the same point.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod keys;
mod overload;
mod reads;
mod tokens;
