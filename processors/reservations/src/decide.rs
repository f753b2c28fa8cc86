//! The rules, one file per family. Every check comes before every change.

mod archive;
mod buyer;
mod change;
mod drops;
mod offers;
mod payments;
mod place;
mod refund;
mod schedule;
mod stock;
mod supply;
pub(crate) mod timers;
mod waitlist;

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::decision::Outcome;
use schemas::order::{DropStatus, OrderBody, OrderRow, Reason, Refusal};

use crate::command::{Command, DropCommand};
use crate::rows::StateRow;

/// The newest rules. A partition that is activated for less writes nothing that an older build cannot read.
pub const LOGIC_VERSION: i32 = WHOLE_LIFE;
/// Payments, waitlist, pause, abort, restock, archive.
pub(crate) const WHOLE_LIFE: i32 = 2;

/// Decides one command.
pub(crate) fn decide(
    rows: &dyn Rows<StateRow>,
    command: &Command,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    if stamp.logic_version < WHOLE_LIFE && needs_whole_life(command) {
        return Ok(refused(refusal(Reason::NotActivated)));
    }
    match command {
        Command::Place { user, drop, order } => place::place(rows, *user, *drop, order, stamp),
        Command::Buyer { user, order, what } => buyer::change(rows, *user, *order, what, stamp),
        Command::Schedule { drop, terms } => schedule::schedule(rows, *drop, terms, stamp),
        Command::Creator { drop, caller, what } => drops::change(rows, *drop, caller, what, stamp),
        Command::Refund { caller, refund } => refund::refund(rows, caller, refund, stamp),
        Command::PaymentOutcome(outcome) => payments::outcome(rows, outcome, stamp),
        Command::Activate(version) => Ok(activate(*version, stamp)),
        Command::Tick => Ok(Decided { outcome: Outcome::Changed, body: None }),
    }
}

/// Commands whose decisions an older build would read without understanding them.
fn needs_whole_life(command: &Command) -> bool {
    match command {
        Command::Place { .. } | Command::Activate(_) | Command::Tick => false,
        Command::Buyer { what, .. } => *what != crate::command::BuyerCommand::Cancel,
        Command::Schedule { terms, .. } => terms.waitlist,
        Command::Creator { what, .. } => !matches!(what, DropCommand::Open | DropCommand::Close),
        Command::Refund { .. } | Command::PaymentOutcome(_) => true,
    }
}

fn activate(version: i32, stamp: Stamp) -> Decided<OrderBody> {
    if version > LOGIC_VERSION {
        return refused(refusal(Reason::UnknownVersion));
    }
    let activated = (version > stamp.logic_version).then_some(version);
    changed(OrderBody { activated, ..OrderBody::default() })
}

fn changed(body: OrderBody) -> Decided<OrderBody> {
    Decided { outcome: Outcome::Changed, body: Some(body) }
}

/// The same answer as the first time: a copy of the order as it is now.
fn replayed(answer: Option<OrderRow>) -> Decided<OrderBody> {
    Decided { outcome: Outcome::Replayed, body: Some(answering(answer)) }
}

/// The idempotency key belongs to another request; nothing changes.
fn key_reused(answer: Option<OrderRow>) -> Decided<OrderBody> {
    Decided { outcome: Outcome::KeyReused, body: Some(answering(answer)) }
}

fn answering(answer: Option<OrderRow>) -> OrderBody {
    OrderBody { answer: answer.map(Box::new), ..OrderBody::default() }
}

fn refusal(reason: Reason) -> Refusal {
    Refusal { reason, order_id: None, user_id: None, opens_at: None, drop_status: None }
}

fn refused(refusal: Refusal) -> Decided<OrderBody> {
    let body = OrderBody { refusal: Some(refusal), ..OrderBody::default() };
    Decided { outcome: Outcome::Refused, body: Some(body) }
}

/// A refused command on an order, with the order as it is.
fn refused_with(refusal: Refusal, order: OrderRow) -> Decided<OrderBody> {
    let body = OrderBody { refusal: Some(refusal), ..answering(Some(order)) };
    Decided { outcome: Outcome::Refused, body: Some(body) }
}

fn wrong_state(status: DropStatus) -> Decided<OrderBody> {
    refused(Refusal { drop_status: Some(status), ..refusal(Reason::WrongState) })
}
