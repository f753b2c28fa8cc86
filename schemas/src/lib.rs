//! The contract: everything two components of Live Drops agree on. Pure: no I/O, no clock, no randomness.
//!
//! Reading order: [`topics`] (what there is), [`order`] and [`follow`] (what is in it), [`decision`] (the
//! header every decision shares, and the chain), [`framing`] and [`avro`] (bytes), [`ids`], [`units`].
//!
//! A schema version once released is never edited: a new one is added beside it in `schemas/avro/`, with
//! defaults for every new field, and a test proves that all versions read each other.

pub mod avro;
pub mod decision;
pub mod follow;
pub mod framing;
pub mod ids;
pub mod limits;
pub mod order;
pub mod partition;
pub mod topics;
pub mod units;
