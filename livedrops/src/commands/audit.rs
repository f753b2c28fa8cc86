//! `livedrops audit`: recompute everything from the log; exit 1 on any difference.

use std::time::Duration;

use clickhouse_views::ClickhouseViews;
use postgres_views::PostgresViews;
use runtime::SchemaBook;
use schemas::ids::DropId;

use super::all::LogFlags;
use super::{block_on, print};
use crate::config::Config;
use crate::failure::Failure;
use crate::log_handle::LogHandle;
use crate::proof::{StoresReport, ViewReport, compare_stores, prove, prove_follows};

/// How long a view may take to reach the end of the log.
const VIEW_PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Audit {
    /// Only the partition of this drop.
    #[arg(long)]
    drop: Option<DropId>,
    #[command(flatten)]
    log: LogFlags,
    /// Compare these Postgres views.
    #[arg(long)]
    postgres: Option<String>,
    /// Compare these `ClickHouse` tables.
    #[arg(long)]
    clickhouse: Option<String>,
}

impl Audit {
    pub(crate) fn run(self, mut config: Config) -> Result<(), Failure> {
        self.log.apply(&mut config);
        config.0.set("postgres.url", self.postgres);
        config.0.set("clickhouse.url", self.clickhouse);
        block_on(audit(config, self.drop))
    }
}

async fn audit(config: Config, drop: Option<DropId>) -> Result<(), Failure> {
    let log = LogHandle::open(&config, false).await?;
    let data_dir = config.data_dir();
    let proving = move || {
        let schemas = SchemaBook::open(log.registry())?;
        let (proof, follows) = (prove(&log, &schemas, drop)?, prove_follows(&log, &schemas)?);
        let partitions = log.partitions();
        let only = drop.map(|drop| drop.partition(partitions));
        let stores = compare_stores(&data_dir, (partitions, only), &proof, &follows);
        Ok::<_, Failure>((proof, stores, follows))
    };
    let (proof, stores, follows) =
        tokio::task::spawn_blocking(proving).await.map_err(Failure::check)??;
    for (partition, (chain, intents_from)) in &proof.chains {
        let from = if *intents_from > 0 {
            format!(", intents retained from {intents_from}")
        } else {
            String::new()
        };
        print(&format!("partition {partition:>3}  chain {chain} verified from offset 0{from}"));
    }
    let oversold = proof.oversold();
    print(&format!(
        "proof      {oversold} oversold · {} undecided · {} decided twice · {} intents, {} decided",
        proof.undecided, proof.duplicates, proof.intents, proof.decided
    ));
    proof
        .findings
        .iter()
        .for_each(|(partition, finding)| print(&format!("FINDING    {partition}: {finding}")));
    for (partition, finding) in &follows.findings {
        print(&format!("FINDING    follow partition {partition}: {finding}"));
    }
    let verified =
        if follows.findings.is_empty() { ", counters = sets, chains verified" } else { "" };
    print(&format!(
        "follows    {} undecided · {} intents, {} decided · {} pairs{verified}",
        follows.undecided, follows.intents, follows.decided, follows.pairs
    ));
    report_stores(&stores);
    let mut is_equal = stores.differences.is_empty() && follows.findings.is_empty();
    if drop.is_none() {
        if let Some(url) = config.0.get("postgres.url") {
            let views = PostgresViews::open(url).await.map_err(Failure::unreachable)?;
            is_equal &=
                report("Postgres", "orders", &proof.compare_postgres(&views, VIEW_PATIENCE).await?);
        }
        if let Some(url) = config.0.get("clickhouse.url") {
            let database = config.0.get("clickhouse.database").unwrap_or("livedrops");
            let views =
                ClickhouseViews::connect(url, database).await.map_err(Failure::unreachable)?;
            let compared = proof.compare_clickhouse(&views, VIEW_PATIENCE).await?;
            is_equal &= report("ClickHouse", "decisions", &compared);
        }
    }
    if !(proof.findings.is_empty() && oversold == 0 && proof.duplicates == 0 && is_equal) {
        return Err(Failure::check("the log, or something derived from it, is not as it must be"));
    }
    match stores.unreadable.len() {
        0 => Ok(()),
        unread => Err(Failure::unreachable(format!(
            "{unread} of the stores; all else is as it must be. Stop the process that has them open, or move their \
             folders away: their owners rebuild them from the log"
        ))),
    }
}

fn report_stores(stores: &StoresReport) {
    let StoresReport { equal, behind, differences, unreadable } = stores;
    let differ = match differences.len() {
        0 => String::new(),
        count => format!(", {count} ≠ log"),
    };
    print(&format!("stores     {equal} = log{differ}"));
    if *behind > 0 {
        print(&format!(
            "           {behind} more behind: their owners fold the rest when they start"
        ));
    }
    for line in differences.iter().chain(unreadable) {
        print(&format!("           {line}"));
    }
}

fn report(name: &str, unit: &str, view: &ViewReport) -> bool {
    let sign = if view.equal { "=" } else { "≠" };
    print(&format!("{name:<10} {} {unit} {sign} log", view.rows));
    view.difference.iter().for_each(|difference| print(&format!("           {difference}")));
    view.equal
}
