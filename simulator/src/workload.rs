//! What buyers and creators do: bursts on hot drops, double clicks, keys used twice, second thoughts.

use schemas::ids::{CreatorId, DropId, Hash, IntentId, OrderId, ProductId, UserId, VariantId};
use schemas::order::{
    CreatorCommand, EditDrop, IfSoldOut, OrderChange, OrderIntent, OrderIntentKind as Kind,
    OrderLine, PayOrder, PlaceOrder, RefundOrder, ScheduleDrop, StockChange, VariantSpec,
};
use schemas::units::{Millis, MinorUnits, Units};

use crate::faults::Faults;

const BUYERS: usize = 9;
const KEYS: usize = 6;
pub(crate) const PRICE: MinorUnits = MinorUnits(1_999);

/// A drop and what is known of it before it exists.
#[derive(Debug)]
pub(crate) struct PlannedDrop {
    pub(crate) id: DropId,
    terms: ScheduleDrop,
}

/// The drops of a run, and a counter for fresh intent ids.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) drops: Vec<PlannedDrop>,
    intents: u64,
}

fn variant(number: u8) -> VariantId {
    VariantId([number + 1; 16])
}

fn creator(drop: DropId) -> CreatorId {
    CreatorId([drop.0[15]; 16])
}

fn buyer(number: usize) -> UserId {
    UserId([0xb0 + u8::try_from(number).unwrap_or(0); 16])
}

impl Workload {
    /// One to three drops, from tiny to roomy, free or not, with or without limit and waitlist.
    pub(crate) fn new(faults: &mut Faults, now: Millis) -> Self {
        let count = 1 + faults.below(3);
        let drops = (0..count).map(|number| planned(faults, number, now)).collect();
        Self { drops, intents: 0 }
    }

    pub(crate) fn fresh_id(&mut self) -> IntentId {
        self.intents += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.intents.to_be_bytes());
        IntentId(id)
    }

    fn bare(&mut self, kind: Kind, actor: UserId) -> OrderIntent {
        OrderIntent { actor: Some(actor), ..OrderIntent::bare(self.fresh_id(), kind, Millis(0)) }
    }

    /// The schedule of a drop, the same at every retry.
    pub(crate) fn schedule(&mut self, number: usize) -> OrderIntent {
        let (drop, terms) = (self.drops[number].id, self.drops[number].terms.clone());
        let actor = UserId(terms.creator_id.0);
        OrderIntent {
            drop_id: Some(drop),
            schedule: Some(Box::new(terms)),
            ..self.bare(Kind::Schedule, actor)
        }
    }

    /// Somebody does something.
    pub(crate) fn next(&mut self, faults: &mut Faults) -> (DropId, OrderIntent) {
        let number = faults.below(self.drops.len());
        let drop = self.drops[number].id;
        let user = buyer(faults.below(BUYERS));
        let key = faults.below(KEYS).to_string();
        let order = OrderId::derive(drop, user, &key);
        let intent = match faults.below(100) {
            0..62 => self.place(faults, number, user, &key),
            62..72 => self.change(Kind::Cancel, user, order),
            72..75 => self.change(Kind::Extend, user, order),
            75..84 => {
                let payment = PayOrder { order_id: order, payment_method: Some("pm".into()) };
                OrderIntent { payment: Some(payment), ..self.bare(Kind::Pay, user) }
            }
            84..88 => self.refund(faults, drop, order),
            88..94 => self.supply(faults, number),
            _ => self.command(faults, drop),
        };
        (drop, intent)
    }

    fn place(
        &mut self,
        faults: &mut Faults,
        number: usize,
        user: UserId,
        key: &str,
    ) -> OrderIntent {
        let drop = self.drops[number].id;
        let variants = self.drops[number].terms.variants.len();
        let several = variants > 1 && faults.chance(0.2);
        let lines: Vec<_> = (0..if several { 2 } else { 1 })
            .map(|_| OrderLine {
                variant_id: variant(u8::try_from(faults.below(variants)).unwrap_or(0)),
                qty: i32::try_from(1 + faults.below(3)).unwrap_or(1),
            })
            .collect();
        let meaning: Vec<u8> = lines
            .iter()
            .flat_map(|line| [line.variant_id.0[0], line.qty.to_be_bytes()[3]])
            .collect();
        let waits = faults.chance(0.6);
        let place = PlaceOrder {
            order_id: OrderId::derive(drop, user, key),
            request_hash: Hash::of(&[&meaning, &[u8::from(waits)]]),
            lines: lines.into(),
            payment_method: faults.chance(0.8).then(|| "pm".to_owned()),
            if_sold_out: if waits { IfSoldOut::Waitlist } else { IfSoldOut::Reject },
            expected_total: None,
            expected_currency: None,
        };
        OrderIntent { drop_id: Some(drop), place: Some(place), ..self.bare(Kind::Place, user) }
    }

    fn change(&mut self, kind: Kind, user: UserId, order_id: OrderId) -> OrderIntent {
        OrderIntent { order_change: Some(OrderChange { order_id }), ..self.bare(kind, user) }
    }

    fn by_creator(&mut self, kind: Kind, drop: DropId) -> OrderIntent {
        let creator = creator(drop);
        let command = CreatorCommand { creator_ids: vec![creator], admin: false };
        OrderIntent {
            drop_id: Some(drop),
            creator_command: Some(command),
            ..self.bare(kind, UserId(creator.0))
        }
    }

    fn refund(&mut self, faults: &mut Faults, drop: DropId, order_id: OrderId) -> OrderIntent {
        let key = Hash::of(&[&order_id.0, &[u8::try_from(faults.below(2)).unwrap_or(0)]]);
        let refund = RefundOrder { order_id, restock: faults.chance(0.5), key };
        OrderIntent { refund: Some(refund), ..self.by_creator(Kind::Refund, drop) }
    }

    fn supply(&mut self, faults: &mut Faults, number: usize) -> OrderIntent {
        let variants = self.drops[number].terms.variants.len();
        let variant_id = variant(u8::try_from(faults.below(variants)).unwrap_or(0));
        let qty = i64::try_from(1 + faults.below(3)).unwrap_or(1);
        let key = u8::try_from(faults.below(20)).unwrap_or(0);
        let kind = if faults.chance(0.7) { Kind::Restock } else { Kind::Withdraw };
        let stock_change = StockChange {
            variant_id: Some(variant_id),
            qty: Units(qty),
            key: Hash::of(&[&[key, u8::from(kind == Kind::Restock)]]),
            request_hash: Hash::of(&[&variant_id.0, &qty.to_be_bytes()]),
        };
        let drop = self.drops[number].id;
        OrderIntent { stock_change: Some(stock_change), ..self.by_creator(kind, drop) }
    }

    fn command(&mut self, faults: &mut Faults, drop: DropId) -> OrderIntent {
        let kind = match faults.below(16) {
            0..5 => Kind::Pause,
            5..11 => Kind::Resume,
            11..13 => Kind::Open,
            13 => Kind::Edit,
            14 => Kind::Close,
            _ => Kind::Abort,
        };
        let edit = || EditDrop {
            hold_seconds: Some(20),
            title: Some("Renamed".into()),
            ..EditDrop::default()
        };
        let edit = (kind == Kind::Edit).then(|| Box::new(edit()));
        OrderIntent { edit, ..self.by_creator(kind, drop) }
    }
}

