//! The end of a run: everything comes to rest, then the log is judged.

use model::Processor;
use reservations::command::Command;
use reservations::rows::StateRow;
use runtime::{Exit, MemoryStore, Refused, Store as _, state_hash, state_hash_of_rows};
use schemas::order::OrderBody;
use schemas::units::Millis;

use super::{Outcome, PARTITIONS, PROCESSES, World};
use crate::faults::Fault;
use crate::verdict;

impl<P> World<P>
where
    P: Processor<Command = Command, Row = StateRow, Body = OrderBody>,
{
    /// Faults stop; everything that was begun is brought to its end.
    pub(super) fn come_to_rest(&mut self) {
        let mut cluster = self.broker.lock();
        cluster.faults.are_on = false;
        cluster.registry_is_away = false;
        cluster.leader_skew = Millis(0);
        drop(cluster);
        self.skews = [Millis(0); PROCESSES];
        for partition in 0..PARTITIONS {
            self.owners[partition].clear();
            self.take_over(partition, partition);
        }
        for round in 0..400 {
            for partition in 0..PARTITIONS {
                for _ in 0..6 {
                    if !self.owners[partition].is_empty() {
                        self.step_task(partition, 0);
                    }
                }
            }
            self.step_payments();
            for partition in 0..PARTITIONS {
                self.broker.lock().partitions[partition].write_markers();
            }
            if let Some((drop, intent)) = self.retries.pop() {
                self.append(drop, intent);
            }
            self.broker.advance(Millis(3_000));
            if !self.findings.is_empty()
                || (round > 300 && self.payments.is_idle() && self.retries.is_empty())
            {
                break;
            }
        }
    }

    pub(super) fn judge(mut self) -> Outcome {
        let mut findings = std::mem::take(&mut self.findings);
        let mut decisions = 0;
        let mut folds = Vec::new();
        for partition in 0..PARTITIONS {
            let cluster = self.broker.lock();
            let log = &cluster.partitions[partition];
            let judged = verdict::judge(log, partition, &self.acknowledged, &self.shown[partition]);
            drop(cluster);
            decisions += judged.decisions;
            findings.extend(judged.findings);
            if let Some(disk) = self.disks.get(&(partition, partition)) {
                compare_store(&disk.content(), &judged.fold, &mut findings);
            }
            self.poison = self.poison.saturating_sub(judged.undecodable);
            folds.push(judged.fold);
        }
        if self.poison > 0 && findings.is_empty() {
            findings.push(format!("{} poisonous records have no decision", self.poison));
        }
        let mut all = auditor::Fold::default();
        for fold in folds {
            all.drops.extend(fold.drops);
            all.orders.extend(fold.orders);
            all.archived_orders.extend(fold.archived_orders);
        }
        if findings.is_empty() {
            self.payments.compare(&all, &mut findings);
        }
        if findings.is_empty() && self.strikes_at_the_end() {
            self.truncated_log_refuses(&mut findings);
        }
        let faults = self.broker.lock().faults.counts;
        Outcome { findings, faults, decisions, trace: self.trace }
    }

    fn strikes_at_the_end(&mut self) -> bool {
        let mut cluster = self.broker.lock();
        cluster.faults.are_on = true;
        cluster.faults.strikes(Fault::LogTruncated)
    }

    /// 15: a log that lost its end is refused, never reset.
    fn truncated_log_refuses(&mut self, findings: &mut Vec<String>) {
        self.owners[0].clear();
        let mut cluster = self.broker.lock();
        cluster.faults.are_on = false;
        cluster.is_truncated = true;
        cluster.partitions[0].truncate();
        drop(cluster);
        self.take_over(0, 0);
        let now = self.broker.lock().now;
        let stepped = self.owners[0].last_mut().map(|owner| owner.task.step(now));
        match stepped {
            Some(Err(Exit::Refused(Refused::StoreAhead { .. }))) => {}
            other => findings.push(format!("a truncated log was not refused: {other:?}")),
        }
    }
}

fn compare_store(store: &MemoryStore, fold: &auditor::Fold, findings: &mut Vec<String>) {
    let expected = state_hash_of_rows(fold.rows::<StateRow>());
    let found = state_hash(store);
    if store.position().ok().flatten().is_some() && expected != found {
        findings.push("a store is not the fold of its log".into());
    }
}
