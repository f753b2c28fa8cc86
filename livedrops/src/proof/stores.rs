//! The stores of a data folder, held against what the log folds into.

use std::cmp::Ordering;
use std::path::Path;

use followers::rows::StateRow as FollowStateRow;
use model::Row;
use reservations::rows::StateRow;
use runtime::{Store, StoreError, state_hash, state_hash_of_rows};
use schemas::partition::Partition;
use store_rocksdb::RocksStore;

use super::{FollowProof, Proof};
use crate::owners::{ProcessorName, store_folder};

/// The stores of a data folder against the log.
#[derive(Default)]
pub(crate) struct StoresReport {
    /// How many stand at its end and hold what it folds into.
    pub(crate) equal: u64,
    /// How many trail: a prefix, not a difference.
    pub(crate) behind: u64,
    /// What is wrong with which of the others.
    pub(crate) differences: Vec<String>,
    /// Why which of them could not be compared: damaged, or open in another process.
    pub(crate) unreadable: Vec<String>,
}

/// Where the decisions of a partition end, and the rows that they add up to.
struct Logged<I> {
    seq: i64,
    chain: String,
    rows: I,
}

/// Compares every store in `data_dir` with the log. One that differs, or that cannot be read, keeps no other from being
/// looked at: an operator who moves stores away wants to do it once. A partition of which the log has nothing is looked
/// at too: its store may be all that is left of it.
pub(crate) fn compare_stores(
    data_dir: &Path,
    partitions: impl Iterator<Item = Partition>,
    orders: &Proof,
    follows: &FollowProof,
) -> StoresReport {
    let mut report = StoresReport::default();
    for partition in partitions {
        let of_orders = orders.folds.get(&partition).map(|fold| Logged {
            seq: orders.seqs[&partition],
            chain: orders.chains[&partition].0.clone(),
            rows: fold.rows::<StateRow>(),
        });
        report.look_at(data_dir, ProcessorName::Reservations, partition, of_orders);
        let of_follows = follows.partitions.get(&partition).map(|(seq, report)| {
            let follows = report.follows.values().copied().map(FollowStateRow::Follow);
            let creators = report.creators.values().copied().map(FollowStateRow::Creator);
            Logged { seq: *seq, chain: report.chain.to_string(), rows: follows.chain(creators) }
        });
        report.look_at(data_dir, ProcessorName::Followers, partition, of_follows);
    }
    report
}

impl StoresReport {
    fn look_at<R: Row>(
        &mut self,
        data_dir: &Path,
        name: ProcessorName,
        partition: Partition,
        logged: Option<Logged<impl Iterator<Item = R>>>,
    ) {
        let folder = store_folder(data_dir, name, partition);
        if !folder.exists() {
            return;
        }
        let processor = name.topology().processor;
        match compare(&folder, logged) {
            Ok(Compared::Equal) => self.equal += 1,
            Ok(Compared::Behind) => self.behind += 1,
            Ok(Compared::Differs(how)) => self
                .differences
                .push(format!("store of partition {partition} of {processor} is {how}")),
            Err(why) => self
                .unreadable
                .push(format!("store of partition {partition} of {processor}: {why}")),
        }
    }
}

enum Compared {
    Equal,
    Behind,
    Differs(&'static str),
}

fn compare<R: Row>(
    folder: &Path,
    logged: Option<Logged<impl Iterator<Item = R>>>,
) -> Result<Compared, StoreError> {
    const AHEAD: Compared = Compared::Differs("ahead of the log, which was truncated or replaced");
    let store = RocksStore::open(folder)?;
    let Some(position) = store.position()? else { return Ok(Compared::Behind) };
    let Some(Logged { seq, chain, rows }) = logged else { return Ok(AHEAD) };
    Ok(match position.seq.cmp(&seq) {
        Ordering::Less => Compared::Behind,
        Ordering::Greater => AHEAD,
        Ordering::Equal if position.link().to_string() != chain => {
            Compared::Differs("of another history")
        }
        Ordering::Equal if state_hash(&store)? != state_hash_of_rows(rows)? => {
            Compared::Differs("not the fold of the log")
        }
        Ordering::Equal => Compared::Equal,
    })
}
