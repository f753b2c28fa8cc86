//! The records of one transaction: encoded one by one as they are decided, chained piece by piece.
//!
//! No decision depends on the chain, so a backlog's records are sealed by a thread while the next ones are decided.

use model::Processor;
use schemas::decision::{Decision, seal};
use schemas::framing;
use schemas::ids::Chain;

use super::{PartitionTask, Stop};
use crate::log::{Log, OutgoingDecision};
use crate::store::Store;

/// Most records have less.
const RECORD_BYTES: usize = 512;

/// Decisions of a transaction that is being made.
#[derive(Default)]
pub(super) struct Records {
    count: usize,
    bytes: usize,
    sealed: Vec<OutgoingDecision>,
    /// The last ones. Between these and the sealed ones a piece may be at the thread that seals.
    open: Vec<OutgoingDecision>,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Records one after the other, and the link of the last.
pub(super) struct Sealed {
    records: Vec<OutgoingDecision>,
    link: Chain,
}

fn sealed(mut link: Chain, mut records: Vec<OutgoingDecision>) -> Sealed {
    for record in &mut records {
        link = seal(link, &mut record.value);
    }
    Sealed { records, link }
}

impl<P: Processor, L: Log, S: Store> PartitionTask<P, L, S> {
    /// Encodes a decision, moves the position past it, but for its link, and applies its rows.
    pub(super) fn record(
        &mut self,
        records: &mut Records,
        decision: Decision<P::Body>,
    ) -> Result<(), Stop> {
        let key = decision.body.as_ref().and_then(P::record_key);
        let mut value = Vec::with_capacity(RECORD_BYTES);
        framing::start(&mut value, self.settings.schemas.write_id(P::TOPOLOGY.decisions.subject));
        P::decision_codec().encode(&decision, &mut value);
        self.position.follow(&decision.header);
        records.count += 1;
        records.bytes += value.len();
        records.open.push(OutgoingDecision { key, value });
        if records.open.len() >= self.settings.batching.backlog_min {
            self.take_sealed(records)?;
            let (link, piece) = (self.position.link(), std::mem::take(&mut records.open));
            self.sealing.start(move || Ok(sealed(link, piece)));
        }
        if let Some(body) = decision.body {
            P::changes(body).try_for_each(|change| self.overlay.apply(change))?;
        }
        Ok(())
    }

    /// Waits for the piece that is being sealed.
    fn take_sealed(&mut self, records: &mut Records) -> Result<(), Stop> {
        if let Some(piece) = self.sealing.outcome() {
            let mut piece = piece?;
            self.position.chain = piece.link.0;
            records.sealed.append(&mut piece.records);
        }
        Ok(())
    }

    /// The whole transaction, sealed; the position has its last link.
    pub(super) fn seal(&mut self, mut records: Records) -> Result<Vec<OutgoingDecision>, Stop> {
        self.take_sealed(&mut records)?;
        let mut rest = sealed(self.position.link(), records.open);
        self.position.chain = rest.link.0;
        records.sealed.append(&mut rest.records);
        Ok(records.sealed)
    }
}
