//! Out of the log: what this node has seen of the committed decisions, and who waits for more of it.
//!
//! One thread tails each decisions topic (`read_committed`) and applies record after record; handlers read and
//! wait. Registering comes before reading, so no wake-up is lost between the two.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use schemas::decision::{Decision, Outcome};
use schemas::follow::{FollowBody, FollowRow};
use schemas::ids::{CreatorId, DropId, IntentId, OrderId, UserId, VariantId};
use schemas::order::{
    DropEventKind, DropRow, DropStatus, OrderBody, OrderRow, Reason, Refusal, StockRow,
};
use schemas::partition::Partition;
use schemas::units::Millis;
use tokio::sync::{Notify, broadcast, oneshot};

use crate::archive::DropState;

/// Orders (and follows) kept; older ones are read from the archive.
const ROWS_MAX: usize = 400_000;
/// Changes a slow drop stream may trail behind before it re-reads the drop.
const DROP_CHANGES_MAX: usize = 256;

/// A committed order decision.
#[derive(Debug)]
pub struct OrderDecided {
    /// Its partition.
    pub partition: Partition,
    /// The record.
    pub decision: Decision<OrderBody>,
}

/// What a drop's stream shows.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum DropChange {
    Edge(DropEventKind),
    Row,
}

/// What is known of one order.
#[derive(Clone, Debug)]
pub(crate) enum OrderSeen {
    /// Every version seen, oldest first.
    Row { versions: Vec<Arc<OrderRow>> },
    /// Turned down without a row: the key is unspent.
    Refused(Refusal),
}

#[derive(Default)]
struct State {
    orders: FxHashMap<OrderId, OrderSeen>,
    order_ages: VecDeque<OrderId>,
    order_waiters: FxHashMap<OrderId, Vec<oneshot::Sender<()>>>,
    drops: FxHashMap<DropId, DropSeen>,
    follows: FxHashMap<(CreatorId, UserId), FollowRow>,
    follow_ages: VecDeque<(CreatorId, UserId)>,
}

/// A drop as far as this node has seen it: of one whose terms, or the stock of some variant, are older than the window the
/// rest comes from the archive.
struct DropSeen {
    drop: Option<DropRow>,
    stocks: Vec<StockRow>,
    changes: broadcast::Sender<DropChange>,
}

impl Default for DropSeen {
    fn default() -> Self {
        let changes = broadcast::channel(DROP_CHANGES_MAX).0;
        Self { drop: None, stocks: Vec::new(), changes }
    }
}

impl DropSeen {
    fn stock_mut(&mut self, variant: VariantId) -> Option<&mut StockRow> {
        self.stocks.iter_mut().find(|stock| stock.variant_id == variant)
    }

    fn add_stock(&mut self, stock: StockRow) {
        self.stocks.push(stock);
        self.stocks.sort_by_key(|stock| stock.variant_id);
    }
}

type OrderWaiters = FxHashMap<IntentId, oneshot::Sender<Arc<OrderDecided>>>;
type FollowWaiters = FxHashMap<IntentId, oneshot::Sender<Arc<Decision<FollowBody>>>>;

/// Next intent to be decided per partition, as far as this node has seen.
#[derive(Debug)]
pub(crate) struct Progress {
    next: Vec<AtomicI64>,
    moved: Notify,
}

impl Progress {
    fn new(partitions: u16) -> Self {
        Self { next: (0..partitions).map(|_| AtomicI64::new(0)).collect(), moved: Notify::new() }
    }

    fn advance(&self, partition: Partition, next: i64) {
        if let Some(slot) = self.next.get(usize::from(partition.0)) {
            slot.fetch_max(next, Ordering::AcqRel);
        }
    }

    /// Whether every intent up to and including `offset` is decided.
    pub(crate) fn has_passed(&self, partition: Partition, offset: i64) -> bool {
        let next = self.next.get(usize::from(partition.0));
        next.is_none_or(|next| next.load(Ordering::Acquire) > offset)
    }

    /// The last intent known to be decided; 0 where none is.
    pub(crate) fn last_decided(&self, partition: Partition) -> i64 {
        let next = self.next.get(usize::from(partition.0));
        next.map_or(0, |next| (next.load(Ordering::Acquire) - 1).max(0))
    }

    /// Waits until `offset` is decided; the caller bounds the wait.
    pub(crate) async fn wait_past(&self, partition: Partition, offset: i64) {
        loop {
            let moved = self.moved.notified();
            if self.has_passed(partition, offset) {
                return;
            }
            moved.await;
        }
    }
}

