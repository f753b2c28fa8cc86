//! A transactional log in memory with the faults a real one has.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use runtime::{DecisionRecord, IntentRecord, Log, LogError, OutgoingDecision};
use schemas::units::Millis;

/// What happens to the next commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CommitFault {
    /// The request never arrives.
    LostRequest,
    /// The commit happens, the answer is lost.
    LostAnswer,
}

#[derive(Default)]
pub(crate) struct Shared {
    /// Whether it never says that its end is reached.
    pub(crate) hides_its_end: bool,
    pub(crate) intents: Vec<(Millis, Vec<u8>)>,
    pub(crate) first_intent: i64,
    /// `None` is a marker: it consumes an offset.
    pub(crate) decisions: Vec<Option<Vec<u8>>>,
    /// Where they stop being committed for good; `None` for their end.
    pub(crate) last_stable: Option<i64>,
    /// Most of them in one read.
    pub(crate) read_max: usize,
    pub(crate) owner: u64,
    pub(crate) fault: Option<CommitFault>,
    pub(crate) log_id: String,
    pub(crate) partitions: (u16, u16),
    pub(crate) unreachable: bool,
    /// The read of decisions that reaches this offset fails, once.
    pub(crate) fails_reading: Option<i64>,
    pub(crate) ticks: usize,
    /// The broker's clock, for ticks.
    pub(crate) clock: Millis,
}

impl Shared {
    fn stable_end(&self) -> i64 {
        self.last_stable.unwrap_or_else(|| end(&self.decisions))
    }
}

#[derive(Clone)]
pub(crate) struct Broker(Arc<Mutex<Shared>>);

impl Broker {
    pub(crate) fn new() -> Self {
        // A few at a time, so that folding in pieces is exercised.
        let (read_max, log_id, partitions) = (3, "log-1".into(), (1, 1));
        let shared = Shared { read_max, log_id, partitions, ..Shared::default() };
        Self(Arc::new(Mutex::new(shared)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap()
    }

    pub(crate) fn client(&self) -> MemoryLog {
        MemoryLog { broker: self.clone(), owner: None, next_intent: 0, transaction: Vec::new() }
    }
}

pub(crate) struct MemoryLog {
    broker: Broker,
    /// `None` until it has fenced: a standby.
    owner: Option<u64>,
    next_intent: i64,
    transaction: Vec<OutgoingDecision>,
}

fn index(offset: i64) -> usize {
    usize::try_from(offset).unwrap()
}

fn end<T>(records: &[T]) -> i64 {
    i64::try_from(records.len()).unwrap()
}

impl MemoryLog {
    fn reach(&self) -> Result<MutexGuard<'_, Shared>, LogError> {
        let shared = self.broker.lock();
        if shared.unreachable {
            return Err(LogError::Unreachable("broker away".into()));
        }
        if self.owner.is_some_and(|owner| owner != shared.owner) {
            return Err(LogError::Fenced("a newer producer".into()));
        }
        Ok(shared)
    }
}

impl Log for MemoryLog {
    fn log_id(&mut self) -> Result<String, LogError> {
        Ok(self.reach()?.log_id.clone())
    }

    fn partition_counts(&mut self) -> Result<(u16, u16), LogError> {
        Ok(self.reach()?.partitions)
    }

    fn fence(&mut self) -> Result<(), LogError> {
        self.transaction.clear();
        let mut shared = self.broker.lock();
        if shared.unreachable {
            return Err(LogError::Unreachable("broker away".into()));
        }
        shared.owner += 1;
        self.owner = Some(shared.owner);
        Ok(())
    }

    fn intents_range(&mut self) -> Result<Range<i64>, LogError> {
        let shared = self.reach()?;
        Ok(shared.first_intent..end(&shared.intents))
    }

    fn decisions_range(&mut self) -> Result<Range<i64>, LogError> {
        Ok(0..end(&self.reach()?.decisions))
    }

    fn committed_range(&mut self) -> Result<Range<i64>, LogError> {
        Ok(0..self.reach()?.stable_end())
    }

    fn read_decisions(&mut self, from: i64) -> Result<(Vec<DecisionRecord>, i64), LogError> {
        let mut shared = self.reach()?;
        if shared.fails_reading.take_if(|offset| from >= *offset).is_some() {
            return Err(LogError::Unreachable("broker slow".into()));
        }
        let until = (index(from) + shared.read_max).min(index(shared.stable_end()));
        let records = (index(from)..until).filter_map(|offset| {
            let value = shared.decisions[offset].clone()?;
            Some(DecisionRecord { offset: i64::try_from(offset).unwrap(), value })
        });
        Ok((records.collect(), i64::try_from(until).unwrap()))
    }

    fn seek_intents(&mut self, offset: i64) -> Result<(), LogError> {
        self.next_intent = offset;
        Ok(())
    }

    fn poll_intents(
        &mut self,
        into: &mut VecDeque<IntentRecord>,
        records_max: usize,
    ) -> Result<bool, LogError> {
        let shared = self.broker.lock();
        while into.len() < records_max
            && let Some((append_time, value)) = shared.intents.get(index(self.next_intent))
        {
            let (append_time, value) = (*append_time, value.clone());
            into.push_back(IntentRecord { offset: self.next_intent, append_time, value });
            self.next_intent += 1;
        }
        Ok(!shared.hides_its_end && self.next_intent == end(&shared.intents))
    }

    fn submit(&mut self, decisions: Vec<OutgoingDecision>) -> Result<(), LogError> {
        drop(self.reach()?);
        self.transaction = decisions;
        Ok(())
    }

    fn await_commit(&mut self) -> Result<i64, LogError> {
        let records = std::mem::take(&mut self.transaction);
        let mut shared = self.reach()?;
        let fault = shared.fault.take();
        if fault == Some(CommitFault::LostRequest) {
            return Err(LogError::Recover("commit timed out".into()));
        }
        shared.decisions.extend(records.into_iter().map(|record| Some(record.value)));
        let next = end(&shared.decisions);
        shared.decisions.push(None);
        match fault {
            Some(_) => Err(LogError::Recover("commit timed out".into())),
            None => Ok(next),
        }
    }

    fn append_tick(&mut self, value: Vec<u8>) -> Result<(), LogError> {
        let mut shared = self.reach()?;
        let clock = shared.clock;
        shared.ticks += 1;
        shared.intents.push((clock, value));
        Ok(())
    }

    fn wait_for_intents(&mut self, _timeout: Duration) {}
}
