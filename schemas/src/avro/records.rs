//! The fields of every record, in the order of the schema.

use crate::decision::{Decision, DecisionHeader, Genesis, OwnerStarted, PinnedSchema, Undecodable};
use crate::follow::{CreatorRow, FollowBody, FollowChange, FollowIntent, FollowRow};
use crate::order::{
    ArchivedRows, BuyerRow, CommandRow, ContinuationRow, CreatorCommand, DropEvent, DropRow,
    EditDrop, MissingUnits, OrderBody, OrderChange, OrderIntent, OrderLine, OrderRow, OrderRowLine,
    PayOrder, PaymentOutcome, PaymentRow, PlaceOrder, PriceChange, ProviderOperation, RefundOrder,
    RefundPlan, Refusal, ScheduleDrop, StockChange, StockRow, VariantRow, VariantSpec,
    WaitingEntry,
};

use super::AvroError;
use super::datum::{Datum, Reader};
use super::declarations::records;

records! {
    DecisionHeader {
        seq, epoch, intent_offset, next_intent_offset, intent_id, correlation_id, log_time, decided_at,
        logic_version,
    }
    Genesis { log_id, partition, partition_count, format }
    PinnedSchema { id, fingerprint }
    OwnerStarted { build, schemas }
    Undecodable { error, length }
    Decision<B> { header, outcome, genesis, owner_started, undecodable, body, chain }
    OrderBody {
        refusal, answer, orders, drops, stocks, buyers, events, commands, continuations, finished, archived,
        activated,
    }
    CommandRow { key, drop_id, request_hash }
    ContinuationRow { id, kind, drop_id, cursor }
    ArchivedRows { drop_id, orders, buyers, variants, commands }
    VariantRow { variant_id, name, price, initial_stock }
    DropRow {
        drop_id, creator_id, product_id, title, status, starts_at, ends_at, time_zone, currency, variants,
        limit_per_user, hold_seconds, low_stock_threshold, payment_required, schedule_key, request_hash,
        version, created_at, opened_at, ended_at, offer_seconds, waitlist, payment_attempts, archive_at,
    }
    StockRow { drop_id, variant_id, initial, available, reserved, sold, restocked, withdrawn }
    BuyerRow { drop_id, user_id, held, sold, held_orders, waiting, entries }
    WaitingEntry { variant_id, order_id }
    DropEvent { kind, drop_id }
    OrderLine { variant_id, qty }
    PlaceOrder { order_id, request_hash, lines, payment_method, if_sold_out, expected_total, expected_currency }
    OrderChange { order_id }
    CreatorCommand { creator_ids, admin }
    VariantSpec { variant_id, name, stock, price }
    ScheduleDrop {
        creator_id, schedule_key, request_hash, product_id, title, starts_at, ends_at, time_zone, currency,
        variants, limit_per_user, hold_seconds, low_stock_threshold, payment_required, offer_seconds, waitlist,
        payment_attempts,
    }
    PayOrder { order_id, payment_method }
    PaymentOutcome { order_id, attempt, operation, result, captured, amount, currency, detail, reference }
    StockChange { variant_id, qty, key, request_hash }
    RefundOrder { order_id, restock, key }
    PriceChange { variant_id, price }
    EditDrop { title, starts_at, ends_at, time_zone, limit_per_user, hold_seconds, low_stock_threshold, prices }
    OrderIntent {
        intent_id, correlation_id, kind, actor, sent_at, drop_id, place, order_change, creator_command,
        schedule, payment, payment_outcome, stock_change, refund, edit, activate,
    }
    PaymentRow { attempt, method, state, detail, reference }
    ProviderOperation { attempt, kind }
    RefundPlan { restock }
    OrderRowLine { variant_id, qty, unit_price }
    MissingUnits { variant_id, available }
    OrderRow {
        order_id, drop_id, user_id, status, reason, lines, product_id, currency, total, payment_method,
        request_hash, version, created_at, decided_at, hold_expires_at, intent_offset, missing, held_order_id,
        payments, operation, offer_expires_at, offer_left_ms, from_waitlist, extended, refund,
    }
    Refusal { reason, order_id, user_id, opens_at, drop_status }
    FollowChange { creator_id, user_id }
    FollowIntent { intent_id, correlation_id, kind, actor, sent_at, follow_change }
    FollowRow { creator_id, user_id, following, since }
    CreatorRow { creator_id, followers }
    FollowBody { follows, creators }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{RELEASED, collect_named, current};
    use super::RECORDS;

    /// Fields of one type that change places here are written and read back all the same, but not by anybody else.
    #[test]
    fn the_fields_of_every_record_stand_as_in_its_schema() {
        let mut due = BTreeMap::new();
        for subject in RELEASED.map(|schema| schema.subject) {
            let mut named = serde_json::Map::new();
            let schema = serde_json::from_str(current(subject).unwrap().text).unwrap();
            collect_named(&schema, &mut named);
            for (name, record) in named.into_iter().filter(|(_, node)| node["type"] == "record") {
                let fields = record["fields"].as_array().unwrap().iter();
                let fields: Vec<_> =
                    fields.map(|field| field["name"].as_str().unwrap().to_owned()).collect();
                let name = if name.ends_with("Decision") { "Decision".to_owned() } else { name };
                let before = due.insert(name, fields.clone());
                assert!(before.is_none_or(|before| before == fields), "one name, two records");
            }
        }
        let ours = RECORDS.iter().map(|(name, fields)| {
            ((*name).to_owned(), fields.iter().map(|field| (*field).to_owned()).collect())
        });
        assert_eq!(ours.collect::<BTreeMap<String, Vec<String>>>(), due);
    }
}