/// See the module.
pub struct Window {
    state: Mutex<State>,
    order_waiters: Mutex<OrderWaiters>,
    follow_waiters: Mutex<FollowWaiters>,
    pub(crate) order_progress: Progress,
    pub(crate) follow_progress: Progress,
}

/// Waits for the next change of an order. Whether it comes or the client hangs up before, made-up ids leave nothing behind.
pub(crate) struct OrderWatch {
    window: Arc<Window>,
    order: OrderId,
    changed: Option<oneshot::Receiver<()>>,
}

impl OrderWatch {
    pub(crate) async fn changed(mut self) {
        if let Some(changed) = &mut self.changed {
            drop_result(changed.await);
        }
    }
}

impl Drop for OrderWatch {
    fn drop(&mut self) {
        self.changed = None; // closed before it is looked for
        let mut state = lock(&self.window.state);
        if let Some(waiters) = state.order_waiters.get_mut(&self.order) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                state.order_waiters.remove(&self.order);
            }
        }
    }
}

impl std::fmt::Debug for Window {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Window").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new(partitions: u16) -> Self {
        Self {
            state: Mutex::default(),
            order_waiters: Mutex::default(),
            follow_waiters: Mutex::default(),
            order_progress: Progress::new(partitions),
            follow_progress: Progress::new(partitions),
        }
    }

    /// Registers for the decision of an intent that is about to be appended.
    pub(crate) fn await_order_decision(
        &self,
        intent: IntentId,
    ) -> oneshot::Receiver<Arc<OrderDecided>> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.order_waiters).insert(intent, sender);
        receiver
    }

    pub(crate) fn forget_order_decision(&self, intent: IntentId) {
        lock(&self.order_waiters).remove(&intent);
    }

    /// Registers for the decision of a follow intent.
    pub(crate) fn await_follow_decision(
        &self,
        intent: IntentId,
    ) -> oneshot::Receiver<Arc<Decision<FollowBody>>> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.follow_waiters).insert(intent, sender);
        receiver
    }

    pub(crate) fn forget_follow_decision(&self, intent: IntentId) {
        lock(&self.follow_waiters).remove(&intent);
    }

    /// Registers for the next change of an order, then reads it.
    pub(crate) fn watch_order(self: &Arc<Self>, order: OrderId) -> (OrderWatch, Option<OrderSeen>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = lock(&self.state);
        state.order_waiters.entry(order).or_default().push(sender);
        let seen = state.orders.get(&order).cloned();
        (OrderWatch { window: self.clone(), order, changed: Some(receiver) }, seen)
    }

    /// A drop as this node knows it, with its coming changes; without the stock of variants that it has not seen.
    pub(crate) fn drop_state(
        &self,
        drop: DropId,
    ) -> Option<(DropState, broadcast::Receiver<DropChange>)> {
        let state = lock(&self.state);
        let seen = state.drops.get(&drop)?;
        let state = DropState { drop: seen.drop.clone()?, stocks: seen.stocks.clone() };
        Some((state, seen.changes.subscribe()))
    }

    /// When a drop that is not on sale yet opens.
    pub(crate) fn opens_at(&self, drop: DropId) -> Option<Millis> {
        let state = lock(&self.state);
        let row = state.drops.get(&drop)?.drop.as_ref()?;
        (row.status == DropStatus::Upcoming).then_some(row.starts_at)
    }

    /// Keeps what was read of a drop from the archive, so that its changes can be streamed. What this node has seen itself
    /// is newer.
    pub(crate) fn adopt_drop(&self, found: DropState) {
        let mut state = lock(&self.state);
        let seen = state.drops.entry(found.drop.drop_id).or_default();
        seen.drop.get_or_insert(found.drop);
        for stock in found.stocks {
            if seen.stock_mut(stock.variant_id).is_none() {
                seen.add_stock(stock);
            }
        }
    }

    pub(crate) fn follow(&self, creator: CreatorId, user: UserId) -> Option<FollowRow> {
        lock(&self.state).follows.get(&(creator, user)).copied()
    }

    /// Applies committed order decisions in log order, then wakes who waits for them.
    pub fn apply_orders(&self, decisions: Vec<OrderDecided>) {
        let mut woken = Vec::new();
        let mut edges = Vec::new();
        {
            let mut state = lock(&self.state);
            for decided in &decisions {
                state.apply(&decided.decision, &mut edges, &mut woken);
            }
            for (drop, change) in edges {
                if let Some(seen) = state.drops.get(&drop) {
                    // Nobody listening is fine.
                    drop_result(seen.changes.send(change));
                }
            }
        }
        for decided in &decisions {
            let next = decided.decision.header.next_intent_offset;
            self.order_progress.advance(decided.partition, next);
        }
        self.order_progress.moved.notify_waiters();
        woken.into_iter().for_each(|waiter| drop_result(waiter.send(())));
        let mut waiters = lock(&self.order_waiters);
        for decided in decisions {
            let waiter = decided.decision.header.intent_id.and_then(|id| waiters.remove(&id));
            if let Some(waiter) = waiter {
                drop_result(waiter.send(Arc::new(decided)));
            }
        }
    }

    /// Applies committed follow decisions in log order.
    pub fn apply_follows(&self, decisions: Vec<(Partition, Decision<FollowBody>)>) {
        {
            let mut state = lock(&self.state);
            for row in
                decisions.iter().filter_map(|(_, d)| d.body.as_ref()).flat_map(|body| &body.follows)
            {
                let key = (row.creator_id, row.user_id);
                if state.follows.insert(key, *row).is_none() {
                    state.follow_ages.push_back(key);
                }
            }
            while state.follow_ages.len() > ROWS_MAX {
                if let Some(oldest) = state.follow_ages.pop_front() {
                    state.follows.remove(&oldest);
                }
            }
        }
        let mut waiters = lock(&self.follow_waiters);
        for (partition, decision) in decisions {
            self.follow_progress.advance(partition, decision.header.next_intent_offset);
            let waiter = decision.header.intent_id.and_then(|id| waiters.remove(&id));
            if let Some(waiter) = waiter {
                drop_result(waiter.send(Arc::new(decision)));
            }
        }
        drop(waiters);
        self.follow_progress.moved.notify_waiters();
    }
}

