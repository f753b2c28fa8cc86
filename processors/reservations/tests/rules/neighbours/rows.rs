//! The rows: what is wrong with an intent, and how it comes about.

use schemas::ids::{CreatorId, DropId, Hash, OrderId, VariantId};
use schemas::limits::ARCHIVE_AFTER_SECONDS;
use schemas::order::OrderIntentKind as Kind;
use schemas::order::ProviderOperationKind::{Authorise, Capture};
use schemas::order::ProviderResult::{Failed, Succeeded};
use schemas::order::Reason::{self, *};
use schemas::order::{OrderIntent, PriceChange, ScheduleDrop};
use schemas::units::{Millis, MinorUnits};

use crate::life::LIVE;
use crate::world::*;

const BEFORE: Millis = Millis(600_000);
const AFTER: Millis = Millis(END.0 + 1);
const ARCHIVED: Millis = Millis(END.0 + 2 + ARCHIVE_AFTER_SECONDS * 1_000);
const NOWHERE: DropId = DropId([9; 16]);
const NOBODY: CreatorId = CreatorId([0xee; 16]);
const NO_VARIANT: VariantId = VariantId([9; 16]);

/// A row: the command, what is wrong with it, and the intent, made on a fresh world that the row prepares. The first
/// of what is wrong must be given.
pub(super) struct Row {
    pub(super) command: &'static str,
    pub(super) wrong: &'static [Reason],
    pub(super) send: fn(&mut World) -> (Millis, OrderIntent),
}

const fn row(
    command: &'static str,
    wrong: &'static [Reason],
    send: fn(&mut World) -> (Millis, OrderIntent),
) -> Row {
    Row { command, wrong, send }
}

fn one(key: &str) -> OrderIntent {
    place(ANNA, key, &[(SMALL, 1)])
}

fn in_drop(drop: DropId, intent: OrderIntent) -> OrderIntent {
    OrderIntent { drop_id: Some(drop), ..intent }
}

fn by(creator: CreatorId, mut intent: OrderIntent) -> OrderIntent {
    intent.creator_command.as_mut().unwrap().creator_ids = vec![creator];
    intent
}

/// The partition still writes for builds of the first release.
fn old(world: &mut World) {
    world.logic_version = 1;
}

/// Anna's order `k`, paid with a method; then what the provider did.
fn paying(world: &mut World, outcomes: &[OrderIntent]) {
    world.send(LIVE, paid_with(one("k"), "pm"));
    for outcome in outcomes {
        world.send(LIVE, outcome.clone());
    }
}

fn authorised() -> OrderIntent {
    outcome((ANNA, "k"), 1, Authorise, Succeeded)
}

fn captured() -> OrderIntent {
    outcome((ANNA, "k"), 1, Capture, Succeeded)
}

fn declined(attempt: i32) -> OrderIntent {
    outcome((ANNA, "k"), attempt, Authorise, Failed)
}

fn annas(key: &str) -> OrderId {
    OrderId::derive(DROP, ANNA, key)
}

/// Ben asks for what is Anna's.
fn foreign(intent: OrderIntent) -> OrderIntent {
    OrderIntent { actor: Some(BEN), ..intent }
}

fn withdraw(variant: VariantId, qty: i64) -> OrderIntent {
    supply(Kind::Withdraw, variant, qty, 1)
}

fn invalid(terms: ScheduleDrop) -> ScheduleDrop {
    ScheduleDrop { hold_seconds: 0, ..terms }
}

fn other_key(terms: ScheduleDrop) -> ScheduleDrop {
    ScheduleDrop { schedule_key: Hash([5; 16]), ..terms }
}

fn price_of(variant_id: VariantId) -> OrderIntent {
    edit(|edit| edit.prices = vec![PriceChange { variant_id, price: MinorUnits(5) }])
}

fn untitled(mut intent: OrderIntent) -> OrderIntent {
    intent.edit.as_mut().unwrap().title = Some(String::new());
    intent
}

