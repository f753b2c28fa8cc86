//! I2: every intent offset has exactly one decision, in log order, echoing the intent's id.

use schemas::ids::IntentId;

use crate::{Finding, LoggedDecision, LoggedIntent};

/// Walks intents and decisions side by side.
pub fn check<I, B>(
    intents: &[LoggedIntent<I>],
    id_of: impl Fn(&I) -> IntentId,
    decisions: &[LoggedDecision<B>],
    findings: &mut Vec<Finding>,
) {
    let mut found =
        |offset, what: String| findings.push(Finding { checker: "answers", offset, what });
    let first = intents.first().map_or(i64::MAX, |intent| intent.offset);
    let mut due = intents.iter();
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
            Some(intent) if intent.offset == offset => {
                let id = intent.intent.as_ref().map(&id_of);
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
            Some(intent) => found(intent.offset, "the intent was skipped: no decision".into()),
            None => {
                found(logged.offset, format!("intent {offset} is decided but is not in the log"));
            }
        }
    }
}
