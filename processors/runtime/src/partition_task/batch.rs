//! One transaction: due timers and intents, one by one, on the overlay; then log, then store.

use std::panic::{AssertUnwindSafe, catch_unwind};

use model::{Decided, Intent, Processor, Stamp, Timer};
use schemas::decision::{Decision, DecisionHeader, Outcome, Undecodable};
use schemas::framing;
use schemas::ids::IntentId;
use schemas::units::Millis;

use super::intents::{Unread, Waiting, read_intent};
use super::records::Records;
use super::{
    BATCH_BYTES_MAX, CLOCK_AHEAD_MAX, InFlight, PartitionTask, Stop, TICK_INTERVAL_MAX,
    TICK_INTERVAL_MIN, Ticks, Wake,
};
use crate::defect::{Defect, is_on};
use crate::log::Log;
use crate::status::PartitionState;
use crate::store::Store;

/// How often a decision that panics is tried before its intent counts as poison.
const PANIC_TRIES: usize = 3;
/// Most records of continuations in one transaction. Each reads up to 64 rows, which stay in memory until it commits.
const CONTINUED_MAX: usize = 64;
/// Bytes of what a decision says of an intent that cannot be read: a reader's error may quote the whole intent, and a
/// decision that is larger than the log takes would be tried for ever.
const ERROR_BYTES_MAX: usize = 1_024;
/// How soon a stalled partition looks again.
const STALL_PAUSE: Millis = Millis(500);

/// The decisions of one transaction.
#[derive(Default)]
struct Batch {
    records: Records,
    fired: usize,
    continued: usize,
    stalled: Option<String>,
}

/// What became of the first timer.
enum Fired {
    /// None is due.
    Nothing,
    /// It is dealt with.
    Once,
    /// It panics: our bug, not an intent's. It is never skipped, so the partition has to wait.
    Stalled(String),
}

impl Batch {
    fn is_full(&self, records_max: usize) -> bool {
        self.records.len() >= records_max
            || self.records.bytes() >= BATCH_BYTES_MAX
            || self.continued >= CONTINUED_MAX
    }
}

impl<P: Processor, L: Log, S: Store> PartitionTask<P, L, S> {
    pub(super) fn decide_next(&mut self, now: Millis) -> Result<Wake, Stop> {
        self.take_intents()?;
        if self.pending.is_empty() && !self.has_continuation() {
            if self.in_flight.is_none() {
                return self.idle(now);
            }
            // Nothing more is at hand: only now is it worth waiting for the log.
            self.finish()?;
            return Ok(Wake::Now);
        }
        self.read_ahead()?;
        let batch = self.decide_batch(now)?;
        // The transaction before was on its way to the log while this one was decided.
        self.finish()?;
        if batch.fired > 0 {
            self.ticks.interval = TICK_INTERVAL_MIN;
        }
        let is_backlog = batch.records.len() >= self.settings.batching.backlog_min;
        if !batch.records.is_empty() {
            self.submit(batch.records)?;
        }
        let Some(why) = batch.stalled else {
            if !is_backlog {
                self.finish()?;
            }
            self.settings.status.update(|snapshot| snapshot.state = PartitionState::Running);
            return Ok(Wake::Now);
        };
        self.finish()?;
        tracing::error!(processor = P::TOPOLOGY.processor, partition = %self.settings.partition, why, "stalled");
        self.settings.status.update(|snapshot| snapshot.state = PartitionState::Stalled(why));
        Ok(Wake::At(now.after(STALL_PAUSE)))
    }

    /// Sends a transaction off. Its rows stay in the overlay.
    fn submit(&mut self, records: Records) -> Result<(), Stop> {
        let decisions = records.len() as u64;
        let sealed = self.seal(records)?;
        self.log.submit(sealed)?;
        self.overlay.end_transaction();
        if is_on(Defect::StoreBeforeCommit) {
            self.overlay.write(self.position.clone())?;
        }
        self.in_flight = Some(InFlight { decisions, position: self.position.clone() });
        Ok(())
    }

    /// Log, then store: the store never runs ahead of a committed transaction.
    pub(super) fn finish(&mut self) -> Result<(), Stop> {
        let Some(InFlight { decisions, mut position }) = self.in_flight.take() else {
            return Ok(());
        };
        let next_decision_offset = self.log.await_commit()?;
        self.position.next_decision_offset = next_decision_offset;
        position.next_decision_offset = next_decision_offset;
        let (seq, next) = (position.seq, position.next_intent_offset);
        self.overlay.write(position)?;
        self.settings.status.update(|snapshot| {
            (snapshot.seq, snapshot.next_intent_offset) = (seq, next);
            snapshot.transactions += 1;
            snapshot.decisions += decisions;
        });
        Ok(())
    }

