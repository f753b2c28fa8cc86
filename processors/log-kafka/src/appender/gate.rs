//! What of a partition's intents the client may have now.
//!
//! librdkafka makes no other request for an idempotent producer's partition while five messages or more of it are
//! unacknowledged, and polls without a pause for what it holds meanwhile (`rd_kafka_toppar_producer_serve`). A core spent
//! so is one that the broker waits for. So what cannot be sent waits here, and goes with the next request: a burst is
//! gathered, and a lone buyer waits for nobody.

/// Handed over at once while fewer are unacknowledged: librdkafka's own limit.
const UNACKNOWLEDGED_MAX: usize = 5;

/// One partition's items: a number of unacknowledged ones, and those that wait for them.
#[derive(Debug)]
pub(super) struct Gate<T> {
    unacknowledged: usize,
    waiting: Vec<T>,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { unacknowledged: 0, waiting: Vec::new() }
    }
}

impl<T> Gate<T> {
    /// The item, to be handed over now, or `None` where it waits.
    pub(super) fn admit(&mut self, item: T) -> Option<T> {
        if self.unacknowledged < UNACKNOWLEDGED_MAX {
            self.unacknowledged += 1;
            return Some(item);
        }
        self.waiting.push(item);
        None
    }

    /// One that was handed over is in the log. Returns what to hand over now.
    pub(super) fn acknowledged(&mut self) -> Vec<T> {
        self.unacknowledged -= 1;
        if self.unacknowledged >= UNACKNOWLEDGED_MAX {
            return Vec::new();
        }
        self.unacknowledged += self.waiting.len();
        std::mem::take(&mut self.waiting)
    }

    /// One that was handed over did not reach the log. Returns those that wait, to be turned away: whoever is told now
    /// that nothing was written can try again, and a log that does not answer is not filled further.
    pub(super) fn refused(&mut self) -> Vec<T> {
        self.unacknowledged -= 1;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five that are on their way, and the sixth and seventh that wait for them.
    fn crowded() -> Gate<u32> {
        let mut gate = Gate::default();
        for item in 1..=5 {
            assert_eq!(gate.admit(item), Some(item), "a lone buyer waits for nobody");
        }
        assert_eq!(gate.admit(6), None);
        assert_eq!(gate.admit(7), None);
        gate
    }

    #[test]
    fn what_waits_is_handed_over_once_and_in_order_when_there_is_room() {
        let mut gate = crowded();
        assert_eq!(gate.acknowledged(), [6, 7]);
        assert_eq!(gate.admit(8), None, "six are on their way");
        assert!(gate.acknowledged().is_empty(), "five still are");
        assert_eq!(gate.acknowledged(), [8]);
    }

    #[test]
    fn nobody_waits_behind_one_that_was_refused() {
        let mut gate = crowded();
        assert_eq!(gate.refused(), [6, 7]);
        assert_eq!(gate.admit(8), Some(8));
    }

    #[test]
    fn everything_that_was_admitted_comes_out_again() {
        let mut gate = Gate::default();
        let (mut on_their_way, mut acknowledged) = (0, 0);
        for item in 0..1_000 {
            on_their_way += usize::from(gate.admit(item).is_some());
            if item % 3 == 0 {
                on_their_way += gate.acknowledged().len();
                on_their_way -= 1;
                acknowledged += 1;
            }
        }
        while on_their_way > 0 {
            on_their_way += gate.acknowledged().len();
            on_their_way -= 1;
            acknowledged += 1;
        }
        assert_eq!(acknowledged, 1_000);
    }
}
