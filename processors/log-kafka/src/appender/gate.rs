//! What of a partition's intents the client may have now.
//!
//! librdkafka makes no other request for an idempotent producer's partition while five messages or more of it are
//! unacknowledged, and polls without a pause for what it holds meanwhile (`rd_kafka_toppar_producer_serve`). A core spent
//! so is one that the broker waits for. So what cannot be sent waits here, and goes with the next request: a burst is
//! gathered, and a lone buyer waits for nobody. That request is gathered by librdkafka for a while (`linger.ms`): what
//! comes in the first part of it need not wait for the request after.

use std::time::{Duration, Instant};

/// Handed over at once while fewer are unacknowledged: librdkafka's own limit.
const UNACKNOWLEDGED_MAX: usize = 5;
/// How long librdkafka gathers those that waited into one request. A request costs broker and client hundreds of
/// microseconds of CPU time, however much it holds.
pub(super) const GATHER: Duration = Duration::from_millis(2);
/// How long others join them. Who joins too late for the request is polled for, so handing over has the rest.
const JOIN: Duration = Duration::from_micros(1_500);

/// How an item goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// In a request of its own.
    AtOnce,
    /// With those that waited.
    Gathered,
}

/// One partition's items: a number of unacknowledged ones, and those that wait for them.
#[derive(Debug)]
pub(super) struct Gate<T> {
    unacknowledged: usize,
    waiting: Vec<T>,
    /// Until when those that waited last are joined.
    joined_until: Option<Instant>,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self { unacknowledged: 0, waiting: Vec::new(), joined_until: None }
    }
}

impl<T> Gate<T> {
    /// The item, to be handed over now, or `None` where it waits.
    pub(super) fn admit(&mut self, item: T, now: Instant) -> Option<(Way, T)> {
        let way = if self.unacknowledged < UNACKNOWLEDGED_MAX {
            Way::AtOnce
        } else if self.joined_until.is_some_and(|until| now < until) {
            Way::Gathered
        } else {
            self.waiting.push(item);
            return None;
        };
        self.unacknowledged += 1;
        Some((way, item))
    }

    /// One that was handed over is in the log. Returns those that waited, to be handed over now.
    pub(super) fn acknowledged(&mut self, now: Instant) -> Vec<T> {
        self.unacknowledged -= 1;
        if self.unacknowledged >= UNACKNOWLEDGED_MAX || self.waiting.is_empty() {
            return Vec::new();
        }
        self.unacknowledged += self.waiting.len();
        self.joined_until = Some(now + JOIN);
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
    use platform::clock::monotonic;

    use super::*;

    /// Five that are on their way, and the sixth and seventh that wait for them.
    fn crowded(now: Instant) -> Gate<u32> {
        let mut gate = Gate::default();
        for item in 1..=5 {
            let lone = Some((Way::AtOnce, item));
            assert_eq!(gate.admit(item, now), lone, "a lone buyer waits for nobody");
        }
        assert_eq!(gate.admit(6, now), None);
        assert_eq!(gate.admit(7, now), None);
        gate
    }

    #[test]
    fn what_waits_is_handed_over_once_and_in_order_when_there_is_room() {
        let start = monotonic();
        let mut gate = crowded(start);
        assert_eq!(gate.acknowledged(start), [6, 7]);
        assert_eq!(gate.admit(8, start + JOIN), None, "six are on their way");
        assert!(gate.acknowledged(start + JOIN).is_empty(), "five still are");
        assert_eq!(gate.acknowledged(start + JOIN), [8]);
    }

    #[test]
    fn a_request_that_is_gathered_is_joined_while_it_can_be() {
        let start = monotonic();
        let mut gate = crowded(start);
        assert_eq!(gate.acknowledged(start), [6, 7]);
        assert_eq!(gate.admit(8, start), Some((Way::Gathered, 8)));
        let late = start + JOIN;
        assert_eq!(gate.admit(9, late), None);
        for left in [6, 5] {
            assert!(gate.acknowledged(late).is_empty(), "{left} are on their way");
        }
        assert_eq!(gate.acknowledged(late), [9]);
        assert_eq!(gate.admit(10, late), Some((Way::Gathered, 10)), "with the next one");
    }

    #[test]
    fn nobody_waits_behind_one_that_was_refused() {
        let start = monotonic();
        let mut gate = crowded(start);
        assert_eq!(gate.refused(), [6, 7]);
        assert_eq!(gate.admit(8, start), Some((Way::AtOnce, 8)));
    }

    #[test]
    fn everything_that_was_admitted_comes_out_again() {
        let start = monotonic();
        let mut gate = Gate::default();
        let (mut on_their_way, mut acknowledged) = (0, 0);
        for item in 0..1_000 {
            let now = start + Duration::from_micros(100) * item;
            on_their_way += usize::from(gate.admit(item, now).is_some());
            if item % 3 == 0 {
                on_their_way += gate.acknowledged(now).len();
                on_their_way -= 1;
                acknowledged += 1;
            }
        }
        while on_their_way > 0 {
            on_their_way += gate.acknowledged(start).len();
            on_their_way -= 1;
            acknowledged += 1;
        }
        assert_eq!(acknowledged, 1_000);
    }
}
