//! Ed25519 signatures that wait at the same time are checked at once.
//!
//! One equation over a sum of many signatures of one key takes a quarter to a fifth of the time of as many equations
//! (<https://docs.rs/ed25519-zebra/5.0.0/ed25519_zebra/batch>, with ZIP 215, which makes a signature valid or not
//! whatever company it is in). A rush of new tokens is what fills batches; a lone token is a batch of its own and
//! waits for nobody. Where a batch fails, each of its signatures is looked at alone: a wrong token costs what it would
//! have cost without batches, and the batch.

use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_zebra::batch::{Item, Verifier};
use ed25519_zebra::{Signature, VerificationKeyBytes};
use tokio::sync::oneshot;

/// What one more signature saves is nothing beyond this. A batch keeps a worker for half a millisecond, two where one of
/// its tokens is wrong.
const BATCH_MAX: usize = 32;

struct Waiting {
    signature: Item,
    is_valid: oneshot::Sender<bool>,
}

/// Signatures that nobody has checked yet. If there are any, a task is on its way that will.
#[derive(Clone, Default)]
pub(super) struct Signatures(Arc<Mutex<Vec<Waiting>>>);

impl Signatures {
    /// Whether this is the key's signature of the message, in the base64url of a JWT.
    pub(super) async fn is_valid(
        &self,
        key: VerificationKeyBytes,
        message: &str,
        signature: &str,
    ) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        let Ok(signature) = Signature::try_from(bytes.as_slice()) else { return false };
        let signature = Item::from((key, signature, message));
        let (is_valid, answer) = oneshot::channel();
        self.enqueue(Waiting { signature: signature.clone(), is_valid });
        // No answer comes only where checking panicked.
        answer.await.unwrap_or_else(|_| signature.verify_single().is_ok())
    }

    fn enqueue(&self, waiting: Waiting) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(waiting);
        match all.len() {
            // A task of its own: the caller may go away, and others would wait for it.
            1 => drop(tokio::spawn(self.clone().check_all_that_come())),
            BATCH_MAX => {
                let full = take(&mut *all);
                drop(all);
                check(full);
            }
            _ => {}
        }
    }

    /// Lets the requests that are ready now hand in their signatures, then checks them.
    async fn check_all_that_come(self) {
        tokio::task::yield_now().await;
        // Not within the call: the others hand in theirs meanwhile.
        let batch = take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        check(batch);
    }
}

fn check(batch: Vec<Waiting>) {
    if batch.is_empty() {
        return; // it was full before its task ran
    }
    metrics::counter!("livedrops_token_batches_total").increment(1);
    let mut verifier = Verifier::new();
    if batch.len() > 1 {
        batch.iter().for_each(|waiting| verifier.queue(waiting.signature.clone()));
    }
    let are_all_valid = batch.len() > 1 && verifier.verify(rand::rng()).is_ok();
    for Waiting { signature, is_valid } in batch {
        // Who asked may be gone.
        let _ = is_valid.send(are_all_valid || signature.verify_single().is_ok());
    }
}
