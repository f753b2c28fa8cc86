//! One fully filled and one bare record per topic.

use std::sync::Arc;

use schemas::decision::{
    Decision, DecisionHeader, FIRST_LINK, Genesis, Outcome, OwnerStarted, PinnedSchema, Undecodable,
};
use schemas::follow::{
    CreatorRow, FollowBody, FollowChange, FollowIntent, FollowIntentKind, FollowRow,
};
use schemas::ids::{CreatorId, DropId, Hash, IntentId, OrderId, ProductId, UserId, VariantId};
use schemas::order::*;
use schemas::units::{Millis, MinorUnits, Units};

pub(crate) const DROP: DropId = DropId([0xd0; 16]);
pub(crate) const USER: UserId = UserId([0x05; 16]);

pub(crate) fn bare_order_intent() -> OrderIntent {
    OrderIntent::bare(IntentId([1; 16]), OrderIntentKind::Tick, Millis(1_800_000_000_000))
}

#[allow(clippy::too_many_lines, reason = "one record, filled")]
pub(crate) fn full_order_intent() -> OrderIntent {
    OrderIntent {
        correlation_id: Some("request-7".into()),
        actor: Some(USER),
        drop_id: Some(DROP),
        place: Some(PlaceOrder {
            order_id: OrderId::derive(DROP, USER, "key"),
            request_hash: Hash([2; 16]),
            lines: [OrderLine { variant_id: VariantId([3; 16]), qty: 2 }].into(),
            payment_method: Some("pm_1".into()),
            if_sold_out: IfSoldOut::Waitlist,
            expected_total: Some(MinorUnits(3_998)),
            expected_currency: Some("EUR".into()),
        }),
        order_change: Some(OrderChange { order_id: OrderId([4; 16]) }),
        creator_command: Some(CreatorCommand {
            creator_ids: vec![CreatorId([6; 16])],
            admin: true,
        }),
        schedule: Some(Box::new(ScheduleDrop {
            creator_id: CreatorId([6; 16]),
            schedule_key: Hash([7; 16]),
            request_hash: Hash([8; 16]),
            product_id: ProductId([9; 16]),
            title: "Night Run".into(),
            starts_at: Millis(1),
            ends_at: Millis(2),
            time_zone: Some("Europe/Berlin".into()),
            currency: "EUR".into(),
            variants: vec![VariantSpec {
                variant_id: VariantId([3; 16]),
                name: "42".into(),
                stock: Units(10),
                price: MinorUnits(1_999),
            }],
            limit_per_user: Some(2),
            hold_seconds: 600,
            low_stock_threshold: Units(1),
            payment_required: true,
            offer_seconds: 300,
            waitlist: true,
            payment_attempts: 2,
        })),
        payment: Some(PayOrder { order_id: OrderId([4; 16]), payment_method: Some("pm_2".into()) }),
        payment_outcome: Some(Box::new(PaymentOutcome {
            order_id: OrderId([4; 16]),
            attempt: 2,
            operation: ProviderOperationKind::Capture,
            result: ProviderResult::NeedsAction,
            captured: true,
            amount: MinorUnits(3_998),
            currency: "EUR".into(),
            detail: Some("insufficient_funds".into()),
            reference: Some("pi_1".into()),
        })),
        stock_change: Some(StockChange {
            variant_id: Some(VariantId([3; 16])),
            qty: Units(5),
            key: Hash([10; 16]),
            request_hash: Hash([11; 16]),
        }),
        refund: Some(RefundOrder {
            order_id: OrderId([4; 16]),
            restock: true,
            key: Hash([12; 16]),
        }),
        edit: Some(Box::new(EditDrop {
            title: Some("Day Run".into()),
            starts_at: Some(Millis(3)),
            ends_at: Some(Millis(4)),
            time_zone: Some("Europe/Paris".into()),
            limit_per_user: Some(3),
            hold_seconds: Some(60),
            low_stock_threshold: Some(Units(2)),
            prices: vec![PriceChange { variant_id: VariantId([3; 16]), price: MinorUnits(2_499) }],
        })),
        activate: Some(2),
        ..OrderIntent::bare(IntentId([1; 16]), OrderIntentKind::Place, Millis(1_800_000_000_000))
    }
}

pub(crate) fn order_row() -> OrderRow {
    OrderRow {
        order_id: OrderId::derive(DROP, USER, "key"),
        drop_id: DROP,
        user_id: USER,
        status: OrderStatus::Rejected,
        reason: Some(Reason::InsufficientStock),
        lines: [OrderRowLine {
            variant_id: VariantId([3; 16]),
            qty: 2,
            unit_price: MinorUnits(1_999),
        }]
        .into(),
        product_id: ProductId([9; 16]),
        currency: "EUR".into(),
        total: MinorUnits(3_998),
        payment_method: Some("pm_1".into()),
        request_hash: Hash([2; 16]),
        version: 1,
        created_at: Millis(1_800_000_000_000),
        decided_at: Millis(1_800_000_000_001),
        hold_expires_at: Some(Millis(1_800_000_600_001)),
        intent_offset: 41,
        missing: vec![MissingUnits { variant_id: VariantId([3; 16]), available: Units(1) }],
        held_order_id: Some(OrderId([4; 16])),
        payments: vec![PaymentRow {
            attempt: 1,
            method: Some("pm_1".into()),
            state: PaymentState::Captured,
            detail: Some("declined".into()),
            reference: Some("pi_1".into()),
        }],
        operation: Some(ProviderOperation { attempt: 1, kind: ProviderOperationKind::Refund }),
        offer_expires_at: Some(Millis(1_800_000_300_001)),
        offer_left_ms: Some(12_000),
        from_waitlist: true,
        extended: true,
        refund: Some(RefundPlan { restock: true }),
    }
}

