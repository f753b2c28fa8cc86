//! Announcing a drop. Ingest checks the same limits; the writer checks again, because ingest is not the only
//! program that can append to the log.

use std::collections::BTreeSet;

use model::{Decided, ReadFailed, Rows, Stamp};
use schemas::ids::DropId;
use schemas::limits::{
    HOLD_SECONDS_MAX, INSTANT_MAX, LIMIT_PER_USER_MAX, OFFER_SECONDS_MAX, PAYMENT_ATTEMPTS_MAX,
    PRICE_MAX, STOCK_MAX, TITLE_CHARACTERS_MAX, VARIANTS_MAX,
};
use schemas::order::{
    DropEvent, DropEventKind, DropRow, DropStatus, OrderBody, Reason, ScheduleDrop, StockRow,
    VariantRow,
};
use schemas::units::{Millis, MinorUnits, Units};

use super::stock::assert_conserved;
use super::{changed, key_reused, refusal, refused, replayed};
use crate::rows::{self, StateRow};

pub(super) fn schedule(
    rows: &dyn Rows<StateRow>,
    drop_id: DropId,
    terms: &ScheduleDrop,
    stamp: Stamp,
) -> Result<Decided<OrderBody>, ReadFailed> {
    if let Some(drop) = rows::read_drop(rows, drop_id)? {
        let same_key =
            drop.creator_id == terms.creator_id && drop.schedule_key == terms.schedule_key;
        return Ok(match (same_key, drop.request_hash == terms.request_hash) {
            (true, true) => replayed(None),
            (true, false) => key_reused(None),
            (false, _) => refused(refusal(Reason::DropExists)),
        });
    }
    if !is_valid(terms) {
        return Ok(refused(refusal(Reason::InvalidSchedule)));
    }
    // A drop whose instant has passed opens at once; its closing, if due too, fires before the next intent.
    let opens_now = terms.starts_at <= stamp.log_time;
    let drop = drop_row(drop_id, terms, opens_now, stamp);
    let stocks = terms.variants.iter().map(|variant| StockRow {
        drop_id,
        variant_id: variant.variant_id,
        initial: variant.stock,
        available: variant.stock,
        reserved: Units(0),
        sold: Units(0),
        restocked: Units(0),
        withdrawn: Units(0),
    });
    let stocks: Vec<StockRow> = stocks.collect();
    stocks.iter().for_each(assert_conserved);
    let started = opens_now.then_some(DropEvent { kind: DropEventKind::DropStarted, drop_id });
    Ok(changed(OrderBody {
        drops: vec![drop],
        stocks,
        events: started.into_iter().collect(),
        ..OrderBody::default()
    }))
}

fn is_valid(terms: &ScheduleDrop) -> bool {
    let ids: BTreeSet<_> = terms.variants.iter().map(|variant| variant.variant_id).collect();
    let total = terms.variants.iter().map(|variant| variant.stock).sum::<Units>();
    (1..=VARIANTS_MAX).contains(&terms.variants.len())
        && ids.len() == terms.variants.len()
        && terms.variants.iter().all(|variant| {
            variant.stock >= Units(1) && (MinorUnits(0)..=PRICE_MAX).contains(&variant.price)
        })
        && total <= STOCK_MAX
        && terms.starts_at < terms.ends_at
        && terms.starts_at >= Millis(0)
        && terms.ends_at <= INSTANT_MAX
        && (1..=HOLD_SECONDS_MAX).contains(&terms.hold_seconds)
        && terms.limit_per_user.is_none_or(|limit| (1..=LIMIT_PER_USER_MAX).contains(&limit))
        && (1..=TITLE_CHARACTERS_MAX).contains(&terms.title.chars().count())
        && terms.low_stock_threshold >= Units(0)
        && (1..=OFFER_SECONDS_MAX).contains(&terms.offer_seconds)
        && (1..=PAYMENT_ATTEMPTS_MAX).contains(&terms.payment_attempts)
}

fn drop_row(drop_id: DropId, terms: &ScheduleDrop, opens_now: bool, stamp: Stamp) -> DropRow {
    let mut variants: Vec<VariantRow> = terms
        .variants
        .iter()
        .map(|variant| VariantRow {
            variant_id: variant.variant_id,
            name: variant.name.clone(),
            price: variant.price,
            initial_stock: variant.stock,
        })
        .collect();
    variants.sort_by_key(|variant| variant.variant_id);
    DropRow {
        drop_id,
        creator_id: terms.creator_id,
        product_id: terms.product_id,
        title: terms.title.clone(),
        status: if opens_now { DropStatus::Live } else { DropStatus::Upcoming },
        starts_at: terms.starts_at,
        ends_at: terms.ends_at,
        time_zone: terms.time_zone.clone(),
        currency: terms.currency.clone(),
        variants,
        limit_per_user: terms.limit_per_user,
        hold_seconds: terms.hold_seconds,
        low_stock_threshold: terms.low_stock_threshold,
        payment_required: terms.payment_required,
        schedule_key: terms.schedule_key,
        request_hash: terms.request_hash,
        version: 1,
        created_at: stamp.log_time,
        opened_at: opens_now.then_some(stamp.log_time),
        ended_at: None,
        offer_seconds: terms.offer_seconds,
        waitlist: terms.waitlist,
        payment_attempts: terms.payment_attempts,
        archive_at: None,
    }
}
