//! Does what the log asks of the payment provider, and tells the log what the provider did.
//!
//! It decides nothing. Which operation is due is in the order row; what an outcome means is the writer's to say. It
//! is at least once on both sides: the provider dedupes by key `{orderId}:{attempt}:{operation}`, the writer by
//! (order, attempt, operation). So it keeps no state: it reads the decisions from their beginning and knows.
//!
//! Reading order: [`operations`] (what is asked and when to ask again; pure), [`worker`] (the loop), [`provider`] (what
//! it needs of a provider), [`webhook`] (signed events), [`stripe`] (the Stripe adapter), [`client`] and [`simulated`]
//! (a provider of our own, with faults, and the adapter that calls it).

pub mod client;
pub mod operations;
pub mod provider;
pub mod simulated;
pub mod stripe;
pub mod webhook;
pub mod worker;