    fn decide_batch(&mut self, now: Millis) -> Result<Batch, Stop> {
        let mut batch = Batch::default();
        while !batch.is_full(self.settings.batching.records_max) {
            match self.go_on(&mut batch, now)? {
                Fired::Once => continue,
                Fired::Nothing => {}
                Fired::Stalled(why) => {
                    batch.stalled = Some(why);
                    break;
                }
            }
            let Some(mut intent) = self.pending.pop_front() else { break };
            match self.take(&mut batch, &mut intent, now)? {
                Fired::Once => self.ticks.outstanding = false,
                Fired::Nothing => self.pending.push_front(intent),
                Fired::Stalled(why) => {
                    batch.stalled = Some(why);
                    self.pending.push_front(intent);
                    break;
                }
            }
        }
        Ok(batch)
    }

    /// Decides an intent, or fires the first timer that is due before it: then the intent is still to come.
    fn take(
        &mut self,
        batch: &mut Batch,
        waiting: &mut Waiting<P::Command>,
        now: Millis,
    ) -> Result<Fired, Stop> {
        let intent = &waiting.record;
        if intent.append_time > now.after(CLOCK_AHEAD_MAX) {
            return Ok(Fired::Stalled(format!(
                "intent {} was appended {} ms ahead of this machine's clock: one of the clocks is wrong",
                intent.offset,
                intent.append_time.since(now).0
            )));
        }
        let log_time = self.position.log_time().max(intent.append_time);
        match self.fire_next(batch, intent.offset, log_time, now)? {
            Fired::Once => return Ok(Fired::Nothing),
            Fired::Nothing => {}
            stalled @ Fired::Stalled(_) => return Ok(stalled),
        }
        let stalled = self.decide_intent(batch, waiting, log_time, now)?;
        Ok(stalled.map_or(Fired::Once, Fired::Stalled))
    }

    fn has_continuation(&self) -> bool {
        self.overlay.first_timer().is_some_and(|timer| timer.is_continuation())
    }

    /// One record of the oldest continuation, before any timer or intent.
    fn go_on(&mut self, batch: &mut Batch, now: Millis) -> Result<Fired, Stop> {
        if !self.has_continuation() {
            return Ok(Fired::Nothing);
        }
        batch.continued += 1;
        let (offset, log_time) = (self.position.next_intent_offset, self.position.log_time());
        self.fire_next(batch, offset, log_time, now)
    }

    /// Fires the first timer that is due before the intent at `offset`.
    fn fire_next(
        &mut self,
        batch: &mut Batch,
        offset: i64,
        log_time: Millis,
        now: Millis,
    ) -> Result<Fired, Stop> {
        let judged_at = match () {
            () if is_on(Defect::TimersByWallClock) => now,
            () if is_on(Defect::ExpiryAtTheDeadline) => log_time.after(Millis(1)),
            () if is_on(Defect::TimersAfterTheBatch) && !self.pending.is_empty() => Millis(0),
            () => log_time,
        };
        let first = self.overlay.first_timer();
        let is_late = |timer: &Timer| {
            is_on(Defect::ContinuationsLast) && timer.is_continuation() && !self.pending.is_empty()
        };
        let Some(timer) = first.filter(|timer| timer.is_due(judged_at) && !is_late(timer)) else {
            return Ok(Fired::Nothing);
        };
        let stamp = self.stamp(offset, log_time, now);
        let overlay = &self.overlay;
        let fired = match catch_unwind(AssertUnwindSafe(|| P::fire(overlay, &timer, stamp))) {
            Ok(fired) => fired?,
            Err(panic) => {
                return Ok(Fired::Stalled(format!("{timer:?} panicked: {}", message(&*panic))));
            }
        };
        let Some(body) = fired else {
            self.overlay.drop_timer(&timer);
            return Ok(Fired::Once);
        };
        let header = self.header(log_time, stamp.decided_at);
        self.record(&mut batch.records, Decision::unsealed(header, Outcome::Changed, Some(body)))?;
        batch.fired += 1;
        Ok(Fired::Once)
    }

