//! The gap between store and log: decisions that are folded into the store, not made again.
//!
//! Where there are many, the owner takes pieces from the log and applies those that are verified, while two threads
//! decode a piece each and hold it against the chain. Neither waits for the piece before: a decision ends with its link,
//! so what the last one of a piece says of itself is known at once, and if it is not so, that piece is refused. Of a
//! decision that leaves a lone row only that row's bytes are kept (`model::LoneRow`).

use std::ops::Range;

use model::{LoneRow, Processor, RowChange, RowKey};
use schemas::decision::{Decision, DecisionHeader, Genesis, claimed_link, verified_link};
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

/// What a verified decision does to the rows.
enum Change<R> {
    /// It leaves one row, whose bytes end here in the piece's `values`.
    Lone(RowKey, usize),
    /// One of the changes of any other.
    Row(RowChange<R>),
}

/// What one read of the log brought, up to the first decision that does not follow its predecessor.
pub(super) struct Piece<R> {
    decisions: usize,
    /// To be held against the log before anything is applied.
    geneses: Vec<Genesis>,
    changes: Vec<Change<R>>,
    /// Of lone rows, one after the other.
    values: Vec<u8>,
    /// The last decision: its offset, header and link.
    last: Option<(i64, DecisionHeader, Chain)>,
    /// Where to go on reading.
    next_decision_offset: i64,
    /// Why the decisions end here and not where the read did.
    failure: Option<Stop>,
}

impl<R> Piece<R> {
    fn new(records: usize, next_decision_offset: i64) -> Self {
        let (geneses, values, changes) = (Vec::new(), Vec::new(), Vec::with_capacity(records));
        let (last, failure) = (None, None);
        Self { decisions: 0, geneses, changes, values, last, next_decision_offset, failure }
    }
}

/// The last decision before a piece.
#[derive(Clone, Copy)]
struct Last {
    seq: i64,
    link: Chain,
}

impl Last {
    /// The last of these decisions that follow, if they are what they say.
    fn after(self, records: &[DecisionRecord]) -> Self {
        let Some(record) = records.last() else { return self };
        let count = i64::try_from(records.len()).expect("a read fits into memory");
        Self { seq: self.seq + count, link: claimed_link(&record.value) }
    }
}

impl<P: Processor, L: Log, S: Store> PartitionTask<P, L, S> {
    /// Folds the decisions from where the store stands to the end of `decisions`.
    pub(super) fn fold_gap(&mut self, log_id: &str, decisions: Range<i64>) -> Result<(), Stop> {
        let at = self.position.next_decision_offset;
        if at > decisions.end {
            return Err(Refused::StoreAhead { store: at, log: decisions.end }.into());
        }
        if at < decisions.start {
            let start = decisions.start;
            let what = format!("decisions {at}..{start} are gone, the store has not seen them");
            return Err(Refused::Truncated(what).into());
        }
        let folded = self.fold_from(at, decisions.end, log_id);
        // Where it went wrong, what follows was read in vain.
        self.verifying.iter_mut().for_each(|verifier| drop(verifier.outcome()));
        folded
    }

    fn fold_from(&mut self, mut at: i64, end: i64, log_id: &str) -> Result<(), Stop> {
        let mut last = Last { seq: self.position.seq, link: self.position.link() };
        let mut unwritten = 0;
        let mut all_read = Ok(());
        while at < end && all_read.is_ok() {
            let read = self.log.read_decisions(at);
            let verified = self.verifying[0].outcome().transpose()?;
            let is_over = verified.as_ref().is_some_and(|piece| piece.failure.is_some());
            match read {
                Ok(_) if is_over => {} // the failure is returned below
                Ok((records, next)) => {
                    at = next;
                    let after = last.after(&records);
                    self.start_to_verify(records, next, last);
                    last = after;
                }
                Err(error) => all_read = Err(error),
            }
            self.fold_verified(verified, &mut unwritten, log_id)?;
        }
        // What was read before is kept, and refused where it has to be, even if nothing more can be read.
        for index in 0..self.verifying.len() {
            let verified = self.verifying[index].outcome().transpose()?;
            self.fold_verified(verified, &mut unwritten, log_id)?;
        }
        if unwritten > 0 {
            self.overlay.flush(self.position.clone())?;
        }
        Ok(all_read?)
    }

    /// Gives a piece to the first verifier, which is the last from then on.
    fn start_to_verify(&mut self, records: Vec<DecisionRecord>, next: i64, last: Last) {
        let schemas = self.settings.schemas.clone();
        let is_many = records.len() >= THREAD_RECORDS_MIN;
        self.verifying[0]
            .start_if(is_many, move || Ok(verify_piece::<P>(&schemas, &records, next, last)));
        self.verifying.rotate_left(1);
    }

