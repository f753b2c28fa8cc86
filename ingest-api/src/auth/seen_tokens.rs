//! Tokens whose signature was checked once: a signature costs more than the rest of an order, and a buyer who waits for
//! a drop sends the same token again and again.
//!
//! Only what was verified gets in, and leaves with its token's expiry; a token is told by its BLAKE3 hash, so one that
//! differs in any byte is another one.

use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;
use schemas::ids::Hash;
use schemas::units::Millis;

use super::Caller;

/// Tokens of a generation. Two are kept, about 200 bytes each: some 20 MB. So of the buyers who wait on a node, the last
/// 50,000 to 100,000 are known when they order.
const GENERATION_MAX: usize = 50_000;

#[derive(Clone)]
struct Seen {
    caller: Caller,
    expires_at: Millis,
}

/// The tokens seen lately: when the young generation is full, it becomes the old one and the old one is forgotten.
#[derive(Default)]
struct Generations {
    young: FxHashMap<Hash, Seen>,
    old: FxHashMap<Hash, Seen>,
}

impl Generations {
    fn insert(&mut self, token: Hash, seen: Seen) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, seen);
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct SeenTokens(Mutex<Generations>);

impl SeenTokens {
    /// The caller of a token that was verified before and is valid still.
    pub(super) fn caller(&self, token: Hash, now: Millis) -> Option<Caller> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = if let Some(seen) = generations.young.get(&token) {
            seen.clone()
        } else {
            let seen = generations.old.remove(&token)?;
            generations.insert(token, seen.clone());
            seen
        };
        (now < seen.expires_at).then_some(seen.caller)
    }

    pub(super) fn remember(&self, token: Hash, caller: Caller, expires_at: Millis) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.insert(token, Seen { caller, expires_at });
    }
}

#[cfg(test)]
mod tests {
    use schemas::ids::UserId;

    use super::*;

    fn caller(number: usize) -> Caller {
        let mut user = [0; 16];
        user[..8].copy_from_slice(&number.to_be_bytes());
        Caller { user: UserId(user), creators: Vec::new(), is_admin: false }
    }

    fn token(number: usize) -> Hash {
        Hash::of(&[&number.to_be_bytes()])
    }

    #[test]
    fn a_token_counts_until_it_expires() {
        let seen = SeenTokens::default();
        assert_eq!(seen.caller(token(1), Millis(0)), None);
        seen.remember(token(1), caller(1), Millis(1_000));
        assert_eq!(seen.caller(token(1), Millis(999)), Some(caller(1)));
        assert_eq!(seen.caller(token(1), Millis(1_000)), None, "expired");
        assert_eq!(seen.caller(token(2), Millis(999)), None, "another token");
    }

    #[test]
    fn a_token_in_use_stays_and_the_others_are_forgotten() {
        let seen = SeenTokens::default();
        for number in 0..5 * GENERATION_MAX {
            seen.remember(token(number), caller(number), Millis(1_000));
            assert!(number == 0 || seen.caller(token(1), Millis(0)).is_some(), "at {number}");
        }
        assert_eq!(seen.caller(token(2), Millis(0)), None, "long unused");
        let generations = seen.0.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION_MAX);
    }
}
