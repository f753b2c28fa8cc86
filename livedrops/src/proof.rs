//! The proof: the whole log read back, audited, and compared with everything derived from it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use auditor::{Finding, Fold, LoggedDecision, LoggedIntent};
use clickhouse_views::{ClickhouseViews, facts_of};
use postgres_views::{OrderDigest, PostgresViews};
use reservations::rows::StateRow;
use runtime::{
    CommittedRecord, SchemaBook, Store, StoreError, TailStart, state_hash, state_hash_of_rows,
};
use schemas::follow::FollowBody;
use schemas::framing;
use schemas::ids::DropId;
use schemas::partition::Partition;
use schemas::topics::{FOLLOW_DECISIONS, ORDER_DECISIONS, ORDER_INTENTS, Topic};
use serde::Serialize;
use store_rocksdb::RocksStore;

use crate::failure::Failure;
use crate::log_handle::LogHandle;
use crate::owners::{ProcessorName, store_folder};
use crate::tails::{read_decision, read_to_end};

/// One partition's records, as the log holds them.
#[derive(Default)]
struct PartitionRecords {
    intents: Vec<LoggedIntent>,
    decisions: Vec<LoggedDecision>,
}

/// What the log proves.
pub(crate) struct Proof {
    pub(crate) findings: Vec<(Partition, Finding)>,
    /// Rows per partition.
    pub(crate) folds: BTreeMap<Partition, Fold>,
    pub(crate) intents: usize,
    pub(crate) decided: i64,
    pub(crate) undecided: i64,
    pub(crate) duplicates: usize,
    /// Last link of every partition's chain, and the first retained intent.
    pub(crate) chains: BTreeMap<Partition, (String, i64)>,
    /// Last sequence number of every partition.
    pub(crate) seqs: BTreeMap<Partition, i64>,
    tally: clickhouse_views::Tally,
    facts: u64,
}

/// Every committed record of a topic.
fn read_topic(log: &LogHandle, topic: Topic) -> Result<Vec<CommittedRecord>, Failure> {
    let mut records = Vec::new();
    read_to_end(
        log,
        topic,
        |_| TailStart::Beginning,
        |record| {
            records.push(record);
            ControlFlow::Continue(())
        },
    )?;
    Ok(records)
}

/// Reads and audits the follow decisions: what is wrong, and how many pairs follow.
pub(crate) fn prove_follows(
    log: &LogHandle,
    schemas: &SchemaBook,
) -> Result<(Vec<(Partition, Finding)>, usize), Failure> {
    let mut partitions: BTreeMap<Partition, Vec<LoggedDecision<FollowBody>>> = BTreeMap::new();
    for record in read_topic(log, FOLLOW_DECISIONS)? {
        let decision = read_decision(schemas, FOLLOW_DECISIONS, &record.value).map_err(|why| {
            Failure::check(format!("decision at offset {}: {why}", record.offset))
        })?;
        let logged = LoggedDecision { offset: record.offset, value: record.value, decision };
        partitions.entry(record.partition).or_default().push(logged);
    }
    let mut findings = Vec::new();
    let mut pairs = 0;
    for (partition, decisions) in partitions {
        let (sets, _, found) = auditor::follows::audit(&decisions);
        pairs += sets.values().map(std::collections::BTreeSet::len).sum::<usize>();
        findings.extend(found.into_iter().map(|finding| (partition, finding)));
    }
    Ok((findings, pairs))
}

