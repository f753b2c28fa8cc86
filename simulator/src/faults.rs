//! What may go wrong, how often in one run, and how often it did.
//!
//! Each run draws its own mix (swarm testing: Groce et al., ISSTA 2012): a fault that is always on hides what
//! happens without it. The numbers are those of the fault list in `docs/simulator.md`.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A kind of fault, injected at a named point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// 1: the process dies after its records are sent, before the commit is.
    KilledBeforeCommit,
    /// 2: the commit happens, its answer is lost.
    CommitAnswerLost,
    /// 3: the process dies between the commit and the store write.
    KilledBeforeStore,
    /// 4: the machine loses power: a suffix of unsynced store writes is gone.
    PowerLost,
    /// 5: the store's folder is deleted.
    StoreDeleted,
    /// 6: an owner is paused, a successor starts, the owner wakes up.
    Paused,
    /// 7: a second owner is started beside the first.
    TwoOwners,
    /// 8: the partition's leader moves while records are sent.
    ProduceFailed,
    /// 9: the coordinator moves: the commit request is lost.
    CommitRequestLost,
    /// 10: the commit does not return until the watchdog gives up.
    CommitHangs,
    /// 11: an old end-of-transaction request arrives late, or twice.
    StaleCommit,
    /// 12: the transaction outlives its timeout and is aborted by the coordinator.
    TransactionTimeout,
    /// 13: a successor recovers while its predecessor's markers are still on their way.
    MarkersPending,
    /// 14: a clock jumps.
    ClockJump,
    /// 15: a poisonous record is appended.
    Poison,
    /// 15: the schema registry is away.
    RegistryAway,
    /// 15: the log loses its end: the partition must refuse.
    LogTruncated,
    /// A buyer's append is acknowledged to nobody; it is repeated.
    AppendUnknown,
    /// The provider declines.
    Declined,
    /// The provider's answer is lost; the call is repeated with its key.
    ProviderTimeout,
    /// A webhook comes twice.
    WebhookTwice,
    /// The payments processor starts again from the log's beginning.
    PaymentsRestarted,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 22] = [
        Self::KilledBeforeCommit,
        Self::CommitAnswerLost,
        Self::KilledBeforeStore,
        Self::PowerLost,
        Self::StoreDeleted,
        Self::Paused,
        Self::TwoOwners,
        Self::ProduceFailed,
        Self::CommitRequestLost,
        Self::CommitHangs,
        Self::StaleCommit,
        Self::TransactionTimeout,
        Self::MarkersPending,
        Self::ClockJump,
        Self::Poison,
        Self::RegistryAway,
        Self::LogTruncated,
        Self::AppendUnknown,
        Self::Declined,
        Self::ProviderTimeout,
        Self::WebhookTwice,
        Self::PaymentsRestarted,
    ];

    fn index(self) -> usize {
        Self::ALL.iter().position(|fault| *fault == self).expect("every kind is in ALL")
    }
}

/// How often each kind was injected.
pub type Counts = [u64; Fault::ALL.len()];

/// The run's one source of chance, and its mix of faults.
#[derive(Debug)]
pub struct Faults {
    pub(crate) rng: StdRng,
    per_mille: [u32; Fault::ALL.len()],
    /// Faults stop when the run is brought to rest.
    pub(crate) are_on: bool,
    pub(crate) counts: Counts,
}

impl Faults {
    /// The mix of a seed; `without` turns kinds off, to find which ones a failure needs.
    #[must_use]
    pub fn new(seed: u64, without: &[Fault]) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut per_mille = [0; Fault::ALL.len()];
        for (fault, rate) in Fault::ALL.iter().zip(&mut per_mille) {
            let drawn = if rng.random_bool(0.5) { rng.random_range(5..80) } else { 0 };
            *rate = if without.contains(fault) { 0 } else { drawn };
        }
        Self { rng, per_mille, are_on: true, counts: [0; Fault::ALL.len()] }
    }

    /// Whether the fault happens here and now; the caller must then make it happen.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        let drawn = self.rng.random_range(0..1_000_u32);
        let strikes = self.are_on && drawn < self.per_mille[fault.index()];
        if strikes {
            self.note(fault);
        }
        strikes
    }

    pub(crate) fn note(&mut self, fault: Fault) {
        self.counts[fault.index()] += 1;
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound.max(1))
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }
}
