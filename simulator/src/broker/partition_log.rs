//! The records of one partition, and the transactions that they belong to.

use schemas::units::Millis;

/// As in production.
const TRANSACTION_TIMEOUT: Millis = Millis(10_000);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TransactionState {
    Ongoing,
    Ending { commit: bool },
    Ended { committed: bool },
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) epoch: u64,
    pub(super) state: TransactionState,
    pub(super) started_at: Millis,
    pub(super) first: usize,
}

#[derive(Debug)]
pub(super) enum Entry {
    Record { value: Vec<u8>, transaction: usize },
    Marker,
}

/// `intents[p]` and `decisions[p]`.
#[derive(Debug, Default)]
pub(crate) struct PartitionLog {
    pub(crate) intents: Vec<(Millis, Vec<u8>)>,
    pub(super) decisions: Vec<Entry>,
    pub(super) transactions: Vec<Transaction>,
    /// Transactions before this one have their markers.
    ended: usize,
    pub(super) epoch: u64,
    /// End-of-transaction requests that are still under way.
    pub(super) delayed: Vec<(u64, usize)>,
}

impl PartitionLog {
    /// Everything below is decided, and its markers are written.
    pub(super) fn last_stable(&self) -> usize {
        let open = self.transactions[self.ended..]
            .iter()
            .find(|transaction| !matches!(transaction.state, TransactionState::Ended { .. }));
        open.map_or(self.decisions.len(), |transaction| transaction.first)
    }

    fn is_committed(&self, transaction: usize) -> bool {
        self.transactions[transaction].state == TransactionState::Ended { committed: true }
    }

    /// Committed records from `from` on, and where they end.
    pub(crate) fn committed(&self, from: usize, limit: usize) -> (Vec<(usize, &[u8])>, usize) {
        let mut records = Vec::new();
        let end = self.last_stable();
        let mut next = from;
        while next < end && records.len() < limit {
            if let Entry::Record { value, transaction } = &self.decisions[next]
                && self.is_committed(*transaction)
            {
                records.push((next, value.as_slice()));
            }
            next += 1;
        }
        (records, next)
    }

    /// Every record from `from` on, committed or not.
    pub(crate) fn uncommitted(&self, from: usize) -> Vec<(usize, &[u8])> {
        let entries = self.decisions.iter().enumerate().skip(from);
        let records = entries.filter_map(|(offset, entry)| match entry {
            Entry::Record { value, .. } => Some((offset, value.as_slice())),
            Entry::Marker => None,
        });
        records.collect()
    }

    pub(crate) fn end(&self) -> usize {
        self.decisions.len()
    }

    /// The log loses its last committed record and what follows: markers and aborted records alone would be no
    /// loss.
    pub(crate) fn truncate(&mut self) {
        self.write_markers();
        let last = self.committed(0, usize::MAX).0.last().map_or(0, |(at, _)| *at);
        self.decisions.truncate(last);
    }

    /// Ends transactions whose outcome is decided.
    pub(crate) fn write_markers(&mut self) {
        for index in self.ended..self.transactions.len() {
            if let TransactionState::Ending { commit } = self.transactions[index].state {
                self.decisions.push(Entry::Marker);
                self.transactions[index].state = TransactionState::Ended { committed: commit };
            }
            if self.ended == index && self.transactions[index].state != TransactionState::Ongoing {
                self.ended = index + 1;
            }
        }
    }

    pub(super) fn ongoing(&self) -> Option<usize> {
        let last = self.transactions.len().checked_sub(1)?;
        (self.transactions[last].state == TransactionState::Ongoing).then_some(last)
    }

    pub(super) fn end_ongoing(&mut self, commit: bool) {
        if let Some(index) = self.ongoing() {
            self.transactions[index].state = TransactionState::Ending { commit };
        }
    }

    /// The coordinator aborts what is open for too long, and fences its producer.
    pub(super) fn expire(&mut self, now: Millis) -> bool {
        let expired = self.ongoing().is_some_and(|index| {
            now.since(self.transactions[index].started_at) > TRANSACTION_TIMEOUT
        });
        if expired {
            self.epoch += 1;
            self.end_ongoing(false);
        }
        expired
    }

    /// Delivers end-of-transaction requests that were delayed: only those of the current epoch count.
    pub(crate) fn deliver_delayed(&mut self) -> bool {
        let any = !self.delayed.is_empty();
        for (epoch, index) in std::mem::take(&mut self.delayed) {
            let transaction = &mut self.transactions[index];
            if epoch == self.epoch && transaction.state == TransactionState::Ongoing {
                transaction.state = TransactionState::Ending { commit: true };
            }
        }
        any
    }
}
