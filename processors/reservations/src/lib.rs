//! The reservation rules: who gets the units. Pure.
//!
//! Reading order: [`topology`] (what is read and kept), [`command`] (what may be asked), [`rows`] (what is
//! kept, and the timers it implies), [`decide`] (the rules, one file per family).

pub mod command;
pub mod decide;
mod lone_row;
pub mod rows;
pub mod topology;

use std::sync::LazyLock;

use model::{
    Decided, Intent, LoneRow, Processor, ReadFailed, RowChange, Rows, Stamp, Timer, Topology,
    UnreadableIntent,
};
use schemas::avro::{self, Codec};
use schemas::ids::IntentId;
use schemas::order::{OrderBody, OrderIntent, OrderIntentKind};
use schemas::units::Millis;

use command::Command;
use rows::StateRow;

/// The processor of the order topics.
#[derive(Debug)]
pub struct Reservations;

impl Processor for Reservations {
    type Command = Command;
    type Row = StateRow;
    type Body = OrderBody;

    const TOPOLOGY: Topology = topology::TOPOLOGY;
    const LOGIC_VERSION: i32 = decide::LOGIC_VERSION;

    fn decision_codec() -> &'static Codec {
        LazyLock::force(&avro::ORDER_DECISION)
    }

    fn read(codec: &Codec, datum: &[u8]) -> Result<Intent<Command>, UnreadableIntent> {
        let intent: OrderIntent = codec
            .decode(datum)
            .map_err(|error| UnreadableIntent { why: error.to_string(), intent_id: None })?;
        let (intent_id, correlation_id) = (intent.intent_id, intent.correlation_id.clone());
        match Command::try_from(intent) {
            Ok(command) => Ok(Intent { intent_id, correlation_id, command }),
            Err(error) => {
                Err(UnreadableIntent { why: error.to_string(), intent_id: Some(intent_id) })
            }
        }
    }

    fn decide(
        rows: &dyn Rows<StateRow>,
        command: &Command,
        stamp: Stamp,
    ) -> Result<Decided<OrderBody>, ReadFailed> {
        decide::decide(rows, command, stamp)
    }

    fn fire(
        rows: &dyn Rows<StateRow>,
        timer: &Timer,
        stamp: Stamp,
    ) -> Result<Option<OrderBody>, ReadFailed> {
        decide::timers::fire(rows, timer, stamp)
    }

    fn changes(body: OrderBody) -> impl Iterator<Item = RowChange<StateRow>> {
        rows::changes(body)
    }

    fn lone_row(datum: &[u8]) -> Option<LoneRow> {
        lone_row::read(datum)
    }

    fn activated(body: &OrderBody) -> Option<i32> {
        body.activated
    }

    fn record_key(body: &OrderBody) -> Option<[u8; 16]> {
        rows::drop_of(body).map(|drop| drop.0)
    }

    fn tick(intent_id: IntentId, now: Millis) -> Vec<u8> {
        let mut datum = Vec::new();
        avro::ORDER_INTENT
            .encode(&OrderIntent::bare(intent_id, OrderIntentKind::Tick, now), &mut datum);
        datum
    }
}
