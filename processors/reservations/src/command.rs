//! What may be asked, parsed from the wire record: after this no group is missing and no list is empty.

use schemas::ids::{CreatorId, DropId, OrderId, UserId};
use schemas::limits::LINES_MAX;
use schemas::order::{OrderIntent, OrderIntentKind, PlaceOrder, ScheduleDrop};

/// A command for one drop.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// A buyer asks for units.
    Place {
        /// The buyer.
        user: UserId,
        /// The drop.
        drop: DropId,
        /// Lines, key and terms.
        order: PlaceOrder,
    },
    /// A buyer gives an order up.
    Cancel {
        /// Who asks.
        user: UserId,
        /// The order.
        order: OrderId,
    },
    /// A creator announces a drop.
    Schedule {
        /// The drop.
        drop: DropId,
        /// Its terms.
        terms: Box<ScheduleDrop>,
    },
    /// A creator opens a drop ahead of its time.
    Open(OnDrop),
    /// A creator closes a drop ahead of its time.
    Close(OnDrop),
    /// Log time moves on; due timers have fired before it.
    Tick,
}

/// A creator's command on an existing drop.
#[derive(Clone, PartialEq, Debug)]
pub struct OnDrop {
    /// The drop.
    pub drop: DropId,
    /// Creators the caller may write for.
    pub creators: Vec<CreatorId>,
    /// Whether the caller is an operator.
    pub admin: bool,
}

/// A record that decodes but asks for nothing that exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Incomplete {
    /// The named field is null although the kind needs it.
    Missing(&'static str),
    /// An order needs 1 to 8 lines.
    LineCount(usize),
}

impl std::fmt::Display for Incomplete {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(field) => {
                write!(formatter, "the intent's kind needs `{field}`, which is null")
            }
            Self::LineCount(count) => {
                write!(formatter, "`place.lines` has {count} entries, not 1 to {LINES_MAX}")
            }
        }
    }
}

impl TryFrom<OrderIntent> for Command {
    type Error = Incomplete;

    fn try_from(intent: OrderIntent) -> Result<Self, Incomplete> {
        let drop = intent.drop_id.ok_or(Incomplete::Missing("drop_id"));
        let user = intent.actor.ok_or(Incomplete::Missing("actor"));
        let on_drop = |command: Option<schemas::order::CreatorCommand>| {
            let command = command.ok_or(Incomplete::Missing("creator_command"))?;
            Ok(OnDrop { drop: drop?, creators: command.creator_ids, admin: command.admin })
        };
        match intent.kind {
            OrderIntentKind::Place => {
                let order = intent.place.ok_or(Incomplete::Missing("place"))?;
                if order.lines.is_empty() || order.lines.len() > LINES_MAX {
                    return Err(Incomplete::LineCount(order.lines.len()));
                }
                Ok(Self::Place { user: user?, drop: drop?, order })
            }
            OrderIntentKind::Cancel => {
                let change = intent.order_change.ok_or(Incomplete::Missing("order_change"))?;
                Ok(Self::Cancel { user: user?, order: change.order_id })
            }
            OrderIntentKind::Schedule => {
                let terms = intent.schedule.ok_or(Incomplete::Missing("schedule"))?;
                Ok(Self::Schedule { drop: drop?, terms: Box::new(terms) })
            }
            OrderIntentKind::Open => on_drop(intent.creator_command).map(Self::Open),
            OrderIntentKind::Close => on_drop(intent.creator_command).map(Self::Close),
            OrderIntentKind::Tick => Ok(Self::Tick),
        }
    }
}
