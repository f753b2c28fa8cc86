//! What the log asks of the provider, and when to ask again. Pure.

use std::collections::{BTreeMap, BTreeSet};

use schemas::ids::OrderId;
use schemas::order::{
    OrderRow, PaymentOutcome, PaymentState, ProviderOperationKind, ProviderResult,
};
use schemas::units::{Currency, Millis, MinorUnits};

/// First pause before an operation of unknown outcome is asked again, doubled up to the greatest.
const RETRY_PAUSE_MIN: Millis = Millis(200);
const RETRY_PAUSE_MAX: Millis = Millis(30_000);
/// How long a webhook may take before we ask.
const WEBHOOK_PAUSE: Millis = Millis(60_000);
/// How long the log may take to show an outcome that was appended, before the provider is asked again.
const LOG_PAUSE: Millis = Millis(30_000);
/// Providers forget keys after a day: a repeated call would be a second one. From here on it is only looked up.
const LOOK_UP_AFTER: Millis = Millis::from_seconds(23 * 3_600);
/// A step that the buyer has not taken so long after the units went back is called off: until then a late success
/// may still revive the order.
const GIVE_UP_AFTER: Millis = Millis::from_seconds(3_600);

/// One operation for one attempt of one order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The order.
    pub order_id: OrderId,
    /// The attempt.
    pub attempt: i32,
    /// What is asked.
    pub kind: ProviderOperationKind,
    /// Amount of the order.
    pub amount: MinorUnits,
    /// Its currency.
    pub currency: Currency,
    /// The buyer's opaque reference.
    pub method: Option<String>,
    /// The provider's own name of the charge, once it told one.
    pub reference: Option<String>,
}

impl Call {
    /// The provider's idempotency key: the same for every try.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}:{}:{}", self.order_id, self.attempt, self.kind.as_str())
    }

    /// The call that an outcome answers.
    #[must_use]
    pub fn answered_by(outcome: &PaymentOutcome) -> Self {
        Self {
            order_id: outcome.order_id,
            attempt: outcome.attempt,
            kind: outcome.operation,
            amount: outcome.amount,
            currency: outcome.currency.clone(),
            method: None,
            reference: outcome.reference.clone(),
        }
    }

    /// The outcome of an operation that did not succeed.
    #[must_use]
    pub fn failed(&self, why: &str) -> PaymentOutcome {
        PaymentOutcome { detail: Some(why.to_owned()), ..self.outcome(ProviderResult::Failed) }
    }

    /// An outcome of this operation, for the amount that was asked for.
    #[must_use]
    pub fn outcome(&self, result: ProviderResult) -> PaymentOutcome {
        PaymentOutcome {
            order_id: self.order_id,
            attempt: self.attempt,
            operation: self.kind,
            result,
            captured: false,
            amount: self.amount,
            currency: self.currency.clone(),
            detail: None,
            reference: self.reference.clone(),
        }
    }

    fn of(row: &OrderRow) -> Option<(Self, Waits)> {
        let operation = row.operation?;
        let attempt = row.payments.iter().find(|p| p.attempt == operation.attempt)?;
        let waits = match attempt.state {
            PaymentState::NeedsAction if row.status.holds_units() => Waits::ForTheBuyer,
            PaymentState::NeedsAction => Waits::InVain { since: row.decided_at },
            _ => Waits::ForTheProvider,
        };
        let call = Self {
            order_id: row.order_id,
            attempt: operation.attempt,
            kind: operation.kind,
            amount: row.total,
            currency: row.currency.clone(),
            method: attempt.method.clone(),
            reference: attempt.reference.clone(),
        };
        Some((call, waits))
    }

    fn is_same_operation(&self, other: &Self) -> bool {
        (self.order_id, self.attempt, self.kind) == (other.order_id, other.attempt, other.kind)
    }
}

/// How an operation is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// Do it; the key makes a repetition harmless.
    Execute,
    /// Say what became of it.
    LookUp,
    /// The buyer never took the step, and the units are gone: call it off, or say what became of it.
    GiveUp,
}

/// Who has to move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    ForTheProvider,
    /// The log has told the buyer what to do.
    ForTheBuyer,
    /// The same, but the order holds nothing any more.
    InVain {
        since: Millis,
    },
}

struct Open {
    call: Call,
    waits: Waits,
    first_asked_at: Millis,
    tries: u32,
    due_at: Millis,
    /// The provider has taken it: from now on it is only asked what became of it.
    is_taken: bool,
}

