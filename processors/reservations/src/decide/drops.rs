//! The life of a drop, by command or by its timer: UPCOMING → LIVE ⇄ PAUSED → ENDED, or CANCELLED.

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::ids::DropId;
use schemas::limits::{
    ARCHIVE_AFTER_SECONDS, HOLD_SECONDS_MAX, INSTANT_MAX, LIMIT_PER_USER_MAX, PRICE_MAX,
    TITLE_CHARACTERS_MAX,
};
use schemas::order::{
    ContinuationKind, DropEventKind, DropRow, DropStatus, EditDrop, OrderBody, Reason,
};
use schemas::units::{Millis, MinorUnits, Units};

use super::change::Change;
use super::{WHOLE_LIFE, changed, refusal, refused, supply, waitlist, wrong_state};
use crate::command::{Caller, DropCommand};
use crate::rows::{self, StateRow};

/// Refusals in order: `unknown_drop`, `archived`, `not_creator`, `wrong_state`, then those of the command.
pub(super) fn change(
    rows: &dyn Rows<StateRow>,
    drop: DropId,
    caller: &Caller,
    what: &DropCommand,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    use DropStatus::{Live, Paused, Upcoming};
    let Some(drop) = rows::read_drop(rows, drop)? else {
        return Ok(refused(refusal(Reason::UnknownDrop)));
    };
    if drop.status == DropStatus::Archived {
        return Ok(refused(refusal(Reason::Archived)));
    }
    if !caller.may_write_for(drop.creator_id) {
        return Ok(refused(refusal(Reason::NotCreator)));
    }
    // A repeated restock or withdrawal is answered before the status is judged.
    if let DropCommand::Restock(supply) | DropCommand::Withdraw(supply) = what
        && let Some(answer) = supply::repeated(rows, &drop, supply)?
    {
        return Ok(answer);
    }
    let from: &[DropStatus] = match what {
        DropCommand::Open | DropCommand::Edit(_) => &[Upcoming],
        DropCommand::Pause => &[Live],
        DropCommand::Resume => &[Paused],
        DropCommand::Close => &[Live, Paused],
        DropCommand::Abort | DropCommand::Restock(_) | DropCommand::Withdraw(_) => {
            &[Upcoming, Live, Paused]
        }
    };
    if !from.contains(&drop.status) {
        return Ok(wrong_state(drop.status));
    }
    match what {
        DropCommand::Open => opened(rows, drop, stamp).map(changed),
        DropCommand::Close => ended(rows, drop, stamp).map(changed),
        DropCommand::Pause => paused(rows, drop, stamp).map(changed),
        DropCommand::Resume => resumed(rows, drop, stamp).map(changed),
        DropCommand::Abort => aborted(rows, drop, stamp).map(changed),
        DropCommand::Edit(edit) => edited(rows, &drop, edit, stamp),
        DropCommand::Restock(supply) => supply::restock(rows, &drop, supply, stamp),
        DropCommand::Withdraw(supply) => supply::withdraw(rows, &drop, supply, stamp),
    }
}

/// The drop on sale.
pub(super) fn opened(
    rows: &dyn Rows<StateRow>,
    drop: DropRow,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    let drop = DropRow { status: DropStatus::Live, opened_at: Some(stamp.log_time), ..drop };
    crossed(Change::new(rows, stamp), &drop, DropEventKind::DropStarted)
}

/// The drop off sale; live holds and offers run on.
pub(super) fn ended(
    rows: &dyn Rows<StateRow>,
    drop: DropRow,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    let mut change = Change::new(rows, stamp);
    if drop.status == DropStatus::Paused && waitlist::has_offers(rows, &drop) {
        change.start(ContinuationKind::RearmOffers, drop.drop_id);
    }
    let drop = settled_later(drop, DropStatus::Ended, stamp);
    if change.body.continuations.is_empty() {
        waitlist::follow_up(&mut change, &drop)?;
    }
    crossed(change, &drop, DropEventKind::DropEnded)
}

