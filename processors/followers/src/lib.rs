//! The follower sets: who follows whom. Pure.
//!
//! Reading order: [`topology`], [`command`], [`rows`], [`decide`].

pub mod command;
pub mod decide;
pub mod rows;
pub mod topology;

use std::sync::LazyLock;

use model::{
    Decided, Intent, Processor, ReadFailed, RowChange, Rows, Stamp, Timer, Topology,
    UnreadableIntent,
};
use schemas::avro::{self, Codec};
use schemas::follow::{FollowBody, FollowIntent, FollowIntentKind};
use schemas::ids::IntentId;
use schemas::units::Millis;

use command::Command;
use rows::StateRow;

/// The processor of the follow topics.
#[derive(Debug)]
pub struct Followers;

impl Processor for Followers {
    type Command = Command;
    type Row = StateRow;
    type Body = FollowBody;

    const TOPOLOGY: Topology = topology::TOPOLOGY;
    const LOGIC_VERSION: i32 = 1;

    fn decision_codec() -> &'static Codec {
        LazyLock::force(&avro::FOLLOW_DECISION)
    }

    fn read(codec: &Codec, datum: &[u8]) -> Result<Intent<Command>, UnreadableIntent> {
        let intent: FollowIntent = codec
            .decode(datum)
            .map_err(|error| UnreadableIntent { why: error.to_string(), intent_id: None })?;
        let (intent_id, correlation_id) = (intent.intent_id, intent.correlation_id.clone());
        match Command::try_from(intent) {
            Ok(command) => Ok(Intent { intent_id, correlation_id, command }),
            Err(why) => Err(UnreadableIntent { why: why.to_owned(), intent_id: Some(intent_id) }),
        }
    }

    fn decide(
        rows: &dyn Rows<StateRow>,
        command: &Command,
        stamp: Stamp,
    ) -> Result<Decided<FollowBody>, ReadFailed> {
        decide::decide(rows, *command, stamp)
    }

    /// Follow rows have no deadlines.
    fn fire(
        _rows: &dyn Rows<StateRow>,
        _timer: &Timer,
        _stamp: Stamp,
    ) -> Result<Option<FollowBody>, ReadFailed> {
        Ok(None)
    }

    fn changes(body: FollowBody) -> impl Iterator<Item = RowChange<StateRow>> {
        let follows = body.follows.into_iter().map(StateRow::Follow);
        let rows = follows.chain(body.creators.into_iter().map(StateRow::Creator));
        rows.map(RowChange::Put)
    }

    fn record_key(body: &FollowBody) -> Option<[u8; 16]> {
        body.follows.first().map(|row| row.creator_id.0)
    }

    fn tick(intent_id: IntentId, now: Millis) -> Vec<u8> {
        let intent = FollowIntent {
            intent_id,
            correlation_id: None,
            kind: FollowIntentKind::Tick,
            actor: None,
            sent_at: now,
            follow_change: None,
        };
        let mut datum = Vec::new();
        avro::FOLLOW_INTENT.encode(&intent, &mut datum);
        datum
    }
}
