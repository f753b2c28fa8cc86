//! Naive, independent proof over one partition of a log. Pure.
//!
//! The auditor shares the record types with the processors and nothing else: it has its own, slow idea of
//! what each decision should have been and holds every record against it. One checker per invariant, each in
//! its own file:
//!
//! | checker | guards |
//! |---|---|
//! | [`chain`] | contiguous sequence, unbroken chain, rising epochs, monotone time |
//! | [`answers`] | I2: one decision per intent offset, echoing the intent's id |
//! | [`stock`] | I1: units conserved, and equal to what the orders themselves add up to |
//! | [`buyers`] | the limit holds; a buyer's counters are what the buyer's orders add up to |
//! | [`rules`] | each outcome is the one the rules give, recomputed from the rows before it |
//! | [`transitions`] | a status follows one that it may follow; versions rise by one |
//! | [`money`] | money moves only for units that are the buyer's, and has an end |
//! | [`ledger`] | the provider's money is the log's, once nothing is under way |
//! | [`waitlist`] | released units go to who waited first among those they fit, before anybody new |
//! | [`edges`] | low stock and sold out are told once per crossing |
//! | [`continuations`] | open work is drained first; no record changes more than 64 rows |
//! | [`follows`] | a creator's counter is the size of the follower set |
//! | [`deadlines`] | I8: nothing opens, closes or lapses before its instant in log time, or late |
//!
//! Intents older than the topic's retention are gone; [`Report::intents_from`] says where the border is, and
//! what came before is judged from decisions alone.
//!
//! The idea of a second, simple model that watches the real one is `TigerBeetle`'s auditor.

pub mod answers;
pub mod buyers;
pub mod chain;
pub mod continuations;
pub mod deadlines;
pub mod edges;
pub mod fold;
pub mod follows;
pub mod ledger;
pub mod money;
pub mod rules;
pub mod stock;
pub mod transitions;
pub mod waitlist;

use std::fmt;

use schemas::decision::Decision;
use schemas::ids::Chain;
use schemas::order::{OrderBody, OrderIntent};
use schemas::units::Millis;

pub use fold::Fold;

/// First logic version with payments, waitlist, events about stock.
const WHOLE_LIFE: i32 = 2;

/// An intent as the log holds it.
#[derive(Clone, PartialEq, Debug)]
pub struct LoggedIntent<I = OrderIntent> {
    /// Its offset.
    pub offset: i64,
    /// The log's append time.
    pub append_time: Millis,
    /// The record, where it could be read.
    pub intent: Option<I>,
}

/// A decision as the log holds it.
#[derive(Clone, PartialEq, Debug)]
pub struct LoggedDecision<B = OrderBody> {
    /// Its offset.
    pub offset: i64,
    /// The framed bytes, for the chain.
    pub value: Vec<u8>,
    /// The record.
    pub decision: Decision<B>,
}

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Which checker found it.
    pub checker: &'static str,
    /// Offset of the decision, or of the intent where there is no decision.
    pub offset: i64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at offset {}: {}", self.checker, self.offset, self.what)
    }
}

/// What an audit of one partition found.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Everything that is wrong; empty is proof.
    pub findings: Vec<Finding>,
    /// The rows that the decisions add up to.
    pub fold: Fold,
    /// First retained intent offset; older decisions were judged without their intents.
    pub intents_from: i64,
    /// Intents without a decision yet: those at or past the last decision's `next_intent_offset`.
    pub undecided: i64,
    /// Records with an intent offset.
    pub decided: i64,
    /// Last link of the chain.
    pub chain: Chain,
}

/// Audits one partition of the order topics from the log's first decision.
#[must_use]
pub fn audit(intents: &[LoggedIntent], decisions: &[LoggedDecision]) -> Report {
    let mut findings = Vec::new();
    let chain = chain::check(decisions, &mut findings);
    answers::check(intents, |intent| intent.intent_id, decisions, &mut findings);
    let mut fold = Fold::default();
    let mut deadlines = deadlines::Deadlines::default();
    let mut counts = stock::Counts::default();
    let mut owned = buyers::Buyers::default();
    for logged in decisions {
        let intent = intent_of(logged, intents);
        deadlines.check(&fold, logged, intent, &mut findings);
        rules::check(&fold, logged, intent, &mut findings);
        continuations::check(&fold, logged, &mut findings);
        let Some(body) = &logged.decision.body else { continue };
        let offset = logged.offset;
        let drop = body.orders.first().and_then(|order| fold.drops.get(&order.drop_id));
        if let Some(drop) = drop.filter(|_| logged.decision.header.intent_offset.is_some()) {
            waitlist::check_drained(&fold, offset, drop, &mut findings);
        }
        transitions::check(&fold, offset, body, &mut findings);
        waitlist::check_offers(&fold, offset, body, &mut findings);
        if logged.decision.header.logic_version >= WHOLE_LIFE {
            edges::check(&fold, offset, body, &mut findings);
        }
        money::check(&fold, offset, body, &mut findings);
        counts.apply(&fold, body);
        owned.check(&fold, offset, body, &mut findings);
        fold.apply(body);
        stock::check(&counts, &fold, offset, body, &mut findings);
    }
    stock::check_totals(&fold, &mut findings);
    Report {
        findings,
        fold,
        intents_from: intents.first().map_or(0, |intent| intent.offset),
        undecided: undecided(intents, decisions),
        decided: decided(decisions),
        chain,
    }
}

/// The intent that was decided, where it is retained.
fn intent_of<'a, I, B>(
    logged: &LoggedDecision<B>,
    intents: &'a [LoggedIntent<I>],
) -> Option<&'a LoggedIntent<I>> {
    let offset = logged.decision.header.intent_offset?;
    let index = intents.binary_search_by_key(&offset, |intent| intent.offset).ok()?;
    intents.get(index)
}

/// Intents at or past where the last decision says that its owner goes on reading.
fn undecided<I, B>(intents: &[LoggedIntent<I>], decisions: &[LoggedDecision<B>]) -> i64 {
    let next = decisions.last().map_or(0, |last| last.decision.header.next_intent_offset);
    let undecided = intents.iter().filter(|intent| intent.offset >= next).count();
    i64::try_from(undecided).unwrap_or(i64::MAX)
}

fn decided<B>(decisions: &[LoggedDecision<B>]) -> i64 {
    let decided =
        decisions.iter().filter(|logged| logged.decision.header.intent_offset.is_some()).count();
    i64::try_from(decided).unwrap_or(i64::MAX)
}
