//! Every refusal, and for every command every pair of neighbouring refusals: where both hold, the earlier is given.
//! A new refusal without a row fails the last two checks.

mod rows;

use std::collections::BTreeSet;

use schemas::order::Reason::{self, *};

use crate::world::*;
use rows::rows;

/// What an intent is refused for, in the order of the checks. Refusals that one order cannot earn together (they
/// follow from its status) stand in one group.
const CHAINS: [(&str, &[&[Reason]]); 11] = [
    (
        "place",
        &[
            &[UnknownDrop],
            &[Archived, NotOpen],
            &[UnknownVariant],
            &[BadQuantity],
            &[PriceChanged],
            &[LimitExceeded],
            &[SoldOut],
            &[InsufficientStock],
        ],
    ),
    ("cancel", &[&[UnknownOrder], &[PaymentInProgress, AlreadyPaid, NotCancellable]]),
    ("extend", &[&[NotActivated], &[UnknownOrder], &[NotExtendable]]),
    ("pay", &[&[NotActivated], &[UnknownOrder], &[PaymentInProgress, AlreadyPaid], &[NotPayable]]),
    ("outcome", &[&[NotActivated], &[UnknownOrder], &[UnknownPayment]]),
    ("refund", &[&[NotActivated], &[UnknownOrder], &[NotRefundable]]),
    ("schedule", &[&[NotActivated], &[DropExists], &[InvalidSchedule]]),
    ("close", &[&[UnknownDrop, Archived], &[NotCreator], &[WrongState]]),
    (
        "withdraw",
        &[
            &[NotActivated],
            &[UnknownDrop, Archived],
            &[NotCreator],
            &[WrongState],
            &[UnknownVariant],
            &[BadQuantity, InsufficientStock],
        ],
    ),
    (
        "edit",
        &[
            &[NotActivated],
            &[UnknownDrop, Archived],
            &[NotCreator],
            &[WrongState],
            &[UnknownVariant],
            &[InvalidSchedule],
        ],
    ),
    ("activate", &[&[UnknownVersion]]),
];

#[test]
fn of_all_that_is_wrong_the_first_in_the_documented_order_is_told() {
    for row in rows() {
        let mut world = World::with_drop(|_| {});
        let (at, intent) = (row.send)(&mut world);
        let decision = world.send(at, intent);
        let told = reason(&decision);
        assert_eq!(told, row.wrong.first().copied(), "{} {:?}", row.command, row.wrong);
    }
}

/// That a row has two faults is shown by mending the first: see the rows with one fault, and these pairs.
#[test]
fn every_pair_of_neighbours_has_a_row() {
    for (command, groups) in CHAINS {
        for pair in groups.windows(2) {
            for (earlier, later) in pair[0].iter().flat_map(|e| pair[1].iter().map(move |l| (e, l)))
            {
                let has = rows().any(|row| {
                    row.command == command
                        && row.wrong.contains(earlier)
                        && row.wrong.contains(later)
                });
                assert!(
                    has || is_impossible(command, *earlier, *later),
                    "{command}: {earlier:?}, {later:?}"
                );
            }
        }
    }
}

/// Neighbours that no intent can earn together.
fn is_impossible(command: &str, earlier: Reason, later: Reason) -> bool {
    match (command, earlier, later) {
        // What does not exist is not archived either.
        ("place", UnknownDrop, Archived) => true,
        _ => false,
    }
}

#[test]
fn every_refusal_of_an_intent_has_a_row() {
    let seen: BTreeSet<_> = rows().map(|row| row.wrong[0]).collect();
    for &reason in ALL {
        let of_orders =
            matches!(reason, DropEnded | DropCancelled | PaymentDeclined | CaptureFailed);
        assert_eq!(seen.contains(&reason), !of_orders, "{reason:?}");
    }
    for (command, groups) in CHAINS {
        for reason in groups.iter().copied().flatten() {
            let has = rows().any(|row| row.command == command && row.wrong[0] == *reason);
            assert!(has || groups[0] == [*reason], "{command}: {reason:?}");
        }
    }
}

/// Every reason, once; the match does not compile when there is another.
macro_rules! every_reason {
    ($($reason:ident),+ $(,)?) => {
        const ALL: &[Reason] = &[$($reason),+];
        const _: fn(Reason) = |reason| match reason {
            $($reason)|+ => {}
        };
    };
}

every_reason!(
    UnknownOrder,
    UnknownDrop,
    Archived,
    NotCreator,
    DropExists,
    InvalidSchedule,
    WrongState,
    NotOpen,
    UnknownVariant,
    BadQuantity,
    PriceChanged,
    LimitExceeded,
    InsufficientStock,
    SoldOut,
    NotCancellable,
    PaymentInProgress,
    AlreadyPaid,
    NotPayable,
    NotExtendable,
    NotRefundable,
    UnknownPayment,
    DropEnded,
    DropCancelled,
    PaymentDeclined,
    CaptureFailed,
    NotActivated,
    UnknownVersion,
);