    /// Decides one intent. `Some` says why the partition has to wait with it.
    fn decide_intent(
        &mut self,
        batch: &mut Batch,
        Waiting { record: intent, ahead }: &mut Waiting<P::Command>,
        log_time: Millis,
        now: Millis,
    ) -> Result<Option<String>, Stop> {
        let stamp = self.stamp(intent.offset, log_time, now);
        let mut header = DecisionHeader {
            intent_offset: Some(intent.offset),
            next_intent_offset: intent.offset + 1,
            ..self.header(log_time, stamp.decided_at)
        };
        let read =
            ahead.take().map_or_else(|| read_intent::<P>(&self.settings.schemas, intent), Ok);
        let read = match read {
            Err(Unread::Stall(why)) => return Ok(Some(why)),
            Err(Unread::Poison(unreadable)) => {
                header.intent_id = unreadable.intent_id;
                Err(unreadable.why)
            }
            Ok(read) => {
                header.intent_id = Some(read.intent_id);
                header.correlation_id.clone_from(&read.correlation_id);
                match self.try_decide(&read, stamp) {
                    Ok(decided) => Ok(decided?),
                    Err(why) => Err(why),
                }
            }
        };
        let decision = match read {
            Ok(decided) => {
                // From this record on, so that a build which does not know it refuses before it misreads.
                let activated = decided.body.as_ref().and_then(P::activated);
                header.logic_version = activated.unwrap_or(header.logic_version);
                Decision::unsealed(header, decided.outcome, decided.body)
            }
            Err(mut error) => {
                error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
                tracing::warn!(
                    processor = P::TOPOLOGY.processor,
                    offset = intent.offset,
                    error,
                    "undecodable"
                );
                let length = i32::try_from(intent.value.len()).unwrap_or(i32::MAX);
                let mut decision = Decision::unsealed(header, Outcome::Undecodable, None);
                decision.undecodable = Some(Box::new(Undecodable { error, length }));
                decision
            }
        };
        self.record(&mut batch.records, decision)?;
        Ok(None)
    }

    /// Decides, catching panics: `Err` after [`PANIC_TRIES`] of them.
    #[allow(clippy::type_complexity, reason = "panic, then read failure, then decision")]
    fn try_decide(
        &self,
        intent: &Intent<P::Command>,
        stamp: Stamp,
    ) -> Result<Result<Decided<P::Body>, model::ReadFailed>, String> {
        let mut last = String::new();
        for _ in 0..PANIC_TRIES {
            let attempt = || P::decide(&self.overlay, &intent.command, stamp);
            match catch_unwind(AssertUnwindSafe(attempt)) {
                Ok(decided) => return Ok(decided),
                Err(panic) => last = format!("deciding it panicked: {}", message(&*panic)),
            }
        }
        Err(last)
    }

    fn stamp(&self, offset: i64, log_time: Millis, now: Millis) -> Stamp {
        Stamp {
            partition: self.settings.partition,
            seq: self.position.seq + 1,
            logic_version: self.position.logic_version,
            offset,
            log_time,
            decided_at: now.max(log_time),
        }
    }

    pub(super) fn header(&self, log_time: Millis, decided_at: Millis) -> DecisionHeader {
        DecisionHeader {
            seq: self.position.seq + 1,
            epoch: self.position.epoch,
            intent_offset: None,
            next_intent_offset: self.position.next_intent_offset,
            intent_id: None,
            correlation_id: None,
            log_time,
            decided_at,
            logic_version: self.position.logic_version,
        }
    }

    /// Nothing to decide: asks for a tick when something is due by the wall clock. The tick only proposes;
    /// its append time in the log decides.
    fn idle(&mut self, now: Millis) -> Result<Wake, Stop> {
        let Some(timer) = self.overlay.first_timer() else {
            return Ok(Wake::OnIntents { until: None });
        };
        let due_at = Millis(timer.deadline.0.saturating_add(i64::from(timer.kind)));
        // The log may take a while to tell that this is its end. A tick too many is harmless, a late hold is not.
        let patience = if self.is_drained { Millis(0) } else { TICK_INTERVAL_MIN };
        let tick_at = due_at.after(patience);
        if now < tick_at {
            return Ok(Wake::OnIntents { until: Some(tick_at) });
        }
        let Ticks { last, outstanding, interval } = self.ticks;
        // An outstanding tick may have got lost on its way: after the longest interval another one goes.
        let pause = if outstanding { TICK_INTERVAL_MAX } else { interval };
        let next = last.map(|last| last.after(pause));
        if let Some(next) = next.filter(|next| next.is_soon(now, pause)) {
            return Ok(Wake::OnIntents { until: Some(next) });
        }
        let mut value = Vec::new();
        framing::start(&mut value, self.settings.schemas.write_id(P::TOPOLOGY.intents.subject));
        value.extend(P::tick(self.new_intent_id(), now));
        self.log.append_tick(value)?;
        let doubled = Millis((interval.0 * 2).min(TICK_INTERVAL_MAX.0));
        self.ticks = Ticks { last: Some(now), outstanding: true, interval: doubled };
        Ok(Wake::OnIntents { until: Some(now.after(TICK_INTERVAL_MIN)) })
    }

    fn new_intent_id(&self) -> IntentId {
        (self.settings.new_intent_id)()
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
