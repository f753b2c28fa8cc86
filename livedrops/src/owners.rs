//! The owners of partitions in this process: one OS thread each.

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

struct Owner {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

pub(crate) type Key = (ProcessorName, Partition);

/// Starts and stops owners, knows how each is doing.
pub(crate) struct Owners {
    log: LogHandle,
    schemas: Arc<SchemaBook>,
    data_dir: PathBuf,
    running: Mutex<BTreeMap<Key, Owner>>,
    statuses: Mutex<BTreeMap<Key, PartitionStatus>>,
    stores: Mutex<BTreeMap<Key, StoreReader>>,
    refused: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owners {
    pub(crate) fn new(log: LogHandle, schemas: Arc<SchemaBook>, data_dir: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            log,
            schemas,
            data_dir,
            running: Mutex::default(),
            statuses: Mutex::default(),
            stores: Mutex::default(),
            refused: AtomicBool::new(false),
        })
    }

    /// Starts the owner of a partition, unless it runs.
    pub(crate) fn start(self: &Arc<Self>, name: ProcessorName, partition: Partition) {
        let key = (name, partition);
        let mut running = lock(&self.running);
        if running.get(&key).is_some_and(|owner| !owner.thread.is_finished()) {
            return;
        }
        let status = PartitionStatus::new(name.topology().processor, partition);
        status.update(|snapshot| snapshot.state = PartitionState::Recovering);
        lock(&self.statuses).insert(key, status.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let (owners, stopping) = (self.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name(format!("{}-{partition}", name.topology().processor))
            .spawn(move || match name {
                ProcessorName::Reservations => owners.own::<Reservations>(key, &stopping, &status),
                ProcessorName::Followers => owners.own::<Followers>(key, &stopping, &status),
            });
        match thread {
            Ok(thread) => {
                running.insert(key, Owner { stop, thread });
            }
            Err(error) => tracing::error!(%error, "no thread for a partition"),
        }
    }

    /// Starts owners again that ended although their partition is still ours: fenced by a transaction that
    /// took too long, or stopped by a full disk. `seen` holds those that had ended at the last look, so that
    /// a zombie's group has time to take the partition away first. A refused partition stays stopped.
    pub(crate) fn restart_ended(self: &Arc<Self>, seen: &mut BTreeSet<Key>) {
        let ended: BTreeSet<Key> = lock(&self.running)
            .iter()
            .filter(|(_, owner)| owner.thread.is_finished())
            .map(|(key, _)| *key)
            .filter(|key| {
                let statuses = lock(&self.statuses);
                let state = statuses.get(key).map(|status| status.snapshot().state);
                !matches!(state, Some(PartitionState::Refused(_)))
            })
            .collect();
        for (name, partition) in ended.intersection(seen) {
            tracing::warn!(?name, %partition, "the owner ended, starting it again");
            self.start(*name, *partition);
        }
        *seen = ended;
    }

    /// Stops an owner and waits for its last commit.
    pub(crate) fn stop(&self, name: ProcessorName, partition: Partition) {
        let key = (name, partition);
        let owner = lock(&self.running).remove(&key);
        if let Some(owner) = owner {
            owner.stop.store(true, Ordering::Relaxed);
            drop(owner.thread.join());
        }
        lock(&self.stores).remove(&key);
        lock(&self.statuses).remove(&key);
    }

    /// Stops every owner.
    pub(crate) fn stop_all(&self) {
        let keys: Vec<Key> = {
            let running = lock(&self.running);
            running.values().for_each(|owner| owner.stop.store(true, Ordering::Relaxed));
            running.keys().copied().collect()
        };
        keys.into_iter().for_each(|(name, partition)| self.stop(name, partition));
    }

    pub(crate) fn statuses(&self) -> Vec<PartitionStatus> {
        lock(&self.statuses).values().cloned().collect()
    }

    pub(crate) fn store(&self, name: ProcessorName, partition: Partition) -> Option<StoreReader> {
        lock(&self.stores).get(&(name, partition)).cloned()
    }

    /// Whether any partition has refused since the start.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether every owned partition has refused: nothing is left to do.
    pub(crate) fn have_all_refused(&self) -> bool {
        let statuses = self.statuses();
        let refused = |status: &PartitionStatus| {
            matches!(status.snapshot().state, PartitionState::Refused(_))
        };
        !statuses.is_empty() && statuses.iter().all(refused)
    }

    fn own<P: Processor>(&self, key: Key, stop: &Arc<AtomicBool>, status: &PartitionStatus) {
        let settings = TaskSettings {
            partition: key.1,
            build: env!("CARGO_PKG_VERSION").into(),
            schemas: self.schemas.clone(),
            new_intent_id: || platform::clock::random_uuid().into(),
            batching: Batching::PRODUCTION,
            status: status.clone(),
        };
        let exit = match self.task::<P>(key, settings) {
            Ok(mut task) => driver::run(&mut task, stop, wall_clock),
            Err(StoreError::UnknownFormat(why)) => Exit::Refused(Refused::UnknownFormat(why)),
            Err(StoreError::Failed(why)) => Exit::StoreFailed(why),
        };
        lock(&self.stores).remove(&key);
        match exit {
            Exit::Stopped => status.update(|snapshot| snapshot.state = PartitionState::Stopped),
            Exit::Fenced(why) => tracing::warn!(why, "a newer owner has taken over"),
            Exit::Refused(refused) => {
                self.refused.store(true, Ordering::Relaxed);
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
        lock(&self.stores).insert(key, store.reader());
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
