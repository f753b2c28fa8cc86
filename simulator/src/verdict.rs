//! The end of a run, one partition at a time: the auditor, promises kept, nothing shown that is not so.

use std::collections::BTreeMap;

use auditor::{Fold, LoggedDecision, LoggedIntent};
use schemas::avro;
use schemas::decision::Outcome;
use schemas::framing;
use schemas::ids::IntentId;

use crate::broker::{PartitionLog, offset};
use crate::run::decoded;

/// An intent that its sender was promised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) partition: usize,
    pub(crate) offset: i64,
    pub(crate) intent: IntentId,
}

pub(crate) struct Judged {
    pub(crate) findings: Vec<String>,
    pub(crate) fold: Fold,
    pub(crate) decisions: usize,
    pub(crate) undecodable: u64,
}

pub(crate) fn judge(
    log: &PartitionLog,
    partition: usize,
    acknowledged: &[Acknowledged],
    shown: &BTreeMap<i64, Vec<u8>>,
) -> Judged {
    let intents: Vec<_> = log
        .intents
        .iter()
        .enumerate()
        .map(|(at, (append_time, value))| {
            let datum =
                framing::split(value).ok().filter(|(id, _)| *id == 1).map(|(_, datum)| datum);
            LoggedIntent {
                offset: offset(at),
                append_time: *append_time,
                intent: datum.and_then(|datum| avro::ORDER_INTENT.decode(datum).ok()),
            }
        })
        .collect();
    let (records, _) = log.committed(0, usize::MAX);
    let mut findings = Vec::new();
    let mut decisions = Vec::with_capacity(records.len());
    for (at, value) in records {
        match decoded(value) {
            Some(decision) => {
                decisions.push(LoggedDecision {
                    offset: offset(at),
                    value: value.to_vec(),
                    decision,
                });
            }
            None => findings.push(format!("decision at offset {at} cannot be read")),
        }
    }
    let report = auditor::audit(&intents, &decisions);
    findings.extend(report.findings.iter().map(ToString::to_string));
    if report.undecided > 0 {
        findings.push(format!(
            "{} intents of partition {partition} were never decided",
            report.undecided
        ));
    }
    let by_intent: BTreeMap<i64, &LoggedDecision> = decisions
        .iter()
        .filter_map(|logged| Some((logged.decision.header.intent_offset?, logged)))
        .collect();
    for promise in acknowledged.iter().filter(|promise| promise.partition == partition) {
        let decided = by_intent.get(&promise.offset);
        let echoes =
            decided.is_some_and(|logged| logged.decision.header.intent_id == Some(promise.intent));
        if !echoes {
            findings.push(format!(
                "the intent acknowledged at offset {} has no decision",
                promise.offset
            ));
        }
        if decided.is_some_and(|logged| logged.decision.outcome == Outcome::Undecodable) {
            findings
                .push(format!("the sound intent at offset {} was called poison", promise.offset));
        }
    }
    let in_log: BTreeMap<i64, &Vec<u8>> =
        decisions.iter().map(|logged| (logged.offset, &logged.value)).collect();
    if let Some((at, _)) = shown.iter().find(|(at, value)| in_log.get(*at) != Some(value)) {
        findings.push(format!("what was shown at offset {at} is not in the log"));
    }
    let is_poison = |logged: &&LoggedDecision| logged.decision.outcome == Outcome::Undecodable;
    let undecodable = decisions.iter().filter(is_poison).count() as u64;
    Judged { findings, fold: report.fold, decisions: decisions.len(), undecodable }
}
