//! Placing orders.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use schemas::ids::{DropId, Hash, IntentId, OrderId, VariantId};
use schemas::limits::{LINES_MAX, PAYMENT_METHOD_CHARACTERS_MAX, QUANTITY_MAX};
use schemas::order::{IfSoldOut, OrderIntent, OrderIntentKind, OrderLine, PlaceOrder};
use schemas::units::{Millis, Money};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::AppState;
use crate::auth::Caller;
use crate::body::{StrictJson, idempotency_key, text_fault};
use crate::problem::{FieldError, Problem};
use crate::views::{OrderView, now};
use crate::waiting::{answer_order, pending_order, take, too_early};

/// Ingest refuses an order by itself only if the drop opens later than this.
const EARLY_MS: Millis = Millis(2_000);

/// One line of an order request.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LineRequest {
    #[schema(value_type = String, format = Uuid)]
    variant_id: String,
    qty: i64,
}

/// `{dropId, qty, paymentMethodId}` or `{dropId, lines: [{variantId, qty}], …}`.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OrderRequest {
    drop_id: Option<String>,
    qty: Option<i64>,
    lines: Option<Vec<LineRequest>>,
    payment_method_id: Option<String>,
    #[serde(default)]
    #[schema(value_type = String)]
    if_sold_out: IfSoldOut,
    #[schema(value_type = Object)]
    expected_total: Option<Money>,
}

/// Places an order.
#[utoipa::path(post, path = "/orders", request_body = OrderRequest, responses(
    (status = 201, description = "decided: reserved or confirmed", body = OrderView),
    (status = 200, description = "decided before under this key", body = OrderView),
    (status = 202, description = "durable, not decided yet"),
    (status = 400, description = "malformed"), (status = 401, description = "who are you"),
    (status = 409, description = "refused"), (status = 413, description = "too large"),
    (status = 415, description = "not JSON"), (status = 422, description = "key reused"),
    (status = 503, description = "nothing was written"), (status = 504, description = "outcome unknown")))]
pub(crate) async fn place(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    StrictJson(request): StrictJson<OrderRequest>,
) -> Result<Response, Problem> {
    let drop = request
        .drop_id
        .as_deref()
        .ok_or_else(|| Problem::field("dropId", "is required"))
        .and_then(|text| parse_id("dropId", text))?;
    place_order(&state, &caller, &headers, drop, &request).await
}

/// Places an order in the drop the path names.
#[utoipa::path(post, path = "/drops/{id}/orders", request_body = OrderRequest, responses(
    (status = 201, description = "as for /orders", body = OrderView)))]
pub(crate) async fn place_in_drop(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
    StrictJson(request): StrictJson<OrderRequest>,
) -> Result<Response, Problem> {
    let drop: DropId =
        drop.parse().map_err(|_| Problem::not_found("unknown_drop", "there is no such drop"))?;
    if let Some(other) = &request.drop_id
        && parse_id::<DropId>("dropId", other)? != drop
    {
        return Err(Problem::field("dropId", "is not the drop of the path"));
    }
    place_order(&state, &caller, &headers, drop, &request).await
}

fn parse_id<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::field(field, "is not a UUID"))
}