/// Reads and audits the order topics; with `only`, what is about that drop.
pub(crate) fn prove(
    log: &LogHandle,
    schemas: &SchemaBook,
    only: Option<DropId>,
) -> Result<Proof, Failure> {
    let mut partitions: BTreeMap<Partition, PartitionRecords> = BTreeMap::new();
    // Decisions first: an intent decided after this is not missing, only later.
    for record in read_topic(log, ORDER_DECISIONS)? {
        let decision = read_decision(schemas, ORDER_DECISIONS, &record.value).map_err(|why| {
            Failure::check(format!("decision at offset {}: {why}", record.offset))
        })?;
        let logged = LoggedDecision { offset: record.offset, value: record.value, decision };
        partitions.entry(record.partition).or_default().decisions.push(logged);
    }
    for record in read_topic(log, ORDER_INTENTS)? {
        let codec = framing::split(&record.value)
            .ok()
            .and_then(|(id, datum)| Some((schemas.codec(id, ORDER_INTENTS.subject).ok()?, datum)));
        let intent = codec.and_then(|(codec, datum)| codec.decode(datum).ok());
        let logged =
            LoggedIntent { offset: record.offset, append_time: record.append_time, intent };
        partitions.entry(record.partition).or_default().intents.push(logged);
    }
    let wanted = only.map(|drop| drop.partition(log.partitions()));
    partitions.retain(|partition, _| wanted.is_none_or(|wanted| wanted == *partition));
    Ok(audit(partitions))
}

fn audit(partitions: BTreeMap<Partition, PartitionRecords>) -> Proof {
    let mut proof = Proof {
        findings: Vec::new(),
        folds: BTreeMap::new(),
        intents: 0,
        decided: 0,
        undecided: 0,
        duplicates: 0,
        chains: BTreeMap::new(),
        seqs: BTreeMap::new(),
        tally: BTreeMap::new(),
        facts: 0,
    };
    for (partition, records) in partitions {
        let report = auditor::audit(&records.intents, &records.decisions);
        let offsets: Vec<_> =
            records.decisions.iter().filter_map(|d| d.decision.header.intent_offset).collect();
        let distinct: std::collections::BTreeSet<_> = offsets.iter().collect();
        proof.duplicates += offsets.len() - distinct.len();
        for logged in &records.decisions {
            for fact in facts_of(partition, logged.offset, &logged.decision) {
                let key = (fact.outcome.into(), fact.status.into(), fact.reason.into());
                let (count, units) = proof.tally.entry(key).or_default();
                *count += 1;
                *units += fact.units;
                proof.facts += 1;
            }
        }
        proof.intents += records.intents.len();
        proof.decided += report.decided;
        proof.undecided += report.undecided;
        proof.findings.extend(report.findings.into_iter().map(|finding| (partition, finding)));
        proof.folds.insert(partition, report.fold);
        proof.chains.insert(partition, (report.chain.to_string(), report.intents_from));
        let last = records.decisions.last().map_or(-1, |last| last.decision.header.seq);
        proof.seqs.insert(partition, last);
    }
    proof
}

/// A view against the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ViewReport {
    /// Rows compared.
    pub(crate) rows: u64,
    /// Whether each equals the log.
    pub(crate) equal: bool,
    /// The first difference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) difference: Option<String>,
}

impl Proof {
    /// Units sold beyond the stock.
    pub(crate) fn oversold(&self) -> i64 {
        self.folds.values().map(auditor::stock::oversold).sum()
    }

    fn digests(&self) -> Vec<OrderDigest> {
        // Views keep what the writer has forgotten.
        let orders = self
            .folds
            .values()
            .flat_map(|fold| fold.orders.values().chain(fold.archived_orders.values()));
        let mut digests: Vec<_> = orders
            .map(|order| OrderDigest {
                id: order.order_id,
                status: order.status.as_str().to_owned(),
                reason: order.reason.map(|reason| reason.as_str().to_owned()),
                version: order.version,
                total: order.total.0,
                qty: order.lines.iter().map(|line| i64::from(line.qty)).sum(),
            })
            .collect();
        digests.sort();
        digests
    }