fn planned(faults: &mut Faults, number: usize, now: Millis) -> PlannedDrop {
    let mut id = [0xd0; 16];
    id[15] = u8::try_from(number).unwrap_or(0);
    id[14] = u8::try_from(faults.below(256)).unwrap_or(0);
    let drop = DropId(id);
    let free = faults.chance(0.2);
    let variants: Vec<_> = (0..=faults.below(3))
        .map(|number| VariantSpec {
            variant_id: variant(u8::try_from(number).unwrap_or(0)),
            name: String::new(),
            stock: Units(i64::try_from(1 + faults.below(12)).unwrap_or(1)),
            price: if free { MinorUnits(0) } else { PRICE },
        })
        .collect();
    let starts_at = now.after(Millis(i64::try_from(faults.below(20_000)).unwrap_or(0)));
    let length = 30_000 + faults.below(600_000);
    let terms = ScheduleDrop {
        creator_id: creator(drop),
        schedule_key: Hash([1; 16]),
        request_hash: Hash([2; 16]),
        product_id: ProductId([3; 16]),
        title: "Simulated".into(),
        starts_at,
        ends_at: starts_at.after(Millis(i64::try_from(length).unwrap_or(0))),
        time_zone: None,
        currency: "EUR".into(),
        variants,
        limit_per_user: None,
        hold_seconds: i32::try_from(5 + faults.below(60)).unwrap_or(5),
        low_stock_threshold: Units(i64::try_from(faults.below(4)).unwrap_or(0)),
        payment_required: !free,
        offer_seconds: i32::try_from(5 + faults.below(60)).unwrap_or(5),
        waitlist: faults.chance(0.7),
        payment_attempts: i32::try_from(1 + faults.below(3)).unwrap_or(1),
    };
    let limit = faults.chance(0.5).then(|| i32::try_from(1 + faults.below(6)).unwrap_or(1));
    PlannedDrop { id: drop, terms: ScheduleDrop { limit_per_user: limit, ..terms } }
}
