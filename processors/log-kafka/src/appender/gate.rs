//! What of a partition's intents the client may have now.
//!
//! librdkafka allows an idempotent producer five unacknowledged messages per partition before it makes another request,
//! and what it holds beyond them it polls for without a pause (`rd_kafka_toppar_producer_serve`; confluentinc/librdkafka
//! pull request 4989). A core spent so is one that the broker waits for. So what cannot be sent waits here, and goes with
//! the next request: a burst is gathered, and a lone buyer waits for nobody.

/// Handed over at once while fewer are unacknowledged: librdkafka's own limit.
const UNACKNOWLEDGED_MAX: usize = 5;
/// Waiting for one partition; beyond it ingest sheds load.
const WAITING_MAX: usize = 100_000;

/// What becomes of an item.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Admission<T> {
    /// Hand it over.
    Now(T),
    /// It comes out of [`Gate::acknowledged`] or [`Gate::refused`].
    Later,
    /// Too many are waiting.
    Full(T),
}

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
    pub(super) fn admit(&mut self, item: T) -> Admission<T> {
        if self.unacknowledged < UNACKNOWLEDGED_MAX {
            self.unacknowledged += 1;
            Admission::Now(item)
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push(item);
            Admission::Later
        } else {
            Admission::Full(item)
        }
    }

    /// One that was handed over is in the log, or was not taken by the client. Returns what to hand over now.
    pub(super) fn acknowledged(&mut self) -> Vec<T> {
        self.unacknowledged -= 1;
        if self.unacknowledged >= UNACKNOWLEDGED_MAX {
            return Vec::new();
        }
        self.unacknowledged += self.waiting.len();
        std::mem::take(&mut self.waiting)
    }

    /// One that was handed over did not reach the log in time. Returns those that waited for it: they have waited as
    /// long, and nothing was written of them.
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
            assert_eq!(gate.admit(item), Admission::Now(item), "a lone buyer waits for nobody");
        }
        assert_eq!(gate.admit(6), Admission::Later);
        assert_eq!(gate.admit(7), Admission::Later);
        gate
    }

    #[test]
    fn what_waits_is_handed_over_once_and_in_order_when_there_is_room() {
        let mut gate = crowded();
        assert_eq!(gate.acknowledged(), [6, 7]);
        assert_eq!(gate.admit(8), Admission::Later, "six are on their way");
        assert!(gate.acknowledged().is_empty(), "five still are");
        assert_eq!(gate.acknowledged(), [8]);
    }

    #[test]
    fn nobody_waits_behind_one_that_was_refused() {
        let mut gate = crowded();
        assert_eq!(gate.refused(), [6, 7]);
        assert_eq!(gate.admit(8), Admission::Now(8));
    }

    #[test]
    fn a_full_gate_gives_the_item_back() {
        let mut gate = crowded();
        for item in 8..u32::try_from(WAITING_MAX).unwrap_or(0) + 6 {
            assert_eq!(gate.admit(item), Admission::Later);
        }
        assert_eq!(gate.admit(0), Admission::Full(0));
    }

    #[test]
    fn everything_that_was_admitted_comes_out_again() {
        let mut gate = Gate::default();
        let (mut on_their_way, mut admitted) = (0, 0);
        for item in 0..1_000_u32 {
            match gate.admit(item) {
                Admission::Now(_) => on_their_way += 1,
                Admission::Later => {}
                Admission::Full(_) => unreachable!("a thousand never fill it"),
            }
            admitted += 1;
            if item % 3 == 0 {
                on_their_way += gate.acknowledged().len();
                on_their_way -= 1;
                admitted -= 1;
            }
        }
        while on_their_way > 0 {
            on_their_way += gate.acknowledged().len();
            on_their_way -= 1;
            admitted -= 1;
        }
        assert_eq!(admitted, 0);
    }
}
