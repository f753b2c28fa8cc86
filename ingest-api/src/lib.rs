//! Intents in; one order, drop or follow by id out. Thin: it parses, appends, waits for the decision, shows
//! the row. It never judges stock.
//!
//! Reading order: [`app`] (routes), [`orders`] (the call this product exists for), [`intake`] (into the
//! log), [`window`] (out of the log), [`problem`] (every error), [`auth`] (who is calling).

pub mod app;
pub mod archive;
pub mod auth;
mod body;
mod drop_reads;
mod drops;
mod follows;
mod intake;
mod operations;
mod order_commands;
mod order_reads;
mod orders;
mod position;
pub mod problem;
mod schedule;
mod streams;
pub mod views;
mod waiting;
pub mod window;

pub use app::{AppState, Settings, router};
pub use archive::{Archive, ArchiveError, DropState};
pub use auth::Verifier;
pub use intake::Intake;
pub use window::Window;