const PLACE: [Row; 20] = [
    row("place", &[UnknownDrop], |_| (LIVE, in_drop(NOWHERE, one("k")))),
    row("place", &[UnknownDrop, NotOpen], |_| (AFTER, in_drop(NOWHERE, one("k")))),
    row("place", &[Archived], |world| {
        world.send(AFTER, tick());
        (ARCHIVED, one("k"))
    }),
    row("place", &[Archived, UnknownVariant], |world| {
        world.send(AFTER, tick());
        (ARCHIVED, place(ANNA, "k", &[(NO_VARIANT, 1)]))
    }),
    row("place", &[NotOpen], |_| (BEFORE, one("k"))),
    row("place", &[NotOpen, UnknownVariant], |_| (AFTER, place(ANNA, "k", &[(NO_VARIANT, 1)]))),
    row("place", &[UnknownVariant], |_| (LIVE, place(ANNA, "k", &[(NO_VARIANT, 1)]))),
    row("place", &[UnknownVariant, BadQuantity], |_| (LIVE, place(ANNA, "k", &[(NO_VARIANT, 0)]))),
    row("place", &[BadQuantity], |_| (LIVE, place(ANNA, "k", &[(SMALL, 0)]))),
    row("place", &[BadQuantity], |_| (LIVE, place(ANNA, "k", &[(SMALL, 2), (SMALL, -1)]))),
    row("place", &[BadQuantity], |_| (LIVE, place(ANNA, "k", &[(SMALL, 1_000), (SMALL, 1)]))),
    row("place", &[BadQuantity, PriceChanged], |_| {
        (LIVE, expecting(place(ANNA, "k", &[(SMALL, 0)]), 5, "EUR"))
    }),
    row("place", &[PriceChanged], |_| (LIVE, expecting(one("k"), 1_998, "EUR"))),
    row("place", &[PriceChanged], |_| (LIVE, expecting(one("k"), 1_999, "USD"))),
    row("place", &[PriceChanged, LimitExceeded], |_| {
        (LIVE, expecting(place(ANNA, "k", &[(SMALL, 7)]), 1, "EUR"))
    }),
    row("place", &[LimitExceeded], |_| (LIVE, place(ANNA, "k", &[(SMALL, 7)]))),
    row("place", &[LimitExceeded, SoldOut], |world| {
        world.send(LIVE, place(BEN, "all", &[(LARGE, 5)]));
        (LIVE, place(ANNA, "k", &[(LARGE, 1), (SMALL, 6)]))
    }),
    row("place", &[SoldOut], |world| {
        world.send(LIVE, place(BEN, "all", &[(LARGE, 5)]));
        (LIVE, place(ANNA, "k", &[(LARGE, 1)]))
    }),
    row("place", &[SoldOut, InsufficientStock], |world| {
        world.send(LIVE, place(BEN, "all", &[(LARGE, 5)]));
        world.send(LIVE, withdraw(SMALL, 6));
        (LIVE, place(ANNA, "k", &[(LARGE, 1), (SMALL, 5)]))
    }),
    row("place", &[InsufficientStock], |_| (LIVE, place(ANNA, "k", &[(LARGE, 6)]))),
];

