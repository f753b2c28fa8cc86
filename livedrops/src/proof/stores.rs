//! The stores of a data folder, held against what the log folds into.

use std::path::Path;

use followers::rows::StateRow as FollowStateRow;
use model::Row;
use reservations::rows::StateRow;
use runtime::{Store, StoreError, state_hash, state_hash_of_rows};
use schemas::ids::Chain;
use schemas::partition::Partition;
use store_rocksdb::RocksStore;

use super::{FollowProof, Proof};
use crate::owners::{ProcessorName, store_folder};

/// The stores of a data folder against the log.
#[derive(Default)]
pub(crate) struct StoresReport {
    /// How many stand at its end and hold what it folds into.
    pub(crate) equal: u64,
    /// How many trail: they stand at a decision of the log, not at its end.
    pub(crate) behind: u64,
    /// What is wrong with which of the others.
    pub(crate) differences: Vec<String>,
    /// Why which of them could not be compared: damaged, or open in another process.
    pub(crate) unreadable: Vec<String>,
}

/// The chain of a partition's decisions, and the rows that they add up to.
struct Logged<'a, I> {
    links: &'a [Chain],
    rows: I,
}

/// Compares every store in `data_dir` with the log. One that differs, or that cannot be read, keeps no other from being
/// looked at: an operator who moves stores away wants to do it once. A partition of which the log has nothing is looked
/// at too: its store may be all that is left of it. With `only`, that partition of the orders, and nothing of the follows.
pub(crate) fn compare_stores(
    data_dir: &Path,
    (partitions, only): (u16, Option<Partition>),
    orders: &Proof,
    follows: &FollowProof,
) -> StoresReport {
    let mut report = StoresReport::default();
    let is_wanted = |partition: &Partition| only.is_none_or(|only| only == *partition);
    for partition in (0..partitions).map(Partition).filter(is_wanted) {
        let of_orders = orders
            .folds
            .get(&partition)
            .map(|fold| Logged { links: &orders.links[&partition], rows: fold.rows::<StateRow>() });
        report.look_at(data_dir, ProcessorName::Reservations, partition, of_orders);
        if only.is_some() {
            continue;
        }
        let of_follows = follows.partitions.get(&partition).map(|(links, report)| {
            let follows = report.follows.values().copied().map(FollowStateRow::Follow);
            let creators = report.creators.values().copied().map(FollowStateRow::Creator);
            Logged { links, rows: follows.chain(creators) }
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
        logged: Option<Logged<'_, impl Iterator<Item = R>>>,
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
    logged: Option<Logged<'_, impl Iterator<Item = R>>>,
) -> Result<Compared, StoreError> {
    let store = RocksStore::open(folder)?;
    let Some(position) = store.position()? else { return Ok(Compared::Behind) };
    let links = logged.as_ref().map_or(&[][..], |logged| logged.links);
    let at = usize::try_from(position.seq).ok().and_then(|seq| links.get(seq..)?.split_first());
    let Some((link, after)) = at else {
        return Ok(Compared::Differs("ahead of the log, which was truncated or replaced"));
    };
    if *link != position.link() {
        return Ok(Compared::Differs("of another history"));
    }
    if !after.is_empty() {
        return Ok(Compared::Behind);
    }
    let is_equal =
        state_hash(&store)? == state_hash_of_rows(logged.into_iter().flat_map(|it| it.rows))?;
    Ok(if is_equal { Compared::Equal } else { Compared::Differs("not the fold of the log") })
}
