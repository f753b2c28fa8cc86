//! The owners of partitions in this process, and the standbys of the others where they are asked for: one OS thread each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use followers::Followers;
use model::Processor;
use reservations::Reservations;
use runtime::{
    Batching, Exit, PartitionState, PartitionStatus, PartitionTask, Refused, SchemaBook,
    StoreError, TaskSettings, driver,
};
use schemas::partition::Partition;
use store_rocksdb::{RocksStore, StoreReader};

use crate::log_handle::{LogHandle, wall_clock};

/// Which processor a thread runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub(crate) enum ProcessorName {
    Reservations,
    Followers,
}

impl ProcessorName {
    pub(crate) fn topology(self) -> model::Topology {
        match self {
            Self::Reservations => Reservations::TOPOLOGY,
            Self::Followers => Followers::TOPOLOGY,
        }
    }
}

/// What a partition's thread is told.
#[derive(Clone, Default)]
struct Orders {
    /// To own the partition, not only to stand by. Never taken back: a standby after that is another thread.
    own: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

struct Task {
    orders: Orders,
    thread: JoinHandle<()>,
}

pub(crate) type Key = (ProcessorName, Partition);

/// Starts and stops owners, knows how each is doing.
pub(crate) struct Owners {
    log: LogHandle,
    schemas: Arc<SchemaBook>,
    data_dir: PathBuf,
    /// Whether this process follows the partitions of others.
    stands_by: bool,
    running: Mutex<BTreeMap<Key, Task>>,
    statuses: Mutex<BTreeMap<Key, PartitionStatus>>,
    stores: Mutex<BTreeMap<Key, StoreReader>>,
    refused: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owners {
    pub(crate) fn new(
        log: LogHandle,
        schemas: Arc<SchemaBook>,
        data_dir: PathBuf,
        stands_by: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            log,
            schemas,
            data_dir,
            stands_by,
            running: Mutex::default(),
            statuses: Mutex::default(),
            stores: Mutex::default(),
            refused: AtomicBool::new(false),
        })
    }

    /// Starts the owner of a partition, unless it runs. A standby becomes it.
    pub(crate) fn start(self: &Arc<Self>, name: ProcessorName, partition: Partition) {
        self.run(&mut lock(&self.running), (name, partition), true);
    }

    /// Follows a partition that is not ours, where this process does that.
    pub(crate) fn stand_by(self: &Arc<Self>, name: ProcessorName, partition: Partition) {
        if self.stands_by {
            self.run(&mut lock(&self.running), (name, partition), false);
        }
    }

    fn run(self: &Arc<Self>, running: &mut BTreeMap<Key, Task>, key: Key, own: bool) {
        let (name, partition) = key;
        if let Some(task) = running.get(&key).filter(|task| !task.thread.is_finished()) {
            if own && !task.orders.own.swap(true, Ordering::Relaxed) {
                if let Some(status) = lock(&self.statuses).get(&key) {
                    status.update(|snapshot| snapshot.state = PartitionState::Recovering);
                }
                task.thread.thread().unpark();
            }
            return;
        }
        let status = PartitionStatus::new(name.topology().processor, partition);
        status.update(|snapshot| snapshot.state = PartitionState::Recovering);
        lock(&self.statuses).insert(key, status.clone());
        let orders = Orders::default();
        orders.own.store(own, Ordering::Relaxed);
        let (owners, told) = (self.clone(), orders.clone());
        let thread = std::thread::Builder::new()
            .name(format!("{}-{partition}", name.topology().processor))
            .spawn(move || match name {
                ProcessorName::Reservations => owners.carry::<Reservations>(key, &told, &status),
                ProcessorName::Followers => owners.carry::<Followers>(key, &told, &status),
            });
        match thread {
            Ok(thread) => {
                running.insert(key, Task { orders, thread });
            }
            Err(error) => tracing::error!(%error, "no thread for a partition"),
        }
    }

    /// Starts owners and standbys again that ended although their partition is still ours: fenced by a transaction that
    /// took too long, or stopped by a full disk. `seen` holds those that had ended at the last look, a session ago or
    /// more, so that a zombie's group has taken the partition away first. A refused partition stays stopped.
    pub(crate) fn restart_ended(self: &Arc<Self>, seen: &mut BTreeSet<Key>) {
        let ended: BTreeSet<Key> = lock(&self.running)
            .iter()
            .filter(|(_, task)| task.thread.is_finished())
            .map(|(key, _)| *key)
            .filter(|key| !self.is_refused(*key))
            .collect();
        let (again, new): (BTreeSet<_>, BTreeSet<_>) =
            ended.into_iter().partition(|key| seen.contains(key));
        for key in &again {
            let mut running = lock(&self.running);
            // It may have been given away meanwhile.
            let Some(task) = running.get(key).filter(|task| task.thread.is_finished()) else {
                continue;
            };
            let own = task.orders.own.load(Ordering::Relaxed);
            let (name, partition) = key;
            tracing::warn!(?name, %partition, own, "a partition's thread ended, starting it again");
            self.run(&mut running, *key, own);
        }
        *seen = new;
    }