/// Lines summed per variant, in variant order: what the request means, whatever its spelling.
fn summed_lines(drop: DropId, request: &OrderRequest) -> Result<Vec<OrderLine>, Problem> {
    let mut errors = Vec::new();
    let mut fault = |field: String, message: &str| {
        errors.push(FieldError { field, message: message.to_owned() });
    };
    let mut sums: BTreeMap<VariantId, i64> = BTreeMap::new();
    let quantity = "must be a whole number from 1 to 1,000";
    match (&request.qty, &request.lines) {
        (Some(_), Some(_)) => fault("lines".into(), "send `qty` or `lines`, not both"),
        (None, None) => fault("qty".into(), "send `qty` or `lines`"),
        (Some(qty), None) if !(1..=QUANTITY_MAX).contains(qty) => fault("qty".into(), quantity),
        (Some(qty), None) => {
            sums.insert(drop.plain_variant(), *qty);
        }
        (None, Some(lines)) if lines.is_empty() || lines.len() > LINES_MAX => {
            fault("lines".into(), "must have 1 to 8 entries");
        }
        (None, Some(lines)) => {
            for (index, line) in lines.iter().enumerate() {
                if !(1..=QUANTITY_MAX).contains(&line.qty) {
                    fault(format!("lines[{index}].qty"), quantity);
                }
                match line.variant_id.parse() {
                    Ok(variant) => *sums.entry(variant).or_default() += line.qty,
                    Err(_) => fault(format!("lines[{index}].variantId"), "is not a UUID"),
                }
            }
        }
    }
    if let Some(why) = request.payment_method_id.as_deref().and_then(payment_method_fault) {
        fault("paymentMethodId".into(), &why);
    }
    if let Some(total) = &request.expected_total
        && (total.amount.0 < 0 || total.currency.len() != 3)
    {
        fault("expectedTotal".into(), "must be minor units and a three-letter currency");
    }
    if !errors.is_empty() {
        return Err(Problem::fields(errors));
    }
    let lines = sums.into_iter().map(|(variant_id, qty)| OrderLine {
        variant_id,
        qty: i32::try_from(qty).unwrap_or(i32::MAX),
    });
    Ok(lines.collect())
}

/// Covers meaning: not the route, not the member order.
fn request_hash(drop: DropId, lines: &[OrderLine], request: &OrderRequest) -> Hash {
    let lines: Vec<u8> = lines
        .iter()
        .flat_map(|line| [&line.variant_id.0[..], &line.qty.to_be_bytes()].concat())
        .collect();
    let optional =
        |text: Option<&str>| text.map_or_else(Vec::new, |text| [b"=", text.as_bytes()].concat());
    let (amount, currency) = match &request.expected_total {
        None => (Vec::new(), Vec::new()),
        Some(total) => (total.amount.0.to_be_bytes().to_vec(), total.currency.as_bytes().to_vec()),
    };
    let payment = optional(request.payment_method_id.as_deref());
    let if_sold_out = [u8::from(request.if_sold_out == IfSoldOut::Waitlist)];
    Hash::of(&[&drop.0, &lines, &payment, &if_sold_out, &amount, &currency])
}

async fn place_order(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    drop: DropId,
    request: &OrderRequest,
) -> Result<Response, Problem> {
    let key = idempotency_key(headers)?;
    let lines = summed_lines(drop, request)?;
    let order_id = OrderId::derive(drop, caller.user, &key);
    if let Some(opens_at) = state.window.opens_at(drop)
        && opens_at > now().after(EARLY_MS)
    {
        return Err(too_early(order_id, opens_at));
    }
    let place = PlaceOrder {
        order_id,
        request_hash: request_hash(drop, &lines, request),
        lines: lines.into(),
        payment_method: request.payment_method_id.clone(),
        if_sold_out: request.if_sold_out,
        expected_total: request.expected_total.as_ref().map(|total| total.amount),
        expected_currency: request.expected_total.as_ref().map(|total| total.currency.clone()),
    };
    let intent = OrderIntent {
        actor: Some(caller.user),
        drop_id: Some(drop),
        place: Some(place),
        ..OrderIntent::bare(new_intent_id(), OrderIntentKind::Place, now())
    };
    let partition = drop.partition(state.intake.partitions());
    let taken = take(state, headers, partition, drop.0, intent).await?;
    match &taken.decided {
        Some(decided) => answer_order(state, &taken, decided, true),
        None => Ok(pending_order(order_id, Some(drop.to_string()), taken.position)),
    }
}

pub(crate) fn new_intent_id() -> IntentId {
    platform::clock::random_uuid().into()
}

/// What is wrong with an opaque reference to a payment method.
pub(crate) fn payment_method_fault(id: &str) -> Option<String> {
    text_fault(id, PAYMENT_METHOD_CHARACTERS_MAX)
}