impl Open {
    fn how(&self, now: Millis) -> How {
        match self.waits {
            Waits::InVain { since } if now.since(since) > GIVE_UP_AFTER => How::GiveUp,
            Waits::ForTheProvider if !self.is_taken => {
                let forgotten = now.since(self.first_asked_at) > LOOK_UP_AFTER;
                if forgotten { How::LookUp } else { How::Execute }
            }
            _ => How::LookUp,
        }
    }
}

/// Every operation that is due, under way or answered but not yet in the log.
#[derive(Default)]
pub struct Operations {
    open: BTreeMap<OrderId, Open>,
    due: BTreeSet<(Millis, OrderId)>,
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Operations").field("open", &self.open.len()).finish_non_exhaustive()
    }
}

impl Operations {
    /// Takes order rows in log order: the last one says what is asked now.
    pub fn read(&mut self, rows: impl IntoIterator<Item = OrderRow>, now: Millis) {
        for row in rows {
            let asked = Call::of(&row);
            if let Some((call, waits)) = &asked
                && let Some(known) = self.open.get_mut(&row.order_id)
                && call.is_same_operation(&known.call)
            {
                // Under way already; the row may tell more of it.
                known.call.reference.clone_from(&call.reference);
                known.waits = *waits;
                continue;
            }
            self.forget(row.order_id);
            if let Some((call, waits)) = asked {
                let order = call.order_id;
                // An older process may have asked since the row was written.
                let first_asked_at = row.decided_at;
                let open =
                    Open { call, waits, first_asked_at, tries: 0, due_at: now, is_taken: false };
                self.open.insert(order, open);
                self.due.insert((now, order));
            }
        }
    }

    /// Takes every order with an operation, after reading the log anew; what is not among them is settled.
    pub fn restart(&mut self, rows: Vec<OrderRow>, now: Millis) {
        let asked: BTreeSet<_> = rows.iter().map(|row| row.order_id).collect();
        let settled: Vec<_> = self.open.keys().filter(|id| !asked.contains(id)).copied().collect();
        settled.into_iter().for_each(|order| self.forget(order));
        self.read(rows, now);
    }

    fn forget(&mut self, order: OrderId) {
        if let Some(open) = self.open.remove(&order) {
            self.due.remove(&(open.due_at, order));
        }
    }

    /// Up to `max` operations to ask now. Each comes again later unless the log moves on.
    pub fn take_due(&mut self, now: Millis, max: usize) -> Vec<(Call, How)> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some((due_at, order)) = self.due.first().copied()
            && due_at <= now
        {
            self.due.remove(&(due_at, order));
            let Some(open) = self.open.get_mut(&order) else { continue };
            open.tries += 1;
            taken.push((open.call.clone(), open.how(now)));
        }
        taken
    }

    /// Whether the log would learn something from an answer: that the buyer has a step to take is told once.
    #[must_use]
    pub fn is_news(&self, outcome: &PaymentOutcome) -> bool {
        let known = self.open.get(&outcome.order_id);
        outcome.result != ProviderResult::NeedsAction
            || known.is_none_or(|open| open.waits == Waits::ForTheProvider)
    }

    /// Nobody knows what became of it: ask again, later and later, with the same key.
    pub fn retry(&mut self, call: &Call, now: Millis) {
        let tries = self.open.get(&call.order_id).map_or(0, |open| open.tries.min(16));
        let pause = Millis((RETRY_PAUSE_MIN.0 << tries.saturating_sub(1)).min(RETRY_PAUSE_MAX.0));
        self.ask_again(call, now.after(pause));
    }

    /// The outcome comes by webhook; ask what became of it if it does not: webhooks get lost.
    pub fn await_webhook(&mut self, call: &Call, now: Millis) {
        if let Some(open) = self.open.get_mut(&call.order_id)
            && call.is_same_operation(&open.call)
        {
            open.is_taken = true;
        }
        self.ask_again(call, now.after(WEBHOOK_PAUSE));
    }

    /// The outcome is appended; the log will show it.
    pub fn await_log(&mut self, call: &Call, now: Millis) {
        self.ask_again(call, now.after(LOG_PAUSE));
    }

    fn ask_again(&mut self, call: &Call, at: Millis) {
        if let Some(open) = self.open.get_mut(&call.order_id)
            && call.is_same_operation(&open.call)
        {
            self.due.remove(&(open.due_at, call.order_id));
            open.due_at = at;
            self.due.insert((at, call.order_id));
        }
    }

    /// When the next operation is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Operations that are not settled in the log.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
