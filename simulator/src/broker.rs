//! A transactional log in memory, with what a real one does between the calls: markers that come late, a last
//! stable offset, transaction timeouts, leaders and coordinators that move, requests delayed and repeated.

mod partition_log;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::{DecisionRecord, IntentRecord, Log, LogError, OutgoingDecision};
use schemas::units::Millis;

use crate::defects::{Defect, is_on};
use crate::faults::{Fault, Faults};

pub(crate) use partition_log::PartitionLog;
use partition_log::{Entry, Transaction, TransactionState};

/// After so long a watchdog gives a hanging call up.
const WATCHDOG: Millis = Millis(20_000);
pub(crate) const LOG_ID: &str = "simulated";

/// The cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) now: Millis,
    /// The leaders' clock against true time.
    pub(crate) leader_skew: Millis,
    pub(crate) partitions: Vec<PartitionLog>,
    pub(crate) faults: Faults,
    /// Processes that died inside the call that is running.
    pub(crate) died: Vec<usize>,
    pub(crate) registry_is_away: bool,
    pub(crate) is_truncated: bool,
}

/// Shared by every client.
#[derive(Clone, Debug)]
pub(crate) struct Broker(Arc<Mutex<Cluster>>);

impl Broker {
    pub(crate) fn new(partitions: usize, faults: Faults, now: Millis) -> Self {
        let cluster = Cluster {
            now,
            leader_skew: Millis(0),
            partitions: (0..partitions).map(|_| PartitionLog::default()).collect(),
            faults,
            died: Vec::new(),
            registry_is_away: false,
            is_truncated: false,
        };
        Self(Arc::new(Mutex::new(cluster)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn client(&self, process: usize, partition: usize) -> SimulatedLog {
        let broker = self.clone();
        let (epoch, is_owner, next_intent, idle_reads) = (0, false, 0, 0);
        SimulatedLog { broker, process, partition, epoch, is_owner, next_intent, idle_reads }
    }

    /// Appends an intent; its time is the leader's.
    pub(crate) fn append(&self, partition: usize, value: Vec<u8>) -> i64 {
        let mut cluster = self.lock();
        let append_time = cluster.now.after(cluster.leader_skew);
        let intents = &mut cluster.partitions[partition].intents;
        intents.push((append_time, value));
        offset(intents.len() - 1)
    }

    pub(crate) fn advance(&self, length: Millis) {
        let mut cluster = self.lock();
        cluster.now = cluster.now.after(length);
        let now = cluster.now;
        for partition in 0..cluster.partitions.len() {
            if cluster.partitions[partition].expire(now) {
                cluster.faults.note(Fault::TransactionTimeout);
            }
        }
    }
}

pub(crate) fn offset(index: usize) -> i64 {
    i64::try_from(index).expect("a simulated log is short")
}

fn index(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(0)
}

/// One owner's client.
#[derive(Debug)]
pub(crate) struct SimulatedLog {
    broker: Broker,
    process: usize,
    partition: usize,
    epoch: u64,
    /// Whether it has fenced; a standby has not.
    is_owner: bool,
    next_intent: usize,
    idle_reads: u32,
}

fn lost(what: &str) -> LogError {
    LogError::Recover(what.to_owned())
}

impl SimulatedLog {
    fn with<T>(
        &self,
        act: impl FnOnce(&mut Cluster, usize) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut cluster = self.broker.lock();
        if cluster.died.contains(&self.process) {
            return Err(lost("the process died"));
        }
        let fences = self.is_owner && !is_on(Defect::IgnoreTheFence);
        if fences && cluster.partitions[self.partition].epoch != self.epoch {
            return Err(LogError::Fenced("a newer producer".into()));
        }
        act(&mut cluster, self.partition)
    }
}

impl Log for SimulatedLog {
    fn log_id(&mut self) -> Result<String, LogError> {
        Ok(LOG_ID.into())
    }

    fn partition_counts(&mut self) -> Result<(u16, u16), LogError> {
        let count = u16::try_from(self.broker.lock().partitions.len()).unwrap_or(u16::MAX);
        Ok((count, count))
    }

    fn fence(&mut self) -> Result<(), LogError> {
        let mut cluster = self.broker.lock();
        if cluster.died.contains(&self.process) {
            return Err(lost("the process died"));
        }
        let markers_late = cluster.faults.strikes(Fault::MarkersPending);
        let log = &mut cluster.partitions[self.partition];
        log.epoch += 1;
        log.end_ongoing(false);
        if !markers_late {
            log.write_markers();
        }
        self.epoch = log.epoch;
        self.is_owner = true;
        self.idle_reads = 0;
        Ok(())
    }

    fn intents_range(&mut self) -> Result<Range<i64>, LogError> {
        self.with(|cluster, partition| Ok(0..offset(cluster.partitions[partition].intents.len())))
    }

    fn decisions_range(&mut self) -> Result<Range<i64>, LogError> {
        self.with(|cluster, partition| {
            let log = &cluster.partitions[partition];
            let stable_only = is_on(Defect::RestoreToTheLastStableOffset);
            let end = if stable_only { log.last_stable() } else { log.end() };
            Ok(0..offset(end))
        })
    }

    fn committed_range(&mut self) -> Result<Range<i64>, LogError> {
        self.with(|cluster, partition| Ok(0..offset(cluster.partitions[partition].last_stable())))
    }

    fn read_decisions(&mut self, from: i64) -> Result<(Vec<DecisionRecord>, i64), LogError> {
        self.idle_reads += u32::from(self.is_owner);
        let waited = self.idle_reads > 2;
        if self.idle_reads > 10_000 {
            return Err(LogError::Unreachable("the last stable offset does not move".into()));
        }
        self.with(|cluster, partition| {
            let log = &mut cluster.partitions[partition];
            if waited {
                log.write_markers();
            }
            let (records, next) = log.committed(index(from), 16);
            let records = records
                .into_iter()
                .map(|(at, value)| DecisionRecord { offset: offset(at), value: value.to_vec() });
            Ok((records.collect(), offset(next)))
        })
    }

    fn seek_intents(&mut self, offset: i64) -> Result<(), LogError> {
        self.next_intent = index(offset);
        Ok(())
    }

    fn poll_intents(
        &mut self,
        into: &mut VecDeque<IntentRecord>,
        records_max: usize,
    ) -> Result<bool, LogError> {
        let mut cluster = self.broker.lock();
        // A fetch brings what it brings: batches of every size.
        let fetched = 1 + cluster.faults.below(24);
        let intents = &cluster.partitions[self.partition].intents;
        let room = records_max.saturating_sub(into.len()).min(fetched);
        for (append_time, value) in intents.iter().skip(self.next_intent).take(room) {
            let (append_time, value) = (*append_time, value.clone());
            into.push_back(IntentRecord { offset: offset(self.next_intent), append_time, value });
            self.next_intent += 1;
        }
        Ok(self.next_intent >= intents.len())
    }

    fn submit(&mut self, decisions: Vec<OutgoingDecision>) -> Result<(), LogError> {
        let (epoch, process) = (self.epoch, self.process);
        self.with(|cluster, partition| {
            let leader_moved = cluster.faults.strikes(Fault::ProduceFailed);
            let arrived = if leader_moved {
                cluster.faults.below(decisions.len() + 1)
            } else {
                decisions.len()
            };
            let now = cluster.now;
            let log = &mut cluster.partitions[partition];
            let first = log.decisions.len();
            let state = TransactionState::Ongoing;
            log.transactions.push(Transaction { epoch, state, started_at: now, first });
            let transaction = log.transactions.len() - 1;
            let values = decisions.into_iter().take(arrived).map(|decision| decision.value);
            log.decisions.extend(values.map(|value| Entry::Record { value, transaction }));
            if leader_moved {
                return Err(lost("not the leader any more"));
            }
            if cluster.faults.strikes(Fault::KilledBeforeCommit) {
                cluster.died.push(process);
                return Err(lost("killed after send"));
            }
            Ok(())
        })
    }

    fn await_commit(&mut self) -> Result<i64, LogError> {
        let (epoch, process) = (self.epoch, self.process);
        if self.broker.lock().faults.strikes(Fault::CommitHangs) {
            self.broker.advance(WATCHDOG);
        }
        self.with(|cluster, partition| {
            let request_lost = cluster.faults.strikes(Fault::CommitRequestLost);
            let delayed = request_lost && cluster.faults.strikes(Fault::StaleCommit);
            let answer_lost = cluster.faults.strikes(Fault::CommitAnswerLost);
            let markers_now = cluster.faults.chance(0.6);
            let killed = cluster.faults.strikes(Fault::KilledBeforeStore);
            let log = &mut cluster.partitions[partition];
            let Some(open) = log.ongoing().filter(|open| log.transactions[*open].epoch == epoch)
            else {
                return Err(LogError::Fenced("the transaction was aborted".into()));
            };
            if request_lost {
                log.delayed.extend(delayed.then_some((epoch, open)));
                return Err(lost("commit timed out"));
            }
            let next = offset(log.decisions.len());
            log.end_ongoing(true);
            if markers_now {
                log.write_markers();
            }
            if answer_lost {
                return Err(lost("commit timed out"));
            }
            if killed {
                cluster.died.push(process);
                return Err(lost("killed after commit"));
            }
            Ok(next)
        })
    }

    fn append_tick(&mut self, value: Vec<u8>) -> Result<(), LogError> {
        // A tick may get lost; the owner asks again.
        if self.broker.lock().faults.chance(0.9) {
            self.broker.append(self.partition, value);
        }
        Ok(())
    }

    fn wait_for_intents(&mut self, _timeout: Duration) {}
}
