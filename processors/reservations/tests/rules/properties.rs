//! Random histories: whatever is sent, in whatever order and at whatever time, the auditor agrees.

use proptest::prelude::*;
use schemas::ids::{OrderId, UserId};
use schemas::order::OrderIntentKind;
use schemas::units::Millis;

use crate::world::*;

#[derive(Clone, Debug)]
enum Act {
    Place { user: u8, key: u8, small: i32, large: i32 },
    Cancel { user: u8, key: u8 },
    Open,
    Close,
    Tick,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => (0..6_u8, 0..4_u8, 0..4_i32, 0..3_i32)
            .prop_map(|(user, key, small, large)| Act::Place { user, key, small, large }),
        4 => (0..6_u8, 0..4_u8).prop_map(|(user, key)| Act::Cancel { user, key }),
        1 => Just(Act::Open),
        1 => Just(Act::Close),
        2 => Just(Act::Tick),
    ]
}

fn user(byte: u8) -> UserId {
    UserId([byte; 16])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// I1, I2 and I8 over random histories; append times go back too, as leaders change.
    #[test]
    fn random_histories_satisfy_the_auditor(
        free in any::<bool>(),
        limit in prop_oneof![Just(None), (1..8_i32).prop_map(Some)],
        acts in prop::collection::vec((act(), -50_000..400_000_i64), 1..60),
    ) {
        let mut world = World::with_drop(|terms| {
            terms.payment_required = !free;
            terms.limit_per_user = limit;
        });
        let mut now = Millis(START.0 - 300_000);
        for (act, step) in acts {
            now = Millis(now.0 + step);
            let intent = match act {
                Act::Place { user: who, key, small, large } => {
                    let lines: Vec<_> = [(SMALL, small), (LARGE, large)].into_iter()
                        .filter(|(_, qty)| *qty > 0).collect();
                    let lines = if lines.is_empty() { vec![(SMALL, 0)] } else { lines };
                    place(user(who), &key.to_string(), &lines)
                }
                Act::Cancel { user: who, key } => {
                    cancel(user(who), OrderId::derive(DROP, user(who), &key.to_string()))
                }
                Act::Open => command(OrderIntentKind::Open, DROP, CREATOR),
                Act::Close => command(OrderIntentKind::Close, DROP, CREATOR),
                Act::Tick => tick(),
            };
            world.send(now, intent);
        }
        let report = world.audit();
        prop_assert_eq!(report.findings, vec![]);
        prop_assert_eq!(auditor::stock::oversold(&report.fold), 0);
    }
}