    /// Waits until Postgres has folded everything proved here, then compares every order and counter.
    pub(crate) async fn compare_postgres(
        &self,
        views: &PostgresViews,
        patience: Duration,
    ) -> Result<ViewReport, Failure> {
        let started = platform::clock::monotonic();
        loop {
            let at = views.positions(ORDER_DECISIONS.name).await.map_err(Failure::unreachable)?;
            let behind = self.seqs.iter().find(|(partition, seq)| {
                at.get(partition).map_or(-1, |position| position.seq) < **seq
            });
            let Some((partition, seq)) = behind else { break };
            if started.elapsed() > patience {
                let difference = Some(format!("partition {partition} has not reached seq {seq}"));
                return Ok(ViewReport { rows: 0, equal: false, difference });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let found = views.order_digests().await.map_err(Failure::unreachable)?;
        let expected = self.digests();
        let mut difference = first_difference(&expected, &found);
        let stocks = views.stocks().await.map_err(Failure::unreachable)?;
        let mut logged: Vec<_> = self
            .folds
            .values()
            .flat_map(|fold| fold.stocks.values().chain(&fold.archived_stocks).copied())
            .collect();
        logged.sort_by_key(|stock| (stock.drop_id, stock.variant_id));
        difference = difference.or_else(|| first_difference(&logged, &stocks));
        Ok(ViewReport { rows: found.len() as u64, equal: difference.is_none(), difference })
    }

    /// Waits until `ClickHouse` holds every decision proved here, then compares counts and units by outcome.
    pub(crate) async fn compare_clickhouse(
        &self,
        views: &ClickhouseViews,
        patience: Duration,
    ) -> Result<ViewReport, Failure> {
        let started = platform::clock::monotonic();
        loop {
            let found = views.tally().await.map_err(Failure::unreachable)?;
            let rows: u64 = found.values().map(|(count, _)| count).sum();
            if rows >= self.facts || started.elapsed() > patience {
                let expected: Vec<_> = self.tally.iter().collect();
                let difference = first_difference(&expected, &found.iter().collect::<Vec<_>>());
                return Ok(ViewReport { rows, equal: difference.is_none(), difference });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Compares every store in `data_dir` with the log. One that differs, or that cannot be read, keeps no other from
    /// being looked at: an operator who moves stores away wants to do it once.
    pub(crate) fn compare_stores(&self, data_dir: &Path) -> StoresReport {
        let mut report = StoresReport::default();
        for partition in self.folds.keys() {
            let folder = store_folder(data_dir, ProcessorName::Reservations, *partition);
            if !folder.exists() {
                continue;
            }
            match self.compare_store(&folder, *partition) {
                Ok(Compared::Equal) => report.equal += 1,
                Ok(Compared::Behind) => report.behind += 1,
                Ok(Compared::Differs(how)) => {
                    report.differences.push(format!("store of partition {partition} is {how}"));
                }
                Err(why) => {
                    report.unreadable.push(format!("store of partition {partition}: {why}"));
                }
            }
        }
        report
    }

    fn compare_store(&self, folder: &Path, partition: Partition) -> Result<Compared, StoreError> {
        let store = RocksStore::open(folder)?;
        let hash_of_log = || state_hash_of_rows(self.folds[&partition].rows::<StateRow>());
        let Some(position) = store.position()? else { return Ok(Compared::Behind) };
        let differs = match position.seq.cmp(&self.seqs[&partition]) {
            Ordering::Less => return Ok(Compared::Behind),
            Ordering::Greater => "ahead of the log, which was truncated or replaced",
            Ordering::Equal if position.link().to_string() != self.chains[&partition].0 => {
                "of another history"
            }
            Ordering::Equal if state_hash(&store)? != hash_of_log()? => "not the fold of the log",
            Ordering::Equal => return Ok(Compared::Equal),
        };
        Ok(Compared::Differs(differs))
    }
}

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

enum Compared {
    Equal,
    Behind,
    Differs(&'static str),
}

fn first_difference<T: PartialEq + std::fmt::Debug>(expected: &[T], found: &[T]) -> Option<String> {
    let longest = expected.len().max(found.len());
    (0..longest).find(|index| expected.get(*index) != found.get(*index)).map(|index| {
        format!("the log says {:?}, the view {:?}", expected.get(index), found.get(index))
    })
}
