//! Server-sent events of one order and of one drop.

use std::convert::Infallible;
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
use crate::order_reads::{is_settled, versions_after};
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
    last: i32,
    queue: std::collections::VecDeque<std::sync::Arc<OrderRow>>,
    said_pending: bool,
    ended: bool,
}

/// The order's status now, then every change; `end` when nothing is pending.
pub(crate) fn order_stream(
    state: AppState,
    caller: Caller,
    order: OrderId,
    last: i32,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let start = OrderStream {
        state,
        caller,
        order,
        last,
        queue: std::collections::VecDeque::new(),
        said_pending: last > 0,
        ended: false,
    };
    with_heartbeat(stream::unfold(start, next_order_event))
}

async fn next_order_event(mut at: OrderStream) -> Option<(Result<Event, Infallible>, OrderStream)> {
    if at.ended {
        return None;
    }
    loop {
        if let Some(row) = at.queue.pop_front() {
            at.last = row.version;
            let view = OrderView::new(&row, at.state.intake.partitions());
            let event = json_event(row.status.as_str(), view).id(row.version.to_string());
            return Some((Ok(event), at));
        }
        // Registered before reading: a change between the two still wakes us.
        let (watch, seen) = at.state.window.watch_order(at.order);
        let settled_at = match &seen {
            Some(crate::window::OrderSeen::Row { versions }) => {
                versions.last().filter(|row| is_settled(row)).map(|row| row.version)
            }
            _ => None,
        };
        let rows = versions_after(&at.state, &at.caller, at.order, seen, at.last).await?;
        if !rows.is_empty() {
            at.queue.extend(rows);
            continue;
        }
        if settled_at.is_some_and(|version| at.last >= version) || at.is_settled_in_archive().await
        {
            at.ended = true;
            return Some((Ok(json_event("end", json!({}))), at));
        }
        if at.last == 0 && !at.said_pending {
            at.said_pending = true;
            let pending = json!({"id": at.order.to_string(), "status": "PENDING"});
            return Some((Ok(json_event("PENDING", pending)), at));
        }
        watch.changed().await;
    }
}

impl OrderStream {
    async fn is_settled_in_archive(&self) -> bool {
        if self.last == 0 {
            return false;
        }
        let row = versions_after(&self.state, &self.caller, self.order, None, 0).await;
        row.and_then(|rows| rows.last().cloned())
            .is_some_and(|row| is_settled(&row) && row.version <= self.last)
    }
}

struct DropStream {
    state: AppState,
    drop: DropId,
    changes: broadcast::Receiver<DropChange>,
    shown: DropState,
    queue: std::collections::VecDeque<Event>,
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
