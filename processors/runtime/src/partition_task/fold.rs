//! The gap between store and log: decisions that are folded into the store, not made again.
//!
//! Where there are many, the owner takes a piece from the log and applies the piece before the last, while a thread
//! decodes the last piece and holds it against the chain.

use std::ops::Range;

use model::Processor;
use schemas::decision::{Decision, verified_link};
use schemas::framing;
use schemas::ids::Chain;

use super::recovery::newer_logic;
use super::{PartitionTask, Phase, Refused, Stop};
use crate::defect::{Defect, is_on};
use crate::log::{DecisionRecord, Log};
use crate::schema_book::{SchemaBook, SchemaProblem};
use crate::store::Store;

/// Decisions folded between two store writes.
const FOLD_RECORDS: usize = 1_000;
/// So many decisions of one read are worth a thread.
const THREAD_RECORDS_MIN: usize = 1_000;

/// A decision that follows its predecessor.
struct Verified<B> {
    offset: i64,
    decision: Decision<B>,
    link: Chain,
}

/// What one read of the log brought.
pub(super) struct Piece<B> {
    decisions: Vec<Verified<B>>,
    /// Where to go on reading.
    next_decision_offset: i64,
    /// Why the decisions end here and not where the read did.
    failure: Option<Stop>,
}

/// The last decision before a piece.
#[derive(Clone, Copy)]
struct Last {
    seq: i64,
    link: Chain,
}

impl<P: Processor, L: Log, S: Store> PartitionTask<P, L, S> {
    /// Folds the decisions from where the store stands to the end of `decisions`.
    pub(super) fn fold_gap(&mut self, log_id: &str, decisions: Range<i64>) -> Result<(), Stop> {
        let mut at = self.position.next_decision_offset;
        if at > decisions.end {
            return Err(Refused::StoreAhead { store: at, log: decisions.end }.into());
        }
        if at < decisions.start {
            let start = decisions.start;
            let what = format!("decisions {at}..{start} are gone, the store has not seen them");
            return Err(Refused::Truncated(what).into());
        }
        let mut last = Last { seq: self.position.seq, link: self.position.link() };
        let mut unwritten = 0;
        loop {
            let read = (at < decisions.end).then(|| self.log.read_decisions(at));
            let piece = self.verifying.outcome().transpose()?;
            if let Some(Verified { decision, link, .. }) =
                piece.as_ref().and_then(|piece| piece.decisions.last())
            {
                last = Last { seq: decision.header.seq, link: *link };
            }
            // What was read before is kept, and refused where it has to be, even if nothing more can be read.
            let end = match read {
                None => Some(Ok(())),
                Some(Err(error)) => Some(Err(error)),
                Some(Ok((records, next))) => {
                    at = next;
                    self.start_to_verify(records, next, last);
                    None
                }
            };
            if let Some(piece) = piece {
                unwritten += piece.decisions.len();
                self.fold_piece(piece, log_id)?;
                if unwritten >= FOLD_RECORDS {
                    self.overlay.flush(self.position.clone())?;
                    unwritten = 0;
                }
            }
            if let Some(end) = end {
                if unwritten > 0 {
                    self.overlay.flush(self.position.clone())?;
                }
                return Ok(end?);
            }
        }
    }

    fn start_to_verify(&mut self, records: Vec<DecisionRecord>, next: i64, last: Last) {
        let schemas = self.settings.schemas.clone();
        let is_many = records.len() >= THREAD_RECORDS_MIN;
        self.verifying
            .start_if(is_many, move || Ok(verify_piece::<P>(&schemas, &records, next, last)));
    }

    fn fold_piece(&mut self, piece: Piece<P::Body>, log_id: &str) -> Result<(), Stop> {
        for decision in piece.decisions {
            self.fold(decision, log_id)?;
        }
        if let Some(failure) = piece.failure {
            return Err(failure);
        }
        // A standby has not fenced: where it was shown no record, there may be one that it has to come back for.
        if !matches!(self.phase, Phase::Standby { .. }) {
            self.position.next_decision_offset = piece.next_decision_offset;
        }
        Ok(())
    }

    fn fold(&mut self, verified: Verified<P::Body>, log_id: &str) -> Result<(), Stop> {
        let Verified { offset, decision, link } = verified;
        if let Some(genesis) = &decision.genesis {
            self.check_genesis(genesis, log_id)?;
        }
        let position = &mut self.position;
        let undecided = position.next_intent_offset;
        position.next_decision_offset = offset + 1;
        position.follow(&decision.header, link);
        if is_on(Defect::RedecideOnRecovery) {
            position.next_intent_offset = undecided;
        }
        if let Some(body) = decision.body {
            P::changes(body).try_for_each(|change| self.overlay.apply(change))?;
        }
        Ok(())
    }
}

/// Decodes decisions and holds them against the chain, up to the first that does not follow.
fn verify_piece<P: Processor>(
    schemas: &SchemaBook,
    records: &[DecisionRecord],
    next_decision_offset: i64,
    mut last: Last,
) -> Piece<P::Body> {
    let mut piece =
        Piece { decisions: Vec::with_capacity(records.len()), next_decision_offset, failure: None };
    for record in records {
        match verify::<P>(schemas, record, last) {
            Ok(verified) => {
                last = Last { seq: verified.decision.header.seq, link: verified.link };
                piece.decisions.push(verified);
            }
            Err(stop) => {
                piece.failure = Some(stop);
                break;
            }
        }
    }
    piece
}

fn verify<P: Processor>(
    schemas: &SchemaBook,
    record: &DecisionRecord,
    last: Last,
) -> Result<Verified<P::Body>, Stop> {
    let offset = record.offset;
    let decision = read_decision::<P>(schemas, record)?;
    let (expected, found) = (last.seq + 1, decision.header.seq);
    if found != expected {
        return Err(Refused::SequenceGap { offset, expected, found }.into());
    }
    let Some(link) = verified_link(last.link, &record.value) else {
        return Err(Refused::BrokenChain { offset }.into());
    };
    if decision.header.logic_version > P::LOGIC_VERSION {
        return Err(newer_logic(decision.header.logic_version, P::LOGIC_VERSION));
    }
    Ok(Verified { offset, decision, link })
}

fn read_decision<P: Processor>(
    schemas: &SchemaBook,
    record: &DecisionRecord,
) -> Result<Decision<P::Body>, Stop> {
    let refuse = |why: String| {
        let what = format!("decision at offset {}: {why}", record.offset);
        Stop::from(Refused::UnknownFormat(what))
    };
    let (id, datum) = framing::split(&record.value).map_err(|error| refuse(error.to_string()))?;
    let codec =
        schemas.codec(id, P::TOPOLOGY.decisions.subject).map_err(|problem| match problem {
            SchemaProblem::Poison(why) => refuse(why),
            SchemaProblem::Stall(why) => Stop::Unreachable(why),
        })?;
    codec.decode(datum).map_err(|error| refuse(error.to_string()))
}
