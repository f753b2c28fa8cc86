//! I2: every intent offset has exactly one decision, in log order, echoing the intent's id.

use schemas::ids::IntentId;

use crate::{Finding, LoggedDecision};

/// Walks intents and decisions side by side. Of an intent: its offset, and its id where it could be read.
pub fn check<B>(
    intents: impl Iterator<Item = (i64, Option<IntentId>)>,
    decisions: &[LoggedDecision<B>],
    findings: &mut Vec<Finding>,
) {
    let mut found =
        |offset, what: String| findings.push(Finding { checker: "answers", offset, what });
    let mut due = intents.peekable();
    let first = due.peek().map_or(i64::MAX, |(offset, _)| *offset);
    let mut previous = -1;
    for logged in decisions {
        let header = &logged.decision.header;
        let Some(offset) = header.intent_offset else { continue };
        if offset <= previous {
            found(logged.offset, format!("intent {offset} is decided twice or out of order"));
            continue;
        }
        previous = offset;
        if header.next_intent_offset != offset + 1 {
            found(
                logged.offset,
                format!("the position after intent {offset} is not the next offset"),
            );
        }
        if offset < first {
            continue; // the intent is older than the topic's retention
        }
        match due.next() {
            Some((asked, id)) if asked == offset => {
                if id.is_some() && header.intent_id.is_some() && id != header.intent_id {
                    found(
                        logged.offset,
                        format!("the decision of intent {offset} echoes another id"),
                    );
                }
                if id.is_some() && header.intent_id.is_none() {
                    found(logged.offset, format!("the decision of intent {offset} echoes no id"));
                }
            }
            Some((asked, _)) => found(asked, "the intent was skipped: no decision".into()),
            None => {
                found(logged.offset, format!("intent {offset} is decided but is not in the log"));
            }
        }
    }
}
