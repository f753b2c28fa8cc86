//! What may be asked, parsed from the wire record: after this no group is missing and no list is empty.

use schemas::ids::{CreatorId, DropId, OrderId, UserId};
use schemas::limits::LINES_MAX;
use schemas::order::{
    CreatorCommand, EditDrop, OrderIntent, OrderIntentKind, PaymentOutcome, PlaceOrder,
    RefundOrder, ScheduleDrop, StockChange,
};

/// A command for one drop, or one of its orders.
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
    /// A buyer does something with an order.
    Buyer {
        /// Who asks.
        user: UserId,
        /// The order.
        order: OrderId,
        /// What.
        what: BuyerCommand,
    },
    /// A creator announces a drop.
    Schedule {
        /// The drop.
        drop: DropId,
        /// Its terms.
        terms: Box<ScheduleDrop>,
    },
    /// A creator does something with a drop.
    Creator {
        /// The drop.
        drop: DropId,
        /// Who asks.
        caller: Caller,
        /// What.
        what: DropCommand,
    },
    /// A creator gives the money of an order back.
    Refund {
        /// Who asks.
        caller: Caller,
        /// The order, and whether its units return.
        refund: RefundOrder,
    },
    /// What the provider did with an operation.
    PaymentOutcome(PaymentOutcome),
    /// The partition goes on with this logic version.
    Activate(i32),
    /// Log time moves on; due timers have fired before it.
    Tick,
}

/// What a buyer does with an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BuyerCommand {
    /// Give it up.
    Cancel,
    /// Ask for more time.
    Extend,
    /// Pay for it, or take up an offer.
    Pay {
        /// Opaque reference.
        method: Option<String>,
    },
}

/// What a creator does with a drop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DropCommand {
    /// On sale ahead of its time.
    Open,
    /// Off sale ahead of its time.
    Close,
    /// Off sale for a while.
    Pause,
    /// On sale again.
    Resume,
    /// Called off.
    Abort,
    /// New terms, while upcoming.
    Edit(EditDrop),
    /// More units.
    Restock(StockChange),
    /// Fewer units.
    Withdraw(StockChange),
}

/// Who commands as a creator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Creators the caller may write for.
    pub creators: Vec<CreatorId>,
    /// Whether the caller is an operator.
    pub admin: bool,
}

impl Caller {
    /// Whether the caller may write for a creator.
    #[must_use]
    pub fn may_write_for(&self, creator: CreatorId) -> bool {
        self.admin || self.creators.contains(&creator)
    }
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

fn needed<T>(group: Option<T>, name: &'static str) -> Result<T, Incomplete> {
    group.ok_or(Incomplete::Missing(name))
}

impl TryFrom<OrderIntent> for Command {
    type Error = Incomplete;

    fn try_from(intent: OrderIntent) -> Result<Self, Incomplete> {
        use OrderIntentKind as Kind;
        match intent.kind {
            Kind::Place => {
                let order = needed(intent.place, "place")?;
                if order.lines.is_empty() || order.lines.len() > LINES_MAX {
                    return Err(Incomplete::LineCount(order.lines.len()));
                }
                let user = needed(intent.actor, "actor")?;
                Ok(Self::Place { user, drop: needed(intent.drop_id, "drop_id")?, order })
            }
            Kind::Cancel | Kind::Extend | Kind::Pay => buyer_command(intent),
            Kind::Schedule => {
                let terms = needed(intent.schedule, "schedule")?;
                Ok(Self::Schedule { drop: needed(intent.drop_id, "drop_id")?, terms })
            }
            Kind::Refund => Ok(Self::Refund {
                caller: caller(intent.creator_command)?,
                refund: needed(intent.refund, "refund")?,
            }),
            Kind::PaymentOutcome => {
                let outcome = needed(intent.payment_outcome, "payment_outcome")?;
                Ok(Self::PaymentOutcome(*outcome))
            }
            Kind::Activate => needed(intent.activate, "activate").map(Self::Activate),
            Kind::Tick => Ok(Self::Tick),
            Kind::Open
            | Kind::Close
            | Kind::Pause
            | Kind::Resume
            | Kind::Abort
            | Kind::Edit
            | Kind::Restock
            | Kind::Withdraw => creator_command(intent),
        }
    }
}

fn buyer_command(intent: OrderIntent) -> Result<Command, Incomplete> {
    let user = needed(intent.actor, "actor")?;
    let (order, what) = if intent.kind == OrderIntentKind::Pay {
        let payment = needed(intent.payment, "payment")?;
        (payment.order_id, BuyerCommand::Pay { method: payment.payment_method })
    } else {
        let order = needed(intent.order_change, "order_change")?.order_id;
        let extends = intent.kind == OrderIntentKind::Extend;
        (order, if extends { BuyerCommand::Extend } else { BuyerCommand::Cancel })
    };
    Ok(Command::Buyer { user, order, what })
}

fn creator_command(intent: OrderIntent) -> Result<Command, Incomplete> {
    let what = match intent.kind {
        OrderIntentKind::Open => DropCommand::Open,
        OrderIntentKind::Close => DropCommand::Close,
        OrderIntentKind::Pause => DropCommand::Pause,
        OrderIntentKind::Resume => DropCommand::Resume,
        OrderIntentKind::Abort => DropCommand::Abort,
        OrderIntentKind::Edit => DropCommand::Edit(*needed(intent.edit, "edit")?),
        OrderIntentKind::Restock => {
            DropCommand::Restock(needed(intent.stock_change, "stock_change")?)
        }
        _ => DropCommand::Withdraw(needed(intent.stock_change, "stock_change")?),
    };
    let caller = caller(intent.creator_command)?;
    Ok(Command::Creator { drop: needed(intent.drop_id, "drop_id")?, caller, what })
}

fn caller(command: Option<CreatorCommand>) -> Result<Caller, Incomplete> {
    let command = needed(command, "creator_command")?;
    Ok(Caller { creators: command.creator_ids, admin: command.admin })
}
