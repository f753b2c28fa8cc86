//! The demo's report, for people and as JSON.

use std::collections::BTreeMap;

use schemas::ids::DropId;
use serde::Serialize;

use super::encore::EncoreReport;
use super::first_findings;
use crate::commands::load::LoadReport;
use crate::config::LogKind;
use crate::proof::{Proof, ViewReport};

/// Views against the log; `null` where none is configured.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Views {
    pub(crate) postgres: Option<ViewReport>,
    pub(crate) clickhouse: Option<ViewReport>,
}

/// The report.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DemoReport {
    title: &'static str,
    log: &'static str,
    stock: i64,
    buyers: usize,
    #[serde(flatten)]
    load: LoadReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    encore: Option<EncoreReport>,
    sold: i64,
    oversold: i64,
    lost: i64,
    duplicate_decisions: usize,
    chain: String,
    findings: Vec<String>,
    views: Views,
    pub(crate) verified: bool,
}

impl DemoReport {
    #[allow(clippy::too_many_arguments, reason = "one value per source, assembled once")]
    pub(crate) fn new(
        buyers: usize,
        stock: i64,
        kind: LogKind,
        drop: DropId,
        load: LoadReport,
        encore: Option<EncoreReport>,
        proof: &Proof,
        postgres: Option<ViewReport>,
        clickhouse: Option<ViewReport>,
    ) -> Self {
        let fold = proof.folds.values().find(|fold| fold.drops.contains_key(&drop));
        let stocks = fold.into_iter().flat_map(|fold| fold.stocks.values());
        let sold: i64 = stocks.filter(|row| row.drop_id == drop).map(|row| row.sold.0).sum();
        let orders = fold
            .map_or(0, |fold| fold.orders.values().filter(|order| order.drop_id == drop).count());
        let partition = proof.folds.iter().find(|(_, fold)| fold.drops.contains_key(&drop));
        let chain = partition.and_then(|(partition, _)| proof.chains.get(partition));
        let wanted = i64::try_from(buyers).unwrap_or(i64::MAX);
        let granted = i64::try_from(load.accepted).unwrap_or(i64::MAX);
        let refused = load.rejected_by_reason.get("sold_out").copied().unwrap_or(0);
        let is_equal = |view: &Option<ViewReport>| view.as_ref().is_none_or(|view| view.equal);
        // What the buyers were told, what the log holds and what was on sale are one story.
        let told_as_logged = granted == sold
            && sold == stock.min(wanted)
            && refused == load.intents - load.accepted
            && orders == buyers;
        let verified = told_as_logged
            && encore.as_ref().is_none_or(|encore| encore.verified)
            && load.unanswered == 0
            && proof.findings.is_empty()
            && proof.undecided == 0
            && proof.duplicates == 0
            && proof.oversold() == 0
            && is_equal(&postgres)
            && is_equal(&clickhouse);
        Self {
            title: "Night Run 01",
            log: match kind {
                LogKind::Embedded => "embedded log",
                LogKind::Kafka => "Kafka",
            },
            stock,
            buyers,
            sold,
            oversold: proof.oversold(),
            lost: proof.undecided,
            duplicate_decisions: proof.duplicates,
            chain: chain.map(|(chain, _)| chain.clone()).unwrap_or_default(),
            findings: first_findings(proof),
            views: Views { postgres, clickhouse },
            load,
            encore,
            verified,
        }
    }

    /// For people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let (load, latency) = (&self.load, &self.load.latency_ms);
        let mut lines = vec![
            format!(
                "Live drop \"{}\"   {} units · {} buyers · {}",
                self.title,
                grouped(self.stock),
                grouped(i64::try_from(self.buyers).unwrap_or(i64::MAX)),
                self.log
            ),
            format!(
                "  answered {:>8} / {} in {:.2} s      p50 {:.0} ms · p99 {:.0} ms · max {:.0} ms",
                grouped((load.intents - load.unanswered).cast_signed()),
                grouped(load.intents.cast_signed()),
                load.seconds,
                latency.p50,
                latency.p99,
                latency.max
            ),
            format!(
                "  sold     {:>8}   refused {}",
                grouped(self.sold),
                reasons(&load.rejected_by_reason)
            ),
            format!(
                "  proof    {} oversold · {} lost · {} decided twice · chain {}… verified from offset 0",
                self.oversold,
                self.lost,
                self.duplicate_decisions,
                self.chain.get(..8).unwrap_or_default()
            ),
            format!(
                "  views    Postgres {} · ClickHouse {}",
                view(self.views.postgres.as_ref(), "orders"),
                view(self.views.clickhouse.as_ref(), "decisions")
            ),
        ];
        if let Some(encore) = &self.encore {
            lines.splice(3..3, encore.lines());
            lines.extend(
                encore.findings.iter().take(10).map(|finding| format!("  MONEY    {finding}")),
            );
        }
        lines.extend(self.findings.iter().map(|finding| format!("  FINDING  {finding}")));
        for difference in [&self.views.postgres, &self.views.clickhouse].into_iter().flatten() {
            lines.extend(difference.difference.iter().map(|text| format!("  DIFFERS  {text}")));
        }
        lines.push(format!("  verified {}", self.verified));
        lines
    }
}

fn view(view: Option<&ViewReport>, unit: &str) -> String {
    match view {
        None => "not configured".into(),
        Some(view) => {
            let sign = if view.equal { "=" } else { "≠" };
            format!("{} {unit} {sign} log", grouped(view.rows.cast_signed()))
        }
    }
}

fn reasons(reasons: &BTreeMap<String, u64>) -> String {
    if reasons.is_empty() {
        return "none".into();
    }
    let parts = reasons
        .iter()
        .map(|(reason, count)| format!("{} ({reason})", grouped(count.cast_signed())));
    parts.collect::<Vec<_>>().join(", ")
}

/// `10000` as `10,000`.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    let joined = groups.collect::<Vec<_>>().join(",");
    if number < 0 { format!("-{joined}") } else { joined }
}
