//! What the processor reads, writes and keeps.

use model::Topology;
use schemas::topics::{ORDER_DECISIONS, ORDER_INTENTS};

/// Table tags. A tag once released is never given to another table.
pub mod tag {
    /// Drops by drop id.
    pub const DROP: u8 = 1;
    /// Stock by drop id and variant id.
    pub const STOCK: u8 = 2;
    /// Orders by order id.
    pub const ORDER: u8 = 3;
    /// Buyers by drop id and user id.
    pub const BUYER: u8 = 4;
    /// Creator commands by drop id and key.
    pub const COMMAND: u8 = 5;
    /// Continuations by id.
    pub const CONTINUATION: u8 = 6;
    /// Queue of waiting orders by drop id and variant id.
    pub const WAITING: u8 = 7;
    /// Queue of offered orders by drop id.
    pub const OFFERED: u8 = 8;
}

/// `order-intents[p] → order-decisions[p]`.
pub const TOPOLOGY: Topology = Topology {
    processor: "reservations",
    intents: ORDER_INTENTS,
    decisions: ORDER_DECISIONS,
    tables: &[
        (tag::DROP, "drop", "drop_id", "terms and status of a drop"),
        (tag::STOCK, "stock", "drop_id, variant_id", "available, reserved and sold units"),
        (tag::ORDER, "order", "order_id", "an order, which is also its idempotency record"),
        (
            tag::BUYER,
            "buyer",
            "drop_id, user_id",
            "units of one buyer, where the drop has a limit or a waitlist",
        ),
        (
            tag::COMMAND,
            "command",
            "drop_id, key",
            "idempotency record of a restock, withdrawal or refund",
        ),
        (
            tag::CONTINUATION,
            "continuation",
            "id",
            "work that one decision cannot hold, oldest first",
        ),
    ],
};
