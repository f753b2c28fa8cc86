//! Recovery: the one start-up path, after a crash, a takeover, or anything but a clean commit.

use model::Processor;
use schemas::decision::{Decision, DecisionHeader, Genesis, LOG_FORMAT, Outcome, OwnerStarted};
use schemas::units::Millis;

use super::records::Records;
use super::{PartitionTask, Phase, Refused, Stop, Ticks};
use crate::defect::{Defect, is_on};
use crate::log::Log;
use crate::status::PartitionState;
use crate::store::{Position, STORE_FORMAT, Store};

impl<P: Processor, L: Log, S: Store> PartitionTask<P, L, S> {
    /// Fence → fold to the high watermark → commit `owner_started` → go on at the next intent.
    pub(super) fn recover(&mut self, now: Millis) -> Result<(), Stop> {
        self.settings.status.update(|snapshot| snapshot.state = PartitionState::Recovering);
        self.stop_working();
        self.log.fence()?;
        let log_id = self.log.log_id()?;
        // What a standby has in memory is what it has given to its store.
        if !matches!(self.phase, Phase::Standby { .. }) {
            self.return_to_store(&log_id)?;
        }
        self.phase = Phase::START;
        let decisions = self.log.decisions_range()?;
        self.fold_gap(&log_id, decisions)?;
        self.take_over(now, log_id)?;
        let intents = self.log.intents_range()?;
        let next = self.position.next_intent_offset;
        if !(intents.start..=intents.end).contains(&next) {
            return Err(Refused::PositionOutsideIntents {
                next,
                start: intents.start,
                end: intents.end,
            }
            .into());
        }
        self.log.seek_intents(next)?;
        self.phase = Phase::Running;
        let seq = self.position.seq;
        self.settings.status.update(|snapshot| {
            snapshot.state = PartitionState::Running;
            (snapshot.seq, snapshot.next_intent_offset) = (seq, next);
        });
        tracing::info!(
            processor = P::TOPOLOGY.processor,
            partition = %self.settings.partition,
            epoch = self.position.epoch,
            seq,
            "owner started"
        );
        Ok(())
    }

    /// Ends what other threads do for the task, and forgets what it had in hand.
    pub(super) fn stop_working(&mut self) {
        self.in_flight = None;
        drop(self.reading.outcome());
        drop(self.sealing.outcome());
        self.pending.clear();
        self.is_drained = false;
        self.ticks = Ticks::new();
    }

    /// Forgets everything that is not in the store.
    pub(super) fn return_to_store(&mut self, log_id: &str) -> Result<(), Stop> {
        if !is_on(Defect::KeepTheBatchAfterAnAbort) {
            self.overlay.reset()?;
        }
        self.position = self.stored_position(log_id)?;
        Ok(())
    }

    fn stored_position(&self, log_id: &str) -> Result<Position, Stop> {
        let Some(position) = self.overlay.store.position()? else {
            return Ok(Position::start(log_id.to_owned()));
        };
        if position.format != STORE_FORMAT {
            let mut what =
                format!("store format {}, this build knows {STORE_FORMAT}", position.format);
            if position.format < STORE_FORMAT {
                what.push_str(": move the store folder away, and it is rebuilt from the log");
            }
            return Err(Refused::UnknownFormat(what).into());
        }
        if position.logic_version > P::LOGIC_VERSION {
            return Err(newer_logic(position.logic_version, P::LOGIC_VERSION));
        }
        if position.log_id != log_id {
            return Err(other_log("store", position.log_id, log_id));
        }
        Ok(position)
    }

    pub(super) fn check_genesis(&mut self, genesis: &Genesis, log_id: &str) -> Result<(), Stop> {
        if genesis.format != LOG_FORMAT {
            let what = format!("log format {}, this build knows {LOG_FORMAT}", genesis.format);
            return Err(Refused::UnknownFormat(what).into());
        }
        if genesis.log_id != log_id {
            return Err(other_log("genesis record", genesis.log_id.clone(), log_id));
        }
        let count = u16::try_from(genesis.partition_count).unwrap_or(0);
        self.check_partition_count(count)
    }

    fn check_partition_count(&mut self, genesis: u16) -> Result<(), Stop> {
        let (intents, decisions) = self.log.partition_counts()?;
        if genesis == intents && genesis == decisions {
            return Ok(());
        }
        Err(Refused::PartitionCount { genesis, intents, decisions }.into())
    }

    /// Commits `genesis`, where it is missing, and `owner_started`. The commit also warms the producer.
    fn take_over(&mut self, now: Millis, log_id: String) -> Result<(), Stop> {
        let epoch = self.position.epoch + i32::from(!is_on(Defect::ReuseAnEpoch));
        let mut records = Records::default();
        if self.position.seq < 0 {
            // A fresh partition has no older readers.
            self.position.logic_version = P::LOGIC_VERSION;
            let (count, _) = self.log.partition_counts()?;
            self.check_partition_count(count)?;
            let mut genesis: Decision<P::Body> =
                Decision::unsealed(self.own_header(epoch, now), Outcome::Genesis, None);
            genesis.genesis = Some(Box::new(Genesis {
                log_id,
                partition: i32::from(self.settings.partition.0),
                partition_count: i32::from(count),
                format: LOG_FORMAT,
            }));
            self.record(&mut records, genesis)?;
        }
        // Genesis already opens the first epoch; every later owner raises it.
        let epoch = if records.is_empty() { epoch } else { epoch + 1 };
        let mut started: Decision<P::Body> =
            Decision::unsealed(self.own_header(epoch, now), Outcome::OwnerStarted, None);
        started.owner_started = Some(Box::new(OwnerStarted {
            build: self.settings.build.clone(),
            schemas: self.settings.schemas.pins(),
        }));
        self.record(&mut records, started)?;
        let records = self.seal(records)?;
        self.log.submit(records)?;
        self.position.next_decision_offset = self.log.await_commit()?;
        self.overlay.flush(self.position.clone())?;
        Ok(())
    }

    /// Of a record about the ownership itself.
    fn own_header(&self, epoch: i32, now: Millis) -> DecisionHeader {
        let log_time = self.position.log_time();
        DecisionHeader { epoch, ..self.header(log_time, now.max(log_time)) }
    }
}

pub(super) fn newer_logic(found: i32, known: i32) -> Stop {
    let what = format!("the partition is activated for logic {found}, this build knows {known}");
    Refused::UnknownFormat(what).into()
}

fn other_log(what: &'static str, found: String, expected: &str) -> Stop {
    Refused::OtherLog { what, found, expected: expected.to_owned() }.into()
}
