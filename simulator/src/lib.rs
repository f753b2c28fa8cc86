//! One seed drives the log, the stores, the clocks, the buyers, the creators and the payments around the
//! production [`runtime::PartitionTask`]; the [`auditor`] judges what they left behind.
//!
//! Reading order: [`run`] (a run), [`faults`] (what goes wrong), [`defects`] (mistakes made on purpose, to show
//! that they are found), [`hunt`] (many runs; the shortest failing one).
//!
//! The method is that of `FoundationDB`'s simulation and `TigerBeetle`'s VOPR: one seed and one commit are the
//! whole story of a failure.

mod broker;
pub mod defects;
mod disk;
pub mod faults;
pub mod hunt;
mod payments;
pub mod run;
mod verdict;
mod workload;