/// Off sale for a while: new orders are refused, open offers stand still, holds run and may pay.
fn paused(rows: &dyn Rows<StateRow>, drop: DropRow, stamp: Stamp) -> Result<OrderBody, ReadFailed> {
    let mut change = Change::new(rows, stamp);
    if waitlist::has_offers(rows, &drop) {
        change.start(ContinuationKind::ParkOffers, drop.drop_id);
    }
    crossed(change, &DropRow { status: DropStatus::Paused, ..drop }, DropEventKind::DropPaused)
}

/// On sale again; units that came back meanwhile are offered.
fn resumed(
    rows: &dyn Rows<StateRow>,
    drop: DropRow,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    let mut change = Change::new(rows, stamp);
    let drop = DropRow { status: DropStatus::Live, ..drop };
    if waitlist::has_offers(rows, &drop) {
        change.start(ContinuationKind::RearmOffers, drop.drop_id);
    } else {
        waitlist::follow_up(&mut change, &drop)?;
    }
    crossed(change, &drop, DropEventKind::DropResumed)
}

/// Called off: logged first, its releases and refunds follow.
fn aborted(
    rows: &dyn Rows<StateRow>,
    drop: DropRow,
    stamp: Stamp,
) -> Result<OrderBody, ReadFailed> {
    let mut change = Change::new(rows, stamp);
    change.start(ContinuationKind::Abort, drop.drop_id);
    let drop = settled_later(drop, DropStatus::Cancelled, stamp);
    crossed(change, &drop, DropEventKind::DropCancelled)
}

/// A drop off sale for good, with the instant at which its orders are forgotten.
fn settled_later(drop: DropRow, status: DropStatus, stamp: Stamp) -> DropRow {
    let archive_at = (stamp.logic_version >= WHOLE_LIFE)
        .then(|| stamp.log_time.after(Millis::from_seconds(ARCHIVE_AFTER_SECONDS)));
    DropRow { status, ended_at: Some(stamp.log_time), archive_at, ..drop }
}

fn crossed(
    mut change: Change<'_>,
    drop: &DropRow,
    kind: DropEventKind,
) -> Result<OrderBody, ReadFailed> {
    change.event(drop.drop_id, kind);
    change.put_drop(drop.clone());
    change.finish(drop)
}

/// New terms of an upcoming drop. Its timers follow from its row.
fn edited(
    rows: &dyn Rows<StateRow>,
    drop: &DropRow,
    edit: &EditDrop,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    let mut after = drop.clone();
    let terms = edit.clone();
    after.title = terms.title.unwrap_or(after.title);
    after.starts_at = terms.starts_at.unwrap_or(after.starts_at);
    after.ends_at = terms.ends_at.unwrap_or(after.ends_at);
    after.time_zone = terms.time_zone.or(after.time_zone);
    after.limit_per_user = terms.limit_per_user.or(after.limit_per_user);
    after.hold_seconds = terms.hold_seconds.unwrap_or(after.hold_seconds);
    after.low_stock_threshold = terms.low_stock_threshold.unwrap_or(after.low_stock_threshold);
    for price in &edit.prices {
        let variant = after.variants.iter_mut().find(|v| v.variant_id == price.variant_id);
        let Some(variant) = variant else {
            return Ok(refused(refusal(Reason::UnknownVariant)));
        };
        variant.price = price.price;
    }
    if !is_valid(&after) {
        return Ok(refused(refusal(Reason::InvalidSchedule)));
    }
    let mut change = Change::new(rows, stamp);
    change.put_drop(after.clone());
    // An opening instant that has passed opens at once: the timer is due.
    change.finish(&after).map(changed)
}

fn is_valid(drop: &DropRow) -> bool {
    let prices = if drop.payment_required {
        MinorUnits(0)..=PRICE_MAX
    } else {
        MinorUnits(0)..=MinorUnits(0)
    };
    drop.starts_at >= Millis(0)
        && drop.starts_at < drop.ends_at
        && drop.ends_at <= INSTANT_MAX
        && (1..=TITLE_CHARACTERS_MAX).contains(&drop.title.chars().count())
        && drop.limit_per_user.is_none_or(|limit| (1..=LIMIT_PER_USER_MAX).contains(&limit))
        && (1..=HOLD_SECONDS_MAX).contains(&drop.hold_seconds)
        && drop.low_stock_threshold >= Units(0)
        && drop.variants.iter().all(|variant| prices.contains(&variant.price))
}
