//! A backlog's transaction, sent and committed by a thread of its own while its owner decides the next one.

use std::thread::JoinHandle;

use crate::log::LogError;

/// At most one transaction on its way. One whose outcome nobody asks for is waited for when this is dropped.
#[derive(Debug, Default)]
pub struct Committer(Option<JoinHandle<Result<i64, LogError>>>);

impl Committer {
    /// Starts `publish`, which sends and commits a transaction and returns the offset after its last record.
    ///
    /// # Errors
    /// Where there is no thread to be had: nothing was sent.
    pub fn start(
        &mut self,
        publish: impl FnOnce() -> Result<i64, LogError> + Send + 'static,
    ) -> Result<(), LogError> {
        debug_assert!(self.0.is_none(), "one transaction at a time");
        let thread = std::thread::Builder::new().name("log-committer".into()).spawn(publish);
        self.0 = Some(thread.map_err(|error| LogError::Recover(error.to_string()))?);
        Ok(())
    }

    /// Waits for the outcome; `None` where nothing is on its way.
    pub fn outcome(&mut self) -> Option<Result<i64, LogError>> {
        let panicked = |_| Err(LogError::Recover("the thread that commits has panicked".into()));
        self.0.take().map(|thread| thread.join().unwrap_or_else(panicked))
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        drop(self.outcome());
    }
}