    fn fold_verified(
        &mut self,
        piece: Option<Piece<P::Row>>,
        unwritten: &mut usize,
        log_id: &str,
    ) -> Result<(), Stop> {
        let Some(piece) = piece else { return Ok(()) };
        *unwritten += piece.decisions;
        self.fold_piece(piece, log_id)?;
        if *unwritten >= FOLD_RECORDS {
            self.overlay.flush(self.position.clone())?;
            *unwritten = 0;
        }
        Ok(())
    }

    fn fold_piece(&mut self, piece: Piece<P::Row>, log_id: &str) -> Result<(), Stop> {
        for genesis in &piece.geneses {
            self.check_genesis(genesis, log_id)?;
        }
        let lone_keys = piece.changes.iter().filter_map(|change| match change {
            Change::Lone(key, _) => Some(key),
            Change::Row(_) => None,
        });
        self.overlay.note(lone_keys)?;
        let mut start = 0;
        for change in piece.changes {
            match change {
                Change::Lone(key, end) => {
                    self.overlay.put_noted(key, &piece.values[start..end]);
                    start = end;
                }
                Change::Row(change) => self.overlay.apply(change)?,
            }
        }
        if let Some((offset, header, link)) = &piece.last {
            let position = &mut self.position;
            let undecided = position.next_intent_offset;
            position.next_decision_offset = offset + 1;
            position.follow(header);
            position.chain = link.0;
            if is_on(Defect::RedecideOnRecovery) {
                position.next_intent_offset = undecided;
            }
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
}

/// Decodes decisions and holds them against the chain, up to the first that does not follow.
fn verify_piece<P: Processor>(
    schemas: &SchemaBook,
    records: &[DecisionRecord],
    next_decision_offset: i64,
    mut last: Last,
) -> Piece<P::Row> {
    let mut piece = Piece::new(records.len(), next_decision_offset);
    for record in records {
        match verify::<P>(schemas, record, last, &mut piece) {
            Ok(verified) => last = verified,
            Err(stop) => {
                piece.failure = Some(stop);
                break;
            }
        }
    }
    piece
}

/// Adds a decision to the piece, if it follows the last.
fn verify<P: Processor>(
    schemas: &SchemaBook,
    record: &DecisionRecord,
    last: Last,
    piece: &mut Piece<P::Row>,
) -> Result<Last, Stop> {
    let refuse = |error: &dyn std::fmt::Display| unreadable(record.offset, error);
    let (id, datum) = framing::split(&record.value).map_err(|error| refuse(&error))?;
    let codec =
        schemas.codec(id, P::TOPOLOGY.decisions.subject).map_err(|problem| match problem {
            SchemaProblem::Poison(why) => refuse(&why),
            SchemaProblem::Stall(why) => Stop::Unreachable(why),
        })?;
    let lone = if codec.is_current() { P::lone_row(datum) } else { None };
    let (header, link) = if let Some(LoneRow { header, key, bytes }) = lone {
        let link = link_after::<P>(last, &header, record)?;
        piece.values.extend_from_slice(&datum[bytes]);
        piece.changes.push(Change::Lone(key, piece.values.len()));
        (header, link)
    } else {
        let decision: Decision<P::Body> = codec.decode(datum).map_err(|error| refuse(&error))?;
        let link = link_after::<P>(last, &decision.header, record)?;
        piece.geneses.extend(decision.genesis.map(|genesis| *genesis));
        let changes = decision.body.into_iter().flat_map(P::changes);
        piece.changes.extend(changes.map(Change::Row));
        (decision.header, link)
    };
    piece.decisions += 1;
    let verified = Last { seq: header.seq, link };
    piece.last = Some((record.offset, header, link));
    Ok(verified)
}

/// The link of a decision that follows the last and that this build may fold.
fn link_after<P: Processor>(
    last: Last,
    header: &DecisionHeader,
    record: &DecisionRecord,
) -> Result<Chain, Stop> {
    let offset = record.offset;
    let (expected, found) = (last.seq + 1, header.seq);
    if found != expected {
        return Err(Refused::SequenceGap { offset, expected, found }.into());
    }
    let Some(link) = verified_link(last.link, &record.value) else {
        return Err(Refused::BrokenChain { offset }.into());
    };
    if header.logic_version > P::LOGIC_VERSION {
        return Err(newer_logic(header.logic_version, P::LOGIC_VERSION));
    }
    Ok(link)
}

fn unreadable(offset: i64, error: &dyn std::fmt::Display) -> Stop {
    Refused::UnknownFormat(format!("decision at offset {offset}: {error}")).into()
}
