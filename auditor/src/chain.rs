//! Contiguous sequence, unbroken chain, rising epochs, monotone time and position.

use schemas::decision::{FIRST_LINK, Outcome, verified_link};
use schemas::ids::Chain;

use crate::{Finding, LoggedDecision};

/// Checks every record against the one before it; returns the last link.
pub fn check<B>(decisions: &[LoggedDecision<B>], findings: &mut Vec<Finding>) -> Chain {
    let mut link = FIRST_LINK;
    let mut found =
        |offset, what: String| findings.push(Finding { checker: "chain", offset, what });
    for (index, logged) in decisions.iter().enumerate() {
        let header = &logged.decision.header;
        if let Some(next) = verified_link(link, &logged.value) {
            link = next;
        } else {
            found(logged.offset, "the record does not follow the one before it".into());
            link = logged.decision.chain;
        }
        let expected = i64::try_from(index).unwrap_or(i64::MAX);
        if header.seq != expected {
            found(logged.offset, format!("seq {} where {expected} is due", header.seq));
        }
        if (index == 0) != (logged.decision.outcome == Outcome::Genesis) {
            found(logged.offset, "genesis is the first record and only that".into());
        }
        if header.decided_at < header.log_time {
            found(logged.offset, "decided before its own log time".into());
        }
        let Some(before) = index.checked_sub(1).and_then(|index| decisions.get(index)) else {
            continue;
        };
        let before = &before.decision.header;
        let takeover = logged.decision.outcome == Outcome::OwnerStarted;
        if header.epoch != before.epoch + i32::from(takeover) {
            found(logged.offset, format!("epoch {} after {}", header.epoch, before.epoch));
        }
        if header.log_time < before.log_time
            || header.next_intent_offset < before.next_intent_offset
        {
            found(logged.offset, "log time or input position went back".into());
        }
    }
    link
}
