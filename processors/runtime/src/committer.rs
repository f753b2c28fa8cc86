//! A backlog's transactions, sent and committed by a thread of their own while their owner decides the next one.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::log::LogError;

type Outcome = Result<i64, LogError>;
type Publish = Box<dyn FnOnce() -> Outcome + Send>;

/// One thread, begun with the first backlog and kept: a new one for every transaction would get its memory from another
/// of the allocator's arenas each time, and touch fresh pages for what the one before has just given back.
#[derive(Debug)]
struct Worker {
    transactions: Sender<Publish>,
    outcomes: Receiver<Outcome>,
    is_busy: bool,
}

/// At most one transaction on its way. One whose outcome nobody asks for is waited for when this is dropped.
#[derive(Debug, Default)]
pub struct Committer(Option<Worker>);

fn lost() -> LogError {
    LogError::Recover("the thread that commits has panicked".into())
}

impl Committer {
    /// Starts `publish`, which sends and commits a transaction and returns the offset after its last record.
    ///
    /// # Errors
    /// Where there is no thread to be had: nothing was sent.
    pub fn start(
        &mut self,
        publish: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Result<(), LogError> {
        let worker = match &mut self.0 {
            Some(worker) => worker,
            none => none.insert(Worker::start()?),
        };
        debug_assert!(!worker.is_busy, "one transaction at a time");
        worker.transactions.send(Box::new(publish)).map_err(|_| lost())?;
        worker.is_busy = true;
        Ok(())
    }

    /// Waits for the outcome; `None` where nothing is on its way.
    pub fn outcome(&mut self) -> Option<Outcome> {
        let worker = self.0.as_mut().filter(|worker| worker.is_busy)?;
        worker.is_busy = false;
        let outcome = worker.outcomes.recv();
        if outcome.is_err() {
            self.0 = None; // the next transaction gets another thread
        }
        Some(outcome.unwrap_or_else(|_| Err(lost())))
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.outcome());
    }
}

impl Worker {
    /// Its thread ends when nobody can send to it any more.
    fn start() -> Result<Self, LogError> {
        let (transactions, queue) = channel::<Publish>();
        let (answers, outcomes) = channel();
        let run = move || {
            while let Ok(publish) = queue.recv() {
                if answers.send(publish()).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("log-committer".into()).spawn(run);
        thread.map_err(|error| LogError::Recover(error.to_string()))?;
        Ok(Self { transactions, outcomes, is_busy: false })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_panic_asks_for_recovery_and_the_next_transaction_gets_another_thread() {
        let mut committer = Committer::default();
        committer.start(|| panic!("a defect of the client")).unwrap();
        assert!(matches!(committer.outcome(), Some(Err(LogError::Recover(_)))));
        assert_eq!(committer.outcome(), None, "told once");
        committer.start(|| Ok(7)).unwrap();
        assert_eq!(committer.outcome(), Some(Ok(7)));
    }

    #[test]
    fn a_transaction_that_nobody_awaits_is_over_before_the_committer_is_gone() {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = is_over.clone();
        let mut committer = Committer::default();
        let slow = move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            told.store(true, Ordering::SeqCst);
            Ok(1)
        };
        committer.start(slow).unwrap();
        drop(committer);
        assert!(is_over.load(Ordering::SeqCst));
    }
}