/// A receiver that has gone away is nobody's error.
fn drop_result<T, E>(result: Result<T, E>) {
    drop(result);
}

impl State {
    fn apply(
        &mut self,
        decision: &Decision<OrderBody>,
        edges: &mut Vec<(DropId, DropChange)>,
        woken: &mut Vec<oneshot::Sender<()>>,
    ) {
        let Some(body) = &decision.body else { return };
        for row in &body.orders {
            self.note_order(row.order_id, OrderSeen::Row { versions: vec![row.clone()] });
            woken.extend(self.order_waiters.remove(&row.order_id).into_iter().flatten());
        }
        // Of an order that was refused and not kept. A command that was refused names an order too, which may be another
        // buyer's and is as it was.
        let is_of_a_place =
            |reason| matches!(reason, Reason::UnknownDrop | Reason::Archived | Reason::NotOpen);
        let keyless = body.refusal.as_ref().filter(|refusal| {
            body.orders.is_empty() && body.answer.is_none() && is_of_a_place(refusal.reason)
        });
        if let Some((refusal, order)) = keyless.and_then(|r| Some((r, r.order_id?)))
            && decision.outcome == Outcome::Refused
            && !matches!(self.orders.get(&order), Some(OrderSeen::Row { .. }))
        {
            self.note_order(order, OrderSeen::Refused(refusal.clone()));
            woken.extend(self.order_waiters.remove(&order).into_iter().flatten());
        }
        for row in &body.drops {
            self.drops.entry(row.drop_id).or_default().drop = Some(row.clone());
            edges.push((row.drop_id, DropChange::Row));
        }
        for row in &body.stocks {
            let seen = self.drops.entry(row.drop_id).or_default();
            match seen.stock_mut(row.variant_id) {
                Some(stock) => *stock = *row,
                None => seen.add_stock(*row),
            }
            edges.push((row.drop_id, DropChange::Row));
        }
        edges.extend(body.events.iter().map(|event| (event.drop_id, DropChange::Edge(event.kind))));
    }

    fn note_order(&mut self, order: OrderId, seen: OrderSeen) {
        match (self.orders.get_mut(&order), seen) {
            (Some(OrderSeen::Row { versions }), OrderSeen::Row { versions: newer }) => {
                versions.extend(newer);
            }
            (Some(known), seen) => *known = seen,
            (None, seen) => {
                self.orders.insert(order, seen);
                self.order_ages.push_back(order);
            }
        }
        while self.order_ages.len() > ROWS_MAX {
            if let Some(oldest) = self.order_ages.pop_front() {
                self.orders.remove(&oldest);
            }
        }
    }
}