const BUYER: [Row; 22] = [
    row("cancel", &[UnknownOrder], |_| (LIVE, cancel(ANNA, annas("never")))),
    row("cancel", &[UnknownOrder, PaymentInProgress], |world| {
        paying(world, &[authorised()]);
        (LIVE, cancel(BEN, annas("k")))
    }),
    row("cancel", &[UnknownOrder, AlreadyPaid], |world| {
        paying(world, &[authorised(), captured()]);
        (LIVE, cancel(BEN, annas("k")))
    }),
    row("cancel", &[UnknownOrder, NotCancellable], |world| {
        paying(world, &[]);
        (AFTER, cancel(BEN, annas("k")))
    }),
    row("cancel", &[PaymentInProgress], |world| {
        paying(world, &[authorised()]);
        (LIVE, cancel(ANNA, annas("k")))
    }),
    row("cancel", &[AlreadyPaid], |world| {
        paying(world, &[authorised(), captured()]);
        (LIVE, cancel(ANNA, annas("k")))
    }),
    row("cancel", &[NotCancellable], |world| {
        paying(world, &[]);
        (AFTER, cancel(ANNA, annas("k")))
    }),
    row("extend", &[NotActivated, UnknownOrder], |world| {
        old(world);
        (LIVE, extend(ANNA, "never"))
    }),
    row("extend", &[UnknownOrder], |_| (LIVE, extend(ANNA, "never"))),
    row("extend", &[UnknownOrder, NotExtendable], |world| {
        world.send(LIVE, one("k"));
        (LIVE, foreign(extend(ANNA, "k")))
    }),
    row("extend", &[NotExtendable], |world| {
        world.send(LIVE, one("k"));
        (LIVE, extend(ANNA, "k"))
    }),
    row("extend", &[NotExtendable], |world| {
        paying(world, &[extend(ANNA, "k")]);
        (LIVE, extend(ANNA, "k"))
    }),
    row("pay", &[NotActivated, UnknownOrder], |world| {
        old(world);
        (LIVE, pay(ANNA, "never"))
    }),
    row("pay", &[UnknownOrder], |_| (LIVE, pay(ANNA, "never"))),
    row("pay", &[UnknownOrder, PaymentInProgress], |world| {
        paying(world, &[]);
        (LIVE, foreign(pay(ANNA, "k")))
    }),
    row("pay", &[UnknownOrder, AlreadyPaid], |world| {
        paying(world, &[authorised(), captured()]);
        (LIVE, foreign(pay(ANNA, "k")))
    }),
    row("pay", &[PaymentInProgress], |world| {
        paying(world, &[]);
        (LIVE, pay(ANNA, "k"))
    }),
    // The last attempt that the drop allows is still open.
    row("pay", &[PaymentInProgress, NotPayable], |world| {
        paying(world, &[declined(1), pay(ANNA, "k")]);
        (LIVE, pay(ANNA, "k"))
    }),
    row("pay", &[AlreadyPaid], |world| {
        paying(world, &[authorised(), captured()]);
        (LIVE, pay(ANNA, "k"))
    }),
    // Paid with the last attempt that the drop allows.
    row("pay", &[AlreadyPaid, NotPayable], |world| {
        let second = |operation| outcome((ANNA, "k"), 2, operation, Succeeded);
        paying(world, &[declined(1), pay(ANNA, "k"), second(Authorise), second(Capture)]);
        (LIVE, pay(ANNA, "k"))
    }),
    row("pay", &[NotPayable], |world| {
        paying(world, &[declined(1)]);
        (AFTER, pay(ANNA, "k"))
    }),
    row("pay", &[NotPayable], |world| {
        paying(world, &[declined(1), pay(ANNA, "k"), declined(2)]);
        (LIVE, pay(ANNA, "k"))
    }),
];

const MONEY: [Row; 12] = [
    row("outcome", &[NotActivated, UnknownOrder], |world| {
        old(world);
        (LIVE, authorised())
    }),
    row("outcome", &[UnknownOrder], |_| (LIVE, authorised())),
    row("outcome", &[UnknownOrder, UnknownPayment], |_| {
        (LIVE, outcome((ANNA, "never"), 9, Authorise, Succeeded))
    }),
    row("outcome", &[UnknownPayment], |world| {
        paying(world, &[]);
        (LIVE, outcome((ANNA, "k"), 2, Authorise, Succeeded))
    }),
    row("outcome", &[UnknownPayment], |world| {
        world.send(LIVE, one("k"));
        (LIVE, authorised())
    }),
    row("refund", &[NotActivated, UnknownOrder], |world| {
        old(world);
        (LIVE, refund(ANNA, "never", true, 1))
    }),
    row("refund", &[UnknownOrder], |_| (LIVE, refund(ANNA, "never", true, 1))),
    row("refund", &[UnknownOrder, NotRefundable], |world| {
        world.send(LIVE, one("k"));
        (LIVE, by(NOBODY, refund(ANNA, "k", true, 1)))
    }),
    row("refund", &[NotRefundable], |world| {
        world.send(LIVE, one("k"));
        (LIVE, refund(ANNA, "k", true, 1))
    }),
    row("refund", &[NotRefundable], |world| {
        paying(world, &[authorised(), captured(), refund(ANNA, "k", true, 1)]);
        (LIVE, refund(ANNA, "k", true, 2))
    }),
    row("activate", &[UnknownVersion], |_| (LIVE, activate(99))),
    row("activate", &[UnknownVersion], |world| {
        old(world);
        (LIVE, activate(99))
    }),
];

