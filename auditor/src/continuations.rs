//! Work that one record cannot hold is drained, oldest first, before any timer or intent; records stay small.

use schemas::decision::Outcome;
use schemas::limits::ROWS_PER_DECISION_MAX;

use crate::{Finding, Fold, LoggedDecision};

/// Checks one decision over the rows as they were.
pub fn check(fold: &Fold, logged: &LoggedDecision, findings: &mut Vec<Finding>) {
    let offset = logged.offset;
    let mut found =
        |what: String| findings.push(Finding { checker: "continuations", offset, what });
    let Some(body) = &logged.decision.body else {
        if !fold.continuations.is_empty() && logged.decision.header.intent_offset.is_some() {
            found("an intent was decided before open work was done".into());
        }
        return;
    };
    let archived = body
        .archived
        .as_ref()
        .map_or(0, |a| a.orders.len() + a.buyers.len() + a.variants.len() + a.commands.len());
    let rows = body.orders.len()
        + body.drops.len()
        + body.stocks.len()
        + body.buyers.len()
        + body.commands.len()
        + body.continuations.len()
        + body.finished.len()
        + archived;
    if rows > ROWS_PER_DECISION_MAX {
        found(format!("{rows} rows in one record"));
    }
    let Some(oldest) = fold.continuations.keys().next() else { return };
    if logged.decision.outcome != Outcome::Changed || logged.decision.header.intent_offset.is_some()
    {
        found(format!("{:?} was decided before open work was done", logged.decision.outcome));
    } else if !body.finished.contains(oldest) && !body.continuations.iter().any(|c| c.id == *oldest)
    {
        found(format!("something else was done before continuation {oldest}"));
    }
}
