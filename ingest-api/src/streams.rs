//! Server-sent events of one order and of one drop.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use futures_util::stream;
use schemas::ids::{DropId, OrderId};
use schemas::order::{DropEventKind, OrderRow};
use serde_json::json;
use tokio::sync::broadcast;

use crate::app::AppState;
use crate::archive::DropState;
use crate::auth::Caller;
use crate::order_reads::{is_settled, pending, versions};
use crate::views::{OrderView, available};
use crate::window::DropChange;

/// Comments this often keep proxies from closing a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Stock at most this often: latest wins.
const STOCK_INTERVAL: Duration = Duration::from_millis(100);

fn with_heartbeat<S>(events: S) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<S>>
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT))
}

fn json_event(name: &str, value: impl serde::Serialize) -> Event {
    let event = Event::default().event(name);
    event.json_data(value).unwrap_or_else(|_| Event::default().event("error"))
}

struct OrderStream {
    state: AppState,
    caller: Caller,
    order: OrderId,
    /// The last version that was told, or is in the queue.
    last: i32,
    queue: VecDeque<Event>,
    said_pending: bool,
    /// Nothing comes after the queue.
    ended: bool,
}

/// The order's status now, then every change; `end` when nothing is pending.
pub(crate) fn order_stream(
    state: AppState,
    caller: Caller,
    order: OrderId,
    last: i32,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (queue, said_pending) = (VecDeque::new(), last > 0);
    let start = OrderStream { state, caller, order, last, queue, said_pending, ended: false };
    with_heartbeat(stream::unfold(start, next_order_event))
}

async fn next_order_event(mut at: OrderStream) -> Option<(Result<Event, Infallible>, OrderStream)> {
    loop {
        if let Some(event) = at.queue.pop_front() {
            return Some((Ok(event), at));
        }
        if at.ended {
            return None;
        }
        // Registered before reading: a change between the two still wakes us.
        let (watch, seen) = at.state.window.watch_order(at.order);
        let versions = versions(&at.state, &at.caller, at.order, seen).await?;
        at.tell(&versions);
        if at.queue.is_empty() {
            watch.changed().await;
        }
    }
}

impl OrderStream {
    fn tell(&mut self, versions: &[Arc<OrderRow>]) {
        for row in versions.iter().filter(|row| row.version > self.last) {
            let view = OrderView::new(row, self.state.intake.partitions());
            let event = json_event(row.status.as_str(), view).id(row.version.to_string());
            self.queue.push_back(event);
        }
        self.last = versions.last().map_or(self.last, |row| row.version.max(self.last));
        self.ended = versions.last().is_some_and(|row| is_settled(row));
        if self.ended {
            self.queue.push_back(json_event("end", json!({})));
        } else if self.last == 0 && !self.said_pending {
            self.said_pending = true;
            self.queue.push_back(json_event("PENDING", pending(self.order)));
        }
    }
}

struct DropStream {
    state: AppState,
    drop: DropId,
    changes: broadcast::Receiver<DropChange>,
    shown: DropState,
    queue: VecDeque<Event>,
}

/// The whole drop, then its status and stock as they change.
pub(crate) fn drop_stream(
    state: AppState,
    shown: DropState,
    changes: broadcast::Receiver<DropChange>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let first = json_event("drop", crate::drop_reads::view(&state, &shown));
    let start =
        DropStream { state, drop: shown.drop.drop_id, changes, shown, queue: [first].into() };
    with_heartbeat(stream::unfold(start, next_drop_event))
}

async fn next_drop_event(mut at: DropStream) -> Option<(Result<Event, Infallible>, DropStream)> {
    loop {
        if let Some(event) = at.queue.pop_front() {
            return Some((Ok(event), at));
        }
        match at.changes.recv().await {
            Ok(DropChange::Edge(kind)) => at.queue.push_back(edge(kind, at.drop)),
            Ok(DropChange::Row) | Err(broadcast::error::RecvError::Lagged(_)) => {
                at.show_changes().await?;
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

fn edge(kind: DropEventKind, drop: DropId) -> Event {
    let name = match kind {
        DropEventKind::DropStarted => "drop_started",
        DropEventKind::DropEnded => "drop_ended",
        DropEventKind::DropPaused => "drop_paused",
        DropEventKind::DropResumed => "drop_resumed",
        DropEventKind::DropCancelled => "drop_cancelled",
        DropEventKind::StockLow => "stock_low",
        DropEventKind::SoldOut => "sold_out",
        DropEventKind::Restocked => "restocked",
    };
    json_event(name, json!({"dropId": drop.to_string()}))
}

impl DropStream {
    /// Conflates: whatever has changed within the interval is one event.
    async fn show_changes(&mut self) -> Option<()> {
        tokio::time::sleep(STOCK_INTERVAL).await;
        while let Ok(change) = self.changes.try_recv() {
            if let DropChange::Edge(kind) = change {
                self.queue.push_back(edge(kind, self.drop));
            }
        }
        let (now, _) = self.state.window.drop_state(self.drop)?;
        if now.drop.status != self.shown.drop.status {
            self.queue.push_back(json_event("status", json!({"status": now.drop.status.as_str()})));
        }
        if now.stocks != self.shown.stocks {
            self.queue.push_back(json_event("stock", available(&now)));
        }
        self.shown = now;
        Some(())
    }
}
