//! The rules, one file per family. Every check comes before every change.

mod cancel;
mod drops;
mod place;
mod schedule;
mod stock;
pub(crate) mod timers;

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::decision::Outcome;
use schemas::order::{DropStatus, OrderBody, OrderRow, Reason, Refusal};

use crate::command::Command;
use crate::rows::StateRow;

/// Decides one command.
pub(crate) fn decide(
    rows: &dyn Rows<StateRow>,
    command: &Command,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    match command {
        Command::Place { user, drop, order } => place::place(rows, *user, *drop, order, stamp),
        Command::Cancel { user, order } => cancel::cancel(rows, *user, *order, stamp),
        Command::Schedule { drop, terms } => schedule::schedule(rows, *drop, terms, stamp),
        Command::Open(on) => drops::open(rows, on, stamp),
        Command::Close(on) => drops::close(rows, on, stamp),
        Command::Tick => Ok(Decided { outcome: Outcome::Changed, body: None }),
    }
}

fn changed(body: OrderBody) -> Decided<OrderBody> {
    Decided { outcome: Outcome::Changed, body: Some(body) }
}

/// The same answer as the first time: a copy of the order as it is now.
fn replayed(answer: Option<OrderRow>) -> Decided<OrderBody> {
    Decided { outcome: Outcome::Replayed, body: Some(OrderBody { answer, ..OrderBody::default() }) }
}

/// The idempotency key belongs to another request; nothing changes.
fn key_reused(answer: Option<OrderRow>) -> Decided<OrderBody> {
    Decided {
        outcome: Outcome::KeyReused,
        body: Some(OrderBody { answer, ..OrderBody::default() }),
    }
}

fn refusal(reason: Reason) -> Refusal {
    Refusal { reason, order_id: None, user_id: None, opens_at: None, drop_status: None }
}

fn refused(refusal: Refusal) -> Decided<OrderBody> {
    let body = OrderBody { refusal: Some(refusal), ..OrderBody::default() };
    Decided { outcome: Outcome::Refused, body: Some(body) }
}

fn wrong_state(status: DropStatus) -> Decided<OrderBody> {
    refused(Refusal { drop_status: Some(status), ..refusal(Reason::WrongState) })
}
