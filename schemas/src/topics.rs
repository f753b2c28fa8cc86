//! The topics, from one table. `topology.md` has a row for each; a test fails when they differ.

/// Who may follow a topic's retention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// The truth: kept for ever (`retention.ms=-1`, `retention.bytes=-1`).
    Forever,
    /// Days after which decided intents may go.
    Days(u16),
}

/// A topic as it must be on the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Name on the broker.
    pub name: &'static str,
    /// What its records are keyed by.
    pub key: &'static str,
    /// Registry subject of its single record type.
    pub subject: &'static str,
    /// Whether the broker stamps records with its own clock (`LogAppendTime`).
    pub log_append_time: bool,
    /// How long records stay.
    pub retention: Retention,
    /// Who writes it.
    pub written_by: &'static str,
    /// Who reads it.
    pub read_by: &'static str,
}

/// Partitions of every topic unless configured otherwise when the topics are made.
pub const DEFAULT_PARTITIONS: u16 = 12;

/// Commands for drops.
pub const ORDER_INTENTS: Topic = Topic {
    name: "order-intents",
    key: "drop_id (order id for order commands, null for tick)",
    subject: "order-intents-value",
    log_append_time: true,
    retention: Retention::Days(30),
    written_by: "ingest-api, payments, owner (tick), livedrops (activate)",
    read_by: "reservations",
};

/// Decisions about drops.
pub const ORDER_DECISIONS: Topic = Topic {
    name: "order-decisions",
    key: "drop_id (null for genesis, owner_started, tick and undecodable)",
    subject: "order-decisions-value",
    log_append_time: false,
    retention: Retention::Forever,
    written_by: "reservations",
    read_by: "reservations (recovery), payments, ingest-api, postgres-views, clickhouse-views, audit",
};

/// Commands for follower sets.
pub const FOLLOW_INTENTS: Topic = Topic {
    name: "follow-intents",
    key: "creator_id (null for tick)",
    subject: "follow-intents-value",
    log_append_time: true,
    retention: Retention::Days(30),
    written_by: "ingest-api",
    read_by: "followers",
};

/// Decisions about follower sets.
pub const FOLLOW_DECISIONS: Topic = Topic {
    name: "follow-decisions",
    key: "creator_id (null for genesis, owner_started and undecodable)",
    subject: "follow-decisions-value",
    log_append_time: false,
    retention: Retention::Forever,
    written_by: "followers",
    read_by: "followers (recovery), ingest-api, postgres-views, audit",
};

/// Every topic there is.
pub const ALL: [Topic; 4] = [ORDER_INTENTS, ORDER_DECISIONS, FOLLOW_INTENTS, FOLLOW_DECISIONS];
