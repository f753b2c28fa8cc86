//! The proof: the whole log read back, audited, and compared with everything derived from it.

mod stores;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use auditor::{Finding, Fold, LoggedDecision, LoggedIntent};
use clickhouse_views::{ClickhouseViews, facts_of};
use postgres_views::{OrderDigest, PostgresViews};
use runtime::{CommittedRecord, SchemaBook, SchemaProblem, TailStart};
use schemas::avro::Datum;
use schemas::follow::{FollowBody, FollowIntent};
use schemas::framing;
use schemas::ids::{Chain, DropId};
use schemas::order::{OrderBody, OrderIntent};
use schemas::partition::Partition;
use schemas::topics::{FOLLOW_DECISIONS, FOLLOW_INTENTS, ORDER_DECISIONS, ORDER_INTENTS, Topic};
use serde::Serialize;

use crate::failure::Failure;
use crate::log_handle::LogHandle;
use crate::tails::{read_decision, read_to_end};

pub(crate) use stores::{StoresReport, compare_stores};

/// One partition's records, as the log holds them.
struct PartitionRecords<I = OrderIntent, B = OrderBody> {
    intents: Vec<LoggedIntent<I>>,
    decisions: Vec<LoggedDecision<B>>,
}

impl<I, B> Default for PartitionRecords<I, B> {
    fn default() -> Self {
        Self { intents: Vec::new(), decisions: Vec::new() }
    }
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
    /// Every link of each partition's chain, by sequence number.
    links: BTreeMap<Partition, Vec<Chain>>,
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

fn logged_decision<B: Datum>(
    schemas: &SchemaBook,
    topic: Topic,
    CommittedRecord { partition, offset, value, .. }: CommittedRecord,
) -> Result<(Partition, LoggedDecision<B>), Failure> {
    let decision = read_decision(schemas, topic, &value).map_err(|why| {
        Failure::check(format!("{} {partition}, offset {offset}: {why}", topic.name))
    })?;
    Ok((partition, LoggedDecision { offset, value, decision }))
}

fn links<B>(decisions: &[LoggedDecision<B>]) -> Vec<Chain> {
    decisions.iter().map(|logged| logged.decision.chain).collect()
}

/// What the follow decisions prove.
#[derive(Default)]
pub(crate) struct FollowProof {
    pub(crate) findings: Vec<(Partition, Finding)>,
    /// Pairs of which one follows the other now.
    pub(crate) pairs: usize,
    pub(crate) intents: usize,
    pub(crate) decided: i64,
    pub(crate) undecided: i64,
    /// Every link of each partition's chain, and what its decisions add up to.
    partitions: BTreeMap<Partition, (Vec<Chain>, auditor::follows::Report)>,
}

/// Reads and audits the follow topics.
pub(crate) fn prove_follows(log: &LogHandle, schemas: &SchemaBook) -> Result<FollowProof, Failure> {
    let partitions: BTreeMap<Partition, PartitionRecords<FollowIntent, FollowBody>> =
        read_partitions(log, schemas, (FOLLOW_INTENTS, FOLLOW_DECISIONS))?;
    let mut proof = FollowProof::default();
    for (partition, records) in partitions {
        let mut report = auditor::follows::audit(&records.intents, &records.decisions);
        proof.pairs += report.pairs();
        proof.intents += records.intents.len();
        proof.decided += report.decided;
        proof.undecided += report.undecided;
        proof.findings.extend(report.findings.drain(..).map(|finding| (partition, finding)));
        proof.partitions.insert(partition, (links(&records.decisions), report));
    }
    Ok(proof)
}

/// Both topics of a processor, by partition.
fn read_partitions<I: Datum, B: Datum>(
    log: &LogHandle,
    schemas: &SchemaBook,
    (intents, decisions): (Topic, Topic),
) -> Result<BTreeMap<Partition, PartitionRecords<I, B>>, Failure> {
    let mut partitions: BTreeMap<Partition, PartitionRecords<I, B>> = BTreeMap::new();
    // Decisions first: an intent decided after this is not missing, only later.
    for record in read_topic(log, decisions)? {
        let (partition, logged) = logged_decision(schemas, decisions, record)?;
        partitions.entry(partition).or_default().decisions.push(logged);
    }
    for record in read_topic(log, intents)? {
        let (partition, logged) = logged_intent(schemas, intents, record)?;
        partitions.entry(partition).or_default().intents.push(logged);
    }
    Ok(partitions)
}

/// An intent, where it could be read. Whether it could is not known while the registry is away.
fn logged_intent<I: Datum>(
    schemas: &SchemaBook,
    topic: Topic,
    CommittedRecord { partition, offset, append_time, value }: CommittedRecord,
) -> Result<(Partition, LoggedIntent<I>), Failure> {
    let intent = match framing::split(&value) {
        Err(_) => None,
        Ok((id, datum)) => match schemas.codec(id, topic.subject) {
            Ok(codec) => codec.decode(datum).ok(),
            Err(SchemaProblem::Poison(_)) => None,
            Err(SchemaProblem::Stall(why)) => return Err(Failure::unreachable(why)),
        },
    };
    Ok((partition, LoggedIntent { offset, append_time, intent }))
}

/// Reads and audits the order topics; with `only`, what is about that drop.
pub(crate) fn prove(
    log: &LogHandle,
    schemas: &SchemaBook,
    only: Option<DropId>,
) -> Result<Proof, Failure> {
    let mut partitions = read_partitions(log, schemas, (ORDER_INTENTS, ORDER_DECISIONS))?;
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
        links: BTreeMap::new(),
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
        proof.links.insert(partition, links(&records.decisions));
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
            let mut last_seqs = self.links.iter().map(|(partition, links)| {
                (partition, i64::try_from(links.len()).expect("links fit into memory") - 1)
            });
            let behind = last_seqs.find(|(partition, seq)| {
                at.get(partition).map_or(-1, |position| position.seq) < *seq
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
}

fn first_difference<T: PartialEq + std::fmt::Debug>(expected: &[T], found: &[T]) -> Option<String> {
    let longest = expected.len().max(found.len());
    (0..longest).find(|index| expected.get(*index) != found.get(*index)).map(|index| {
        format!("the log says {:?}, the view {:?}", expected.get(index), found.get(index))
    })
}