pub(crate) fn header() -> DecisionHeader {
    DecisionHeader {
        seq: 7,
        epoch: 2,
        intent_offset: Some(41),
        next_intent_offset: 42,
        intent_id: Some(IntentId([1; 16])),
        correlation_id: Some("request-7".into()),
        log_time: Millis(1_800_000_000_000),
        decided_at: Millis(1_800_000_000_001),
        logic_version: 1,
    }
}

fn with_controls<B>(body: B) -> Decision<B> {
    Decision {
        header: header(),
        outcome: Outcome::Changed,
        genesis: Some(Box::new(Genesis {
            log_id: "log".into(),
            partition: 3,
            partition_count: 12,
            format: 1,
        })),
        owner_started: Some(Box::new(OwnerStarted {
            build: "0.1.0".into(),
            schemas: vec![PinnedSchema { id: 1, fingerprint: Hash([5; 16]) }],
        })),
        undecodable: Some(Box::new(Undecodable { error: "short".into(), length: 3 })),
        body: Some(body),
        chain: FIRST_LINK,
    }
}

#[allow(clippy::too_many_lines, reason = "one record, filled")]
pub(crate) fn full_order_decision() -> Decision<OrderBody> {
    with_controls(OrderBody {
        refusal: Some(Refusal {
            reason: Reason::NotOpen,
            order_id: Some(OrderId([4; 16])),
            user_id: Some(USER),
            opens_at: Some(Millis(5)),
            drop_status: Some(DropStatus::Upcoming),
        }),
        answer: Some(Box::new(order_row())),
        orders: [Arc::new(order_row())].into(),
        drops: vec![DropRow {
            drop_id: DROP,
            creator_id: CreatorId([6; 16]),
            product_id: ProductId([9; 16]),
            title: "Night Run".into(),
            status: DropStatus::Live,
            starts_at: Millis(1),
            ends_at: Millis(2),
            time_zone: None,
            currency: "EUR".into(),
            variants: vec![VariantRow {
                variant_id: VariantId([3; 16]),
                name: "42".into(),
                price: MinorUnits(1_999),
                initial_stock: Units(10),
            }],
            limit_per_user: Some(2),
            hold_seconds: 600,
            low_stock_threshold: Units(1),
            payment_required: true,
            schedule_key: Hash([7; 16]),
            request_hash: Hash([8; 16]),
            version: 2,
            created_at: Millis(1),
            opened_at: Some(Millis(1)),
            ended_at: None,
            offer_seconds: 300,
            waitlist: true,
            payment_attempts: 2,
            archive_at: Some(Millis(9)),
        }],
        stocks: vec![StockRow {
            drop_id: DROP,
            variant_id: VariantId([3; 16]),
            initial: Units(10),
            available: Units(7),
            reserved: Units(2),
            sold: Units(1),
            restocked: Units(3),
            withdrawn: Units(3),
        }],
        buyers: vec![BuyerRow {
            drop_id: DROP,
            user_id: USER,
            held: Units(2),
            sold: Units(0),
            held_orders: vec![OrderId([4; 16])],
            waiting: Units(1),
            entries: vec![WaitingEntry {
                variant_id: VariantId([3; 16]),
                order_id: OrderId([4; 16]),
            }],
        }],
        events: vec![DropEvent { kind: DropEventKind::DropStarted, drop_id: DROP }],
        commands: vec![CommandRow {
            key: Hash([10; 16]),
            drop_id: DROP,
            request_hash: Hash([11; 16]),
        }],
        continuations: vec![ContinuationRow {
            id: 7,
            kind: ContinuationKind::CheckSettled,
            drop_id: DROP,
            cursor: Some(OrderId([4; 16])),
        }],
        finished: vec![6],
        archived: Some(Box::new(ArchivedRows {
            drop_id: DROP,
            orders: vec![OrderId([4; 16])],
            buyers: vec![USER],
            variants: vec![VariantId([3; 16])],
            commands: vec![Hash([10; 16])],
        })),
        activated: Some(2),
    })
}

pub(crate) fn full_follow_intent() -> FollowIntent {
    FollowIntent {
        intent_id: IntentId([1; 16]),
        correlation_id: None,
        kind: FollowIntentKind::Follow,
        actor: Some(USER),
        sent_at: Millis(1_800_000_000_000),
        follow_change: Some(FollowChange { creator_id: CreatorId([6; 16]), user_id: USER }),
    }
}

pub(crate) fn full_follow_decision() -> Decision<FollowBody> {
    with_controls(FollowBody {
        follows: vec![FollowRow {
            creator_id: CreatorId([6; 16]),
            user_id: USER,
            following: true,
            since: Millis(1_800_000_000_000),
        }],
        creators: vec![CreatorRow { creator_id: CreatorId([6; 16]), followers: Units(1) }],
    })
}
