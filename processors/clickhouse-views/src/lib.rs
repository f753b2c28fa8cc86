//! `ClickHouse` tables folded from the order decisions, for analysts.
//!
//! Effectively once: each insert is one closed offset range of one partition; the range is recorded before the
//! insert, so a retry after an unknown outcome is the same block with the same deduplication token, and it is
//! only tried if the range's last `seq` is not there. `ReplacingMergeTree` by (partition, seq) is the second
//! line of defence. What analysts ask for are views over the deduplicated table, never roll-ups that a retry
//! could count twice.

mod row;
mod tables;

use std::collections::BTreeMap;

use clickhouse::{Client, Compression};
use schemas::partition::Partition;
use serde::{Deserialize, Serialize};

pub use row::{DecisionFact, facts_of};

/// Why `ClickHouse` was not written; always: try the same range again.
#[derive(Debug, thiserror::Error)]
#[error("ClickHouse: {0}")]
pub struct ViewError(#[from] clickhouse::error::Error);

/// A range of decision offsets, recorded before its rows are inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clickhouse::Row)]
pub struct InsertedRange {
    /// The partition.
    pub partition: u16,
    /// First decision offset.
    pub first_offset: i64,
    /// Offset after the last.
    pub next_offset: i64,
    /// Sequence number of the last decision in the range.
    pub last_seq: i64,
    /// Facts in the range; 0 where it holds only control records.
    pub facts: u64,
}

/// Where a partition goes on, and the range that must be repeated first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// Offset to read from.
    pub offset: i64,
    /// The range whose insert may not have happened: it must be repeated with the same bounds.
    pub repeat: Option<InsertedRange>,
}

/// The tables of one database.
#[derive(Clone)]
pub struct ClickhouseViews {
    client: Client,
}

impl std::fmt::Debug for ClickhouseViews {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ClickhouseViews").finish_non_exhaustive()
    }
}

#[derive(Deserialize, clickhouse::Row)]
struct StatusCount {
    outcome: String,
    status: String,
    reason: String,
    count: u64,
    units: i64,
}

/// Decisions and units per (outcome, status, reason).
pub type Tally = BTreeMap<(String, String, String), (u64, i64)>;

impl ClickhouseViews {
    /// Connects and makes missing tables and views.
    ///
    /// # Errors
    /// Where `ClickHouse` is away.
    pub async fn connect(url: &str, database: &str) -> Result<Self, ViewError> {
        let bare = Client::default().with_url(url).with_compression(Compression::None);
        bare.query(&format!("CREATE DATABASE IF NOT EXISTS {database}")).execute().await?;
        let client = bare.with_database(database);
        for statement in tables::STATEMENTS {
            client.query(statement).execute().await?;
        }
        Ok(Self { client })
    }

    /// Where every partition goes on.
    ///
    /// # Errors
    /// Where `ClickHouse` is away.
    pub async fn resume(&self) -> Result<BTreeMap<Partition, Resume>, ViewError> {
        let ranges: Vec<InsertedRange> = self
            .client
            .query(
                "SELECT partition, argMax(first_offset, t.next_offset) AS first_offset, \
                 max(t.next_offset) AS next_offset, argMax(last_seq, t.next_offset) AS last_seq, \
                 argMax(facts, t.next_offset) AS facts FROM inserted_ranges AS t GROUP BY partition",
            )
            .fetch_all()
            .await?;
        let mut resumes = BTreeMap::new();
        for range in ranges {
            let found: u64 = self
                .client
                .query("SELECT uniqExact(seq, position) FROM decisions WHERE partition = ? AND offset >= ? AND offset < ?")
                .bind(range.partition)
                .bind(range.first_offset)
                .bind(range.next_offset)
                .fetch_one()
                .await?;
            let is_whole = found == range.facts;
            let resume = Resume {
                offset: if is_whole { range.next_offset } else { range.first_offset },
                repeat: (!is_whole).then_some(range),
            };
            resumes.insert(Partition(range.partition), resume);
        }
        Ok(resumes)
    }

    /// Inserts the facts of one closed range. `repeat` says that the range is recorded already.
    ///
    /// # Errors
    /// Where `ClickHouse` is away or the outcome is unknown: call [`ClickhouseViews::resume`] and go on from it.
    pub async fn insert(
        &self,
        range: InsertedRange,
        facts: &[DecisionFact],
        repeat: bool,
    ) -> Result<(), ViewError> {
        if !repeat {
            let mut record = self.client.insert::<InsertedRange>("inserted_ranges").await?;
            record.write(&range).await?;
            record.end().await?;
        }
        if facts.is_empty() {
            return Ok(());
        }
        let token =
            format!("decisions:{}:{}-{}", range.partition, range.first_offset, range.next_offset);
        let client = self.client.clone().with_setting("insert_deduplication_token", token);
        let mut insert = client.insert::<DecisionFact>("decisions").await?;
        for fact in facts {
            insert.write(fact).await?;
        }
        insert.end().await?;
        Ok(())
    }

    /// Decisions and units by outcome, for the audit.
    ///
    /// # Errors
    /// Where `ClickHouse` is away.
    pub async fn tally(&self) -> Result<Tally, ViewError> {
        let counts: Vec<StatusCount> = self
            .client
            .query(
                "SELECT outcome, status, reason, count() AS count, sum(units) AS units \
                 FROM decisions FINAL GROUP BY outcome, status, reason",
            )
            .fetch_all()
            .await?;
        let pairs = counts
            .into_iter()
            .map(|row| ((row.outcome, row.status, row.reason), (row.count, row.units)));
        Ok(pairs.collect())
    }
}
