//! What happens around the owners: requests, payments, readers, and everything that fails.

use model::Processor;
use reservations::command::Command;
use reservations::rows::StateRow;
use schemas::ids::DropId;
use schemas::order::{OrderBody, OrderIntent};
use schemas::units::Millis;

use super::{PARTITIONS, PROCESSES, World, decoded, framed, partition_of};
use crate::broker::{PartitionLog, offset};
use crate::defects::{Defect, is_on};
use crate::disk::Disk;
use crate::faults::Fault;
use crate::verdict::Acknowledged;

/// What a reader is given from `from` on, and where it goes on.
fn readable(log: &PartitionLog, from: usize) -> (Vec<(usize, &[u8])>, usize) {
    if is_on(Defect::PublishBeforeCommit) {
        (log.uncommitted(from), log.end())
    } else {
        log.committed(from, 200)
    }
}

impl<P> World<P>
where
    P: Processor<Command = Command, Row = StateRow, Body = OrderBody>,
{
    pub(super) fn somebody_acts(&mut self) {
        let retry = (!self.retries.is_empty() && self.below(3) == 0)
            .then(|| self.below(self.retries.len()));
        let (drop, intent) = if let Some(which) = retry {
            // The same request again: a retry has an intent id of its own.
            let (drop, intent) = self.retries.swap_remove(which);
            (drop, OrderIntent { intent_id: self.workload.fresh_id(), ..intent })
        } else {
            let mut cluster = self.broker.lock();
            self.workload.next(&mut cluster.faults)
        };
        let clicks = if self.below(12) == 0 { 3 } else { 1 };
        for _ in 0..clicks {
            self.append(drop, intent.clone());
        }
    }

    pub(super) fn append(&mut self, drop: DropId, intent: OrderIntent) {
        if self.strikes(Fault::AppendUnknown) {
            let written = self.below(2) == 0;
            if written {
                self.broker.append(partition_of(drop), framed(&intent));
            }
            return self.retries.push((drop, intent));
        }
        self.append_acknowledged(partition_of(drop), &intent);
    }

    fn append_acknowledged(&mut self, partition: usize, intent: &OrderIntent) {
        let at = self.broker.append(partition, framed(intent));
        self.acknowledged.push(Acknowledged { partition, offset: at, intent: intent.intent_id });
    }

    pub(super) fn step_payments(&mut self) {
        if self.strikes(Fault::PaymentsRestarted) {
            self.payments.restart();
        }
        for partition in 0..PARTITIONS {
            let from = self.payments.positions.get(&partition).copied().unwrap_or(0);
            let cluster = self.broker.lock();
            let log = &cluster.partitions[partition];
            let (records, next) = readable(log, from);
            let orders: Vec<_> = records
                .into_iter()
                .filter_map(|(_, value)| decoded(value)?.body)
                .flat_map(|body| body.orders)
                .collect();
            drop(cluster);
            self.payments.read(&orders);
            self.payments.positions.insert(partition, next);
        }
        let mut cluster = self.broker.lock();
        let now = cluster.now;
        let outcomes = self.payments.step(&mut cluster.faults, &mut self.workload, now);
        drop(cluster);
        for (order, intent) in outcomes {
            let partition = usize::from(order.partition(u16::try_from(PARTITIONS).unwrap_or(1)).0);
            self.append_acknowledged(partition, &intent);
        }
    }

    /// An API node shows what is committed; what it showed must stay true.
    pub(super) fn read_committed(&mut self) {
        let partition = self.below(PARTITIONS);
        let from = self.read_to[partition];
        let cluster = self.broker.lock();
        let log = &cluster.partitions[partition];
        let (records, next) = readable(log, from);
        let shown = records.into_iter().map(|(at, value)| (offset(at), value.to_vec()));
        self.shown[partition].extend(shown);
        drop(cluster);
        self.read_to[partition] = next;
    }

    pub(super) fn cluster_moves(&mut self) {
        let partition = self.below(PARTITIONS);
        match self.below(4) {
            0 => self.broker.lock().partitions[partition].write_markers(),
            1 => drop(self.broker.lock().partitions[partition].deliver_delayed()),
            2 => {
                // Another leader with another clock, within what NTP allows.
                let skew = self.below(1_000);
                self.broker.lock().leader_skew = Millis(offset(skew) - 500);
            }
            _ => self.machines_sync(),
        }
        if self.strikes(Fault::Poison) {
            let mut value = vec![0, 0, 0, 0, 1, 0xff];
            value[self.below(6)] ^= 0x5a;
            self.broker.append(partition, value);
            self.poison += 1;
        }
        if self.strikes(Fault::RegistryAway) {
            // A record of an unknown schema has to wait for the registry, and every record after it.
            self.broker.lock().registry_is_away = true;
            self.broker.append(partition, vec![0, 0, 0, 3, 0xe7, 1, 2]);
            self.poison += 1;
        } else if self.below(3) == 0 {
            self.broker.lock().registry_is_away = false;
        }
    }

    fn machines_sync(&mut self) {
        self.disks.values().for_each(Disk::sync);
    }

    pub(super) fn machines_fail(&mut self) {
        let (partition, process) = (self.below(PARTITIONS), self.below(PROCESSES));
        if self.strikes(Fault::PowerLost) {
            self.stops(process, partition);
            if let Some(disk) = self.disks.get(&(process, partition)) {
                let kept = self.below(disk.unsynced() + 1);
                disk.lose_power(kept);
            }
            self.say(|| format!("process {process} loses power, partition {partition}"));
        }
        if self.strikes(Fault::StoreDeleted) {
            self.stops(process, partition);
            if let Some(disk) = self.disks.get(&(process, partition)) {
                disk.delete();
            }
            self.say(|| format!("process {process} loses its store of partition {partition}"));
        }
        if self.strikes(Fault::Paused) {
            let until = self.broker.lock().now.after(Millis(60_000));
            if let Some(owner) = self.owners[partition].first_mut() {
                owner.paused_until = until;
            }
            self.take_over_elsewhere(partition, process);
        }
        if self.strikes(Fault::TwoOwners) {
            self.take_over_elsewhere(partition, process);
        }
        if self.strikes(Fault::ClockJump) {
            let jump = self.below(1_200_000);
            self.skews[process] = Millis(offset(jump) - 600_000);
            self.say(|| format!("the clock of process {process} jumps"));
        } else if self.below(3) == 0 {
            self.skews[process] = Millis(0);
        }
    }

    fn stops(&mut self, process: usize, partition: usize) {
        self.owners[partition].retain(|owner| owner.process != process);
        self.standbys.remove(&(process, partition));
    }

    /// A store has one user, so the successor is another process.
    fn take_over_elsewhere(&mut self, partition: usize, process: usize) {
        if self.owners[partition].iter().all(|owner| owner.process != process) {
            self.take_over(partition, process);
        }
    }
}
