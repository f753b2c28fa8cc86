//! A thread beside an owner. What a backlog's owner need not do itself is done while it decides: records are chained, a
//! transaction is sent and committed, the next intents are taken from the log, read, and looked for in the store. In
//! recovery decisions are read and held against the chain while the ones before are applied.

use std::sync::mpsc::{Receiver, SendError, Sender, channel};

use crate::log::LogError;

type Outcome<T> = Result<T, LogError>;
type Work<T> = Box<dyn FnOnce() -> Outcome<T> + Send>;

/// One thread, begun with the first piece of work and kept: a new one each time would get its memory from another of
/// the allocator's arenas, and touch fresh pages for what the one before has just given back.
struct Thread<T> {
    work: Sender<Work<T>>,
    outcomes: Receiver<Outcome<T>>,
    is_busy: bool,
}

/// At most one piece of work on its way. One whose outcome nobody asks for is waited for when this is dropped.
pub struct Worker<T> {
    /// Of the thread; `None` where the caller's own does the work.
    name: Option<&'static str>,
    thread: Option<Thread<T>>,
    done: Option<Outcome<T>>,
}

impl<T> std::fmt::Debug for Worker<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Worker").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T> Worker<T> {
    /// Works on a thread of this name.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self { name: Some(name), thread: None, done: None }
    }

    /// Works at once, on the thread that asks for it: a simulation has only one.
    #[must_use]
    pub const fn inline() -> Self {
        Self { name: None, thread: None, done: None }
    }

    /// Waits for the outcome; `None` where nothing is on its way.
    pub fn outcome(&mut self) -> Option<Outcome<T>> {
        if let Some(done) = self.done.take() {
            return Some(done);
        }
        let thread = self.thread.as_mut().filter(|thread| thread.is_busy)?;
        thread.is_busy = false;
        let outcome = thread.outcomes.recv();
        if outcome.is_err() {
            self.thread = None; // the next piece gets another
        }
        Some(outcome.unwrap_or_else(|_| Err(self.lost())))
    }

    fn lost(&self) -> LogError {
        LogError::Recover(format!("the thread {} has panicked", self.name.unwrap_or_default()))
    }
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a piece of work. The outcome of the one before was asked for. Where there is no thread to be had, the
    /// caller does it: slower, not wrong.
    pub fn start(&mut self, work: impl FnOnce() -> Outcome<T> + Send + 'static) {
        debug_assert!(self.done.is_none(), "one piece at a time");
        if self.thread.is_none() {
            self.thread = self.name.and_then(Thread::start);
        }
        let Some(thread) = &mut self.thread else {
            return self.do_now(work);
        };
        debug_assert!(!thread.is_busy, "one piece at a time");
        match thread.work.send(Box::new(work)) {
            Ok(()) => thread.is_busy = true,
            Err(SendError(work)) => self.done = Some(work()),
        }
    }

    /// Starts what is worth a thread, and does at once what is not.
    pub fn start_if(
        &mut self,
        is_worth_a_thread: bool,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) {
        if is_worth_a_thread { self.start(work) } else { self.do_now(work) }
    }

    fn do_now(&mut self, work: impl FnOnce() -> Outcome<T>) {
        debug_assert!(self.done.is_none(), "one piece at a time");
        self.done = Some(work());
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        drop(self.outcome());
    }
}

impl<T: Send + 'static> Thread<T> {
    /// It ends when nobody can send to it any more. `None` where the system gives no thread.
    fn start(name: &str) -> Option<Self> {
        let (work, queue) = channel::<Work<T>>();
        let (answers, outcomes) = channel();
        let run = move || {
            while let Ok(work) = queue.recv() {
                if answers.send(work()).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(run).ok()?;
        Some(Self { work, outcomes, is_busy: false })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_panic_asks_for_recovery_and_the_next_piece_gets_another_thread() {
        let mut worker = Worker::named("test");
        worker.start(|| panic!("a defect of the client"));
        assert!(matches!(worker.outcome(), Some(Err(LogError::Recover(_)))));
        assert_eq!(worker.outcome(), None, "told once");
        worker.start(|| Ok(7));
        assert_eq!(worker.outcome(), Some(Ok(7)));
    }

    #[test]
    fn what_nobody_awaits_is_over_before_the_worker_is_gone() {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = is_over.clone();
        let mut worker = Worker::named("test");
        let slow = move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            told.store(true, Ordering::SeqCst);
            Ok(1)
        };
        worker.start(slow);
        drop(worker);
        assert!(is_over.load(Ordering::SeqCst));
    }

    #[test]
    fn inline_work_is_done_on_the_thread_that_asks_for_it() {
        let here = std::thread::current().id();
        let is_here = move || Ok(std::thread::current().id() == here);
        for (mut worker, is_worth_a_thread, expected) in [
            (Worker::inline(), true, true),
            (Worker::named("test"), false, true),
            (Worker::named("test"), true, false),
        ] {
            worker.start_if(is_worth_a_thread, is_here);
            assert_eq!((worker.outcome(), worker.outcome()), (Some(Ok(expected)), None));
        }
    }
}
