//! The one workload of every side: a hot drop that a million buyers want and a hundredth of them get.

use schemas::ids::{CreatorId, DropId, Hash, IntentId, OrderId, ProductId, UserId};
use schemas::order::{
    CreatorCommand, IfSoldOut, OrderIntent, OrderIntentKind, OrderLine, PlaceOrder, ScheduleDrop,
    VariantSpec,
};
use schemas::units::{Millis, MinorUnits, Units};

/// Every so-many-th intent repeats an earlier one.
const REPEATS_EVERY: u32 = 50;
/// How far back a repeated intent lies: a client that tries again.
const REPEATS_AFTER: u32 = 1_000;

/// The year 2096.
const FAR_FUTURE: Millis = Millis(3_999_000_000_000);

/// A hot drop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HotDrop {
    /// Intents, repeated ones included.
    pub(crate) intents: u32,
    /// Units for sale, one per order.
    pub(crate) stock: u32,
    /// Which drop of this run.
    pub(crate) round: u32,
}

impl HotDrop {
    /// Whose order the intent is: itself, or an earlier one that it repeats.
    pub(crate) fn buyer(intent: u32) -> u32 {
        let repeats = intent % REPEATS_EVERY == REPEATS_EVERY - 1 && intent > REPEATS_AFTER;
        if repeats { intent - REPEATS_AFTER + 1 } else { intent }
    }

    /// Orders among the intents.
    pub(crate) fn orders(self) -> u32 {
        (0..self.intents)
            .filter(|intent| Self::buyer(*intent) == *intent)
            .count()
            .try_into()
            .unwrap_or(0)
    }

    /// The drop.
    pub(crate) fn drop(self) -> DropId {
        DropId(Hash::of(&[b"bench", &self.round.to_be_bytes(), &self.stock.to_be_bytes()]).0)
    }

    /// The order's identity, from drop, buyer and key.
    pub(crate) fn order_id(self, buyer: u32) -> OrderId {
        OrderId::derive(self.drop(), user(buyer), "key")
    }

    /// Announces the drop; it is on sale at once.
    pub(crate) fn schedule(self) -> OrderIntent {
        let creator_id = CreatorId([0xc0; 16]);
        let terms = ScheduleDrop {
            creator_id,
            schedule_key: Hash::of(&[&self.drop().0]),
            request_hash: Hash([2; 16]),
            product_id: ProductId([3; 16]),
            title: "Hot".into(),
            starts_at: Millis(0),
            ends_at: Millis(4_000_000_000_000),
            time_zone: None,
            currency: "EUR".into(),
            variants: vec![VariantSpec {
                variant_id: self.drop().plain_variant(),
                name: String::new(),
                stock: Units(i64::from(self.stock)),
                price: MinorUnits(0),
            }],
            limit_per_user: None,
            hold_seconds: 600,
            low_stock_threshold: Units(0),
            payment_required: false,
            offer_seconds: 600,
            waitlist: false,
            payment_attempts: 3,
        };
        OrderIntent {
            actor: Some(UserId(creator_id.0)),
            drop_id: Some(self.drop()),
            creator_command: Some(CreatorCommand { creator_ids: vec![creator_id], admin: false }),
            schedule: Some(Box::new(terms)),
            ..OrderIntent::bare(IntentId(creator_id.0), OrderIntentKind::Schedule, Millis(0))
        }
    }

    /// Announces a drop that opens in the far future.
    pub(crate) fn upcoming(number: u32) -> OrderIntent {
        let drop = Self { intents: 0, stock: 1, round: u32::MAX - number };
        let mut intent = drop.schedule();
        if let Some(terms) = &mut intent.schedule {
            (terms.starts_at, terms.ends_at) = (FAR_FUTURE, Millis(FAR_FUTURE.0 + 1_000_000));
        }
        intent
    }

    /// One buyer's order of one unit, as ingest writes it.
    pub(crate) fn place(self, intent: u32) -> OrderIntent {
        let buyer = Self::buyer(intent);
        let place = PlaceOrder {
            order_id: self.order_id(buyer),
            request_hash: Hash([4; 16]),
            lines: [OrderLine { variant_id: self.drop().plain_variant(), qty: 1 }]
                .into_iter()
                .collect(),
            payment_method: None,
            if_sold_out: IfSoldOut::Reject,
            expected_total: None,
            expected_currency: None,
        };
        let id = IntentId(Hash::of(&[b"intent", &intent.to_be_bytes()]).0);
        OrderIntent {
            actor: Some(user(buyer)),
            drop_id: Some(self.drop()),
            place: Some(place),
            ..OrderIntent::bare(id, OrderIntentKind::Place, Millis(platform::clock::now_ms()))
        }
    }
}

fn user(buyer: u32) -> UserId {
    UserId(Hash::of(&[b"buyer", &buyer.to_be_bytes()]).0)
}