    /// Stops an owner and waits for its last commit. From then on this process stands by, where it does that.
    pub(crate) fn stop(self: &Arc<Self>, name: ProcessorName, partition: Partition) {
        self.end((name, partition));
        self.stand_by(name, partition);
    }

    fn end(&self, key: Key) {
        let task = lock(&self.running).remove(&key);
        if let Some(task) = task {
            task.orders.stop.store(true, Ordering::Relaxed);
            task.thread.thread().unpark();
            drop(task.thread.join());
        }
        lock(&self.stores).remove(&key);
        lock(&self.statuses).remove(&key);
    }

    /// Stops every owner and standby.
    pub(crate) fn stop_all(&self) {
        let keys: Vec<Key> = {
            let running = lock(&self.running);
            running.values().for_each(|task| task.orders.stop.store(true, Ordering::Relaxed));
            running.keys().copied().collect()
        };
        keys.into_iter().for_each(|key| self.end(key));
    }

    pub(crate) fn statuses(&self) -> Vec<PartitionStatus> {
        lock(&self.statuses).values().cloned().collect()
    }

    pub(crate) fn store(&self, name: ProcessorName, partition: Partition) -> Option<StoreReader> {
        lock(&self.stores).get(&(name, partition)).cloned()
    }

    /// Whether any owned partition has refused since the start.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether every owned partition has refused: nothing is left to do.
    pub(crate) fn have_all_refused(&self) -> bool {
        let running = lock(&self.running);
        let mut owned =
            running.iter().filter(|(_, task)| task.orders.own.load(Ordering::Relaxed)).peekable();
        owned.peek().is_some() && owned.all(|(key, _)| self.is_refused(*key))
    }

    fn is_refused(&self, key: Key) -> bool {
        let state = lock(&self.statuses).get(&key).map(|status| status.snapshot().state);
        matches!(state, Some(PartitionState::Refused(_)))
    }

    /// Stands by until told to own the partition, then owns it, until told to stop.
    fn carry<P: Processor>(&self, key: Key, orders: &Orders, status: &PartitionStatus) {
        let settings = TaskSettings {
            partition: key.1,
            build: env!("CARGO_PKG_VERSION").into(),
            schemas: self.schemas.clone(),
            new_intent_id: || platform::clock::random_uuid().into(),
            batching: Batching::PRODUCTION,
            status: status.clone(),
        };
        let exit = match self.task::<P>(key, settings) {
            Ok(mut task) => {
                let told = |order: &AtomicBool| order.load(Ordering::Relaxed);
                let is_over = || told(&orders.own) || told(&orders.stop);
                driver::stand_by(&mut task, is_over, wall_clock).err().unwrap_or_else(|| {
                    lock(&self.stores).insert(key, task.store().reader());
                    driver::run(&mut task, &orders.stop, wall_clock)
                })
            }
            Err(StoreError::UnknownFormat(why)) => Exit::Refused(Refused::UnknownFormat(why)),
            Err(StoreError::Failed(why)) => Exit::StoreFailed(why),
        };
        lock(&self.stores).remove(&key);
        match exit {
            Exit::Stopped => status.update(|snapshot| snapshot.state = PartitionState::Stopped),
            Exit::Fenced(why) => tracing::warn!(why, "a newer owner has taken over"),
            Exit::Refused(refused) => {
                self.refused.fetch_or(orders.own.load(Ordering::Relaxed), Ordering::Relaxed);
                status.update(|snapshot| {
                    snapshot.state = PartitionState::Refused(refused.to_string());
                });
            }
            Exit::StoreFailed(why) => {
                tracing::error!(processor = P::TOPOLOGY.processor, partition = %key.1, why, "store failed");
                status.update(|snapshot| snapshot.state = PartitionState::Stalled(why));
            }
        }
    }

    fn task<P: Processor>(
        &self,
        key: Key,
        settings: TaskSettings,
    ) -> Result<PartitionTask<P, Box<dyn runtime::Log>, RocksStore>, StoreError> {
        let store = RocksStore::open(&self.folder(key))?;
        PartitionTask::new(self.log.own(P::TOPOLOGY, key.1), store, settings)
    }

    fn folder(&self, (name, partition): Key) -> PathBuf {
        store_folder(&self.data_dir, name, partition)
    }
}

/// Where the store of a partition lives.
pub(crate) fn store_folder(
    data_dir: &std::path::Path,
    name: ProcessorName,
    partition: Partition,
) -> PathBuf {
    data_dir.join("state").join(name.topology().processor).join(partition.to_string())
}