const DROPS: [Row; 34] = [
    row("schedule", &[NotActivated, DropExists], |world| {
        old(world);
        (BEFORE, schedule(DROP, ScheduleDrop { waitlist: true, ..other_key(terms()) }))
    }),
    row("schedule", &[DropExists], |_| (BEFORE, schedule(DROP, other_key(terms())))),
    row("schedule", &[DropExists, InvalidSchedule], |_| {
        (BEFORE, schedule(DROP, other_key(invalid(terms()))))
    }),
    row("schedule", &[InvalidSchedule], |_| (BEFORE, schedule(NOWHERE, invalid(terms())))),
    row("close", &[UnknownDrop], |_| (BEFORE, command(Kind::Close, NOWHERE, CREATOR))),
    row("close", &[UnknownDrop, NotCreator], |_| (BEFORE, command(Kind::Close, NOWHERE, NOBODY))),
    row("close", &[Archived], |world| {
        world.send(AFTER, tick());
        (ARCHIVED, command(Kind::Close, DROP, CREATOR))
    }),
    row("close", &[Archived, NotCreator], |world| {
        world.send(AFTER, tick());
        (ARCHIVED, command(Kind::Close, DROP, NOBODY))
    }),
    row("close", &[NotCreator], |_| (LIVE, command(Kind::Close, DROP, NOBODY))),
    row("close", &[NotCreator, WrongState], |_| (BEFORE, command(Kind::Close, DROP, NOBODY))),
    row("close", &[WrongState], |_| (BEFORE, command(Kind::Close, DROP, CREATOR))),
    row("withdraw", &[NotActivated, UnknownDrop], |world| {
        old(world);
        (LIVE, in_drop(NOWHERE, withdraw(SMALL, 1)))
    }),
    row("withdraw", &[NotActivated, Archived], |world| {
        world.send(AFTER, tick());
        world.send(ARCHIVED, tick());
        old(world);
        (ARCHIVED, withdraw(SMALL, 1))
    }),
    row("withdraw", &[UnknownDrop], |_| (LIVE, in_drop(NOWHERE, withdraw(SMALL, 1)))),
    row("withdraw", &[UnknownDrop, NotCreator], |_| {
        (LIVE, by(NOBODY, in_drop(NOWHERE, withdraw(SMALL, 1))))
    }),
    row("withdraw", &[Archived, NotCreator], |world| {
        world.send(AFTER, tick());
        (ARCHIVED, by(NOBODY, withdraw(SMALL, 1)))
    }),
    row("withdraw", &[NotCreator], |_| (LIVE, by(NOBODY, withdraw(SMALL, 1)))),
    row("withdraw", &[NotCreator, WrongState], |_| (AFTER, by(NOBODY, withdraw(SMALL, 1)))),
    row("withdraw", &[WrongState], |_| (AFTER, withdraw(SMALL, 1))),
    row("withdraw", &[WrongState, UnknownVariant], |_| (AFTER, withdraw(NO_VARIANT, 1))),
    row("withdraw", &[UnknownVariant], |_| (LIVE, withdraw(NO_VARIANT, 1))),
    row("withdraw", &[UnknownVariant, BadQuantity], |_| (LIVE, withdraw(NO_VARIANT, 0))),
    row("withdraw", &[UnknownVariant, InsufficientStock], |_| (LIVE, withdraw(NO_VARIANT, 99))),
    row("withdraw", &[BadQuantity], |_| (LIVE, withdraw(SMALL, 0))),
    row("withdraw", &[InsufficientStock], |_| (LIVE, withdraw(SMALL, 11))),
    row("edit", &[NotActivated, UnknownDrop], |world| {
        old(world);
        (BEFORE, in_drop(NOWHERE, price_of(SMALL)))
    }),
    row("edit", &[NotActivated, Archived], |world| {
        world.send(AFTER, tick());
        world.send(ARCHIVED, tick());
        old(world);
        (ARCHIVED, price_of(SMALL))
    }),
    row("edit", &[UnknownDrop, NotCreator], |_| {
        (BEFORE, by(NOBODY, in_drop(NOWHERE, price_of(SMALL))))
    }),
    row("edit", &[Archived, NotCreator], |world| {
        world.send(AFTER, tick());
        (ARCHIVED, by(NOBODY, price_of(SMALL)))
    }),
    row("edit", &[NotCreator, WrongState], |_| (LIVE, by(NOBODY, price_of(SMALL)))),
    row("edit", &[WrongState, UnknownVariant], |_| (LIVE, price_of(NO_VARIANT))),
    row("edit", &[UnknownVariant], |_| (BEFORE, price_of(NO_VARIANT))),
    row("edit", &[UnknownVariant, InvalidSchedule], |_| (BEFORE, untitled(price_of(NO_VARIANT)))),
    row("edit", &[InvalidSchedule], |_| (BEFORE, untitled(price_of(SMALL)))),
];

pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    PLACE.iter().chain(&BUYER).chain(&MONEY).chain(&DROPS)
}
