//! Group commit of intents: one thread takes everything that has arrived, writes it with one `fsync`, and
//! answers. It is the only writer of the intents topics.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rocksdb::WriteBatch;
use runtime::{AppendError, IntentAppender, IntentToAppend};
use schemas::partition::Partition;
use schemas::topics::Topic;
use tokio::sync::oneshot;

use super::keys::{OffsetKeys, topic_index};
use super::row::{Kind, Run};
use super::{EmbeddedLog, Inner};

/// Intents waiting for the disk; beyond it ingest sheds load.
const QUEUE_MAX: usize = 65_536;
/// Intents of one group commit.
const GROUP_MAX: usize = 8_192;

type Answer = oneshot::Sender<Result<i64, AppendError>>;

struct Request {
    intent: IntentToAppend,
    answer: Answer,
}

pub(super) struct Appender {
    queue: Mutex<Option<SyncSender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Appender {
    pub(super) fn start(inner: Arc<Inner>) -> std::io::Result<Self> {
        let (queue, requests) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("log-appender".into())
            .spawn(move || run(&inner, &requests))?;
        Ok(Self { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }

    fn push(&self, request: Request) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else { return };
        let refused = match queue.try_send(request) {
            Ok(()) => return,
            Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) => request,
        };
        drop(refused.answer.send(Err(AppendError::NotWritten("the append queue is full".into()))));
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            drop(thread.join());
        }
    }
}

fn run(inner: &Inner, requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(next) = requests.try_recv()
        {
            group.push(next);
        }
        commit(inner, group);
    }
}

fn commit(inner: &Inner, group: Vec<Request>) {
    // A log that has failed before refuses the write as a whole; the first failure may have left something.
    let had_failed = !inner.is_writable.load(Ordering::Acquire);
    let now = (inner.clock)();
    let mut batch = WriteBatch::default();
    let mut runs: BTreeMap<(usize, Partition), (Topic, Run)> = BTreeMap::new();
    let mut answers = Vec::with_capacity(group.len());
    for Request { intent, answer } in group {
        let IntentToAppend { topic, partition, value, .. } = intent;
        let (_, run) = runs.entry((topic_index(topic), partition)).or_insert_with(|| {
            let keys = OffsetKeys::of_records(topic, partition);
            (topic, Run::new(keys, Kind::Record, now, inner.slot(topic, partition).end()))
        });
        answers.push((answer, run.push(&mut batch, &value)));
    }
    let ends = runs
        .into_iter()
        .map(|((_, partition), (topic, run))| (topic, partition, run.finish(&mut batch)));
    let ends: Vec<_> = ends.collect();
    let written = inner.write(batch, true);
    if written.is_ok() {
        for (topic, partition, end) in ends {
            inner.slot(topic, partition).end.store(end, Ordering::Release);
            inner.announce(topic, partition);
        }
    }
    for (answer, offset) in answers {
        let result = written.clone().map(|()| offset).map_err(|why| {
            if had_failed { AppendError::NotWritten(why) } else { AppendError::Unknown(why) }
        });
        drop(answer.send(result));
    }
}

impl IntentAppender for EmbeddedLog {
    fn append(&self, intent: IntentToAppend) -> oneshot::Receiver<Result<i64, AppendError>> {
        let (answer, receiver) = oneshot::channel();
        self.appender.push(Request { intent, answer });
        receiver
    }

    fn is_reachable(&self) -> bool {
        self.inner.is_writable.load(Ordering::Acquire)
    }
}
