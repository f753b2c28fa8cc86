//! Avro text and codecs: which versions exist, which one we write, and how any of them is read.

mod datum;
mod declarations;
mod records;

use std::fmt;
use std::sync::LazyLock;

use serde_avro_fast::ser::SerializerConfig;
use serde_json::Value;

pub(crate) use datum::write_text;
pub use datum::{Datum, Reader};
pub(crate) use declarations::{words, wrappers};

use crate::topics::{FOLLOW_DECISIONS, FOLLOW_INTENTS, ORDER_DECISIONS, ORDER_INTENTS};

/// A released version of a topic's record type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchemaVersion {
    /// Registry subject.
    pub subject: &'static str,
    /// From 1; the greatest of a subject is the one written.
    pub version: u32,
    /// The `.avsc` text.
    pub text: &'static str,
}

/// Every version ever released, oldest first per subject.
pub const RELEASED: [SchemaVersion; 8] = [
    SchemaVersion {
        subject: ORDER_INTENTS.subject,
        version: 1,
        text: include_str!("../avro/order_intent.v1.avsc"),
    },
    SchemaVersion {
        subject: ORDER_DECISIONS.subject,
        version: 1,
        text: include_str!("../avro/order_decision.v1.avsc"),
    },
    SchemaVersion {
        subject: ORDER_INTENTS.subject,
        version: 2,
        text: include_str!("../avro/order_intent.v2.avsc"),
    },
    SchemaVersion {
        subject: ORDER_DECISIONS.subject,
        version: 2,
        text: include_str!("../avro/order_decision.v2.avsc"),
    },
    SchemaVersion {
        subject: ORDER_INTENTS.subject,
        version: 3,
        text: include_str!("../avro/order_intent.v3.avsc"),
    },
    SchemaVersion {
        subject: ORDER_DECISIONS.subject,
        version: 3,
        text: include_str!("../avro/order_decision.v3.avsc"),
    },
    SchemaVersion {
        subject: FOLLOW_INTENTS.subject,
        version: 1,
        text: include_str!("../avro/follow_intent.v1.avsc"),
    },
    SchemaVersion {
        subject: FOLLOW_DECISIONS.subject,
        version: 1,
        text: include_str!("../avro/follow_decision.v1.avsc"),
    },
];

/// The version of `subject` that this build writes.
#[must_use]
pub fn current(subject: &str) -> Option<SchemaVersion> {
    RELEASED
        .into_iter()
        .filter(|schema| schema.subject == subject)
        .max_by_key(|schema| schema.version)
}

/// More than the longest word of any enumeration.
const WORD_SHOWN_MAX: usize = 64;

/// Bytes that are not the record they should be, or a schema that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct AvroError(String);

impl AvroError {
    /// An error with its text.
    pub fn new(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }

    /// Shows the beginning of the word: it may be anything, of any length.
    #[cold]
    pub(crate) fn unknown_word(enumeration: &str, word: &[u8]) -> Self {
        let shown = &word[..word.len().min(WORD_SHOWN_MAX)];
        Self(format!("`{}` is no {enumeration}", shown.escape_ascii()))
    }
}

/// A parsed schema that encodes and decodes our record types.
pub struct Codec {
    schema: serde_avro_fast::Schema,
    name: String,
    /// Whether the schema is the one that this build's types follow field by field, so that it need not be asked.
    is_current: bool,
}

impl fmt::Debug for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Codec").field(&self.name).finish()
    }
}

impl Codec {
    /// Parses a schema.
    ///
    /// # Errors
    /// Where the text is not an Avro schema.
    pub fn parse(text: &str) -> Result<Self, AvroError> {
        let name = serde_json::from_str::<Value>(text)
            .ok()
            .and_then(|schema| schema.get("name").and_then(Value::as_str).map(str::to_owned))
            .unwrap_or_default();
        let latest = |known: SchemaVersion| current(known.subject).map(|schema| schema.text);
        let is_current = RELEASED.into_iter().filter_map(latest).any(|known| known == text);
        text.parse().map(|schema| Self { schema, name, is_current }).map_err(AvroError::new)
    }

    /// The record's name, without its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the bytes follow from this build's types alone.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// Appends the datum of `value` to `buffer`.
    ///
    /// # Panics
    /// Where `value` does not fit the schema: a mistake in this crate that its round-trip test finds.
    pub fn encode<T: Datum>(&self, value: &T, buffer: &mut Vec<u8>) {
        if self.is_current {
            return value.write(buffer);
        }
        let start = std::mem::take(buffer);
        *buffer = serde_avro_fast::to_datum(value, start, &mut SerializerConfig::new(&self.schema))
            .expect("the record types match the released schemas");
    }

    /// Reads a datum written with this schema.
    ///
    /// # Errors
    /// Where the bytes are not such a datum.
    pub fn decode<T: Datum>(&self, datum: &[u8]) -> Result<T, AvroError> {
        if self.is_current {
            return T::read(&mut Reader::new(datum));
        }
        serde_avro_fast::from_datum_slice(datum, &self.schema).map_err(AvroError::new)
    }

    /// The same codec, asking the schema about every field: what the fast way is held against.
    #[must_use]
    pub fn by_schema(self) -> Self {
        Self { is_current: false, ..self }
    }
}

fn current_codec(subject: &str) -> Codec {
    let schema = current(subject).expect("every topic's subject has a released schema");
    Codec::parse(schema.text).expect("released schemas parse")
}

/// Codec of the current `OrderIntent`.
pub static ORDER_INTENT: LazyLock<Codec> = LazyLock::new(|| current_codec(ORDER_INTENTS.subject));
/// Codec of the current `OrderDecision`.
pub static ORDER_DECISION: LazyLock<Codec> =
    LazyLock::new(|| current_codec(ORDER_DECISIONS.subject));
/// Codec of the current `FollowIntent`.
pub static FOLLOW_INTENT: LazyLock<Codec> = LazyLock::new(|| current_codec(FOLLOW_INTENTS.subject));
/// Codec of the current `FollowDecision`.
pub static FOLLOW_DECISION: LazyLock<Codec> =
    LazyLock::new(|| current_codec(FOLLOW_DECISIONS.subject));

/// Codec of a record type nested in a released schema, for store rows.
///
/// # Panics
/// Where the schema has no such record: a mistake that the first test of a processor finds.
#[must_use]
pub fn row_codec(subject: &str, record_name: &str) -> Codec {
    let schema = current(subject).expect("every topic's subject has a released schema");
    let root: Value = serde_json::from_str(schema.text).expect("released schemas are JSON");
    let mut named = serde_json::Map::new();
    collect_named(&root, &mut named);
    let record = named.get(record_name).cloned().expect("the schema defines the row's record");
    let text = inline(&record, &named, &mut Vec::new()).to_string();
    let codec = Codec::parse(&text).expect("a record nested in a released schema parses");
    Codec { is_current: true, ..codec }
}

fn collect_named(node: &Value, named: &mut serde_json::Map<String, Value>) {
    match node {
        Value::Object(object) => {
            if let (Some(Value::String(name)), Some(Value::String(kind))) =
                (object.get("name"), object.get("type"))
                && (kind == "record" || kind == "fixed")
            {
                named.insert(name.clone(), node.clone());
            }
            object.values().for_each(|child| collect_named(child, named));
        }
        Value::Array(items) => items.iter().for_each(|child| collect_named(child, named)),
        _ => {}
    }
}

/// Replaces the first reference to each named type by its definition: a schema cut out of its parent must
/// stand alone.
fn inline(
    node: &Value,
    named: &serde_json::Map<String, Value>,
    defined: &mut Vec<String>,
) -> Value {
    match node {
        Value::String(name) => {
            let short = name.strip_prefix("livedrops.").unwrap_or(name);
            match named.get(short) {
                Some(definition) if name.starts_with("livedrops.") => {
                    if defined.iter().any(|seen| seen == short) {
                        Value::String(short.to_owned())
                    } else {
                        inline(definition, named, defined)
                    }
                }
                _ => node.clone(),
            }
        }
        Value::Object(object) => {
            if let (Some(Value::String(name)), Some(Value::String(kind))) =
                (object.get("name"), object.get("type"))
                && (kind == "record" || kind == "fixed")
            {
                if defined.contains(name) {
                    return Value::String(name.clone());
                }
                defined.push(name.clone());
            }
            let children = object.iter().map(|(key, child)| {
                let inlined = match key.as_str() {
                    "type" | "items" | "fields" => inline(child, named, defined),
                    _ => child.clone(),
                };
                (key.clone(), inlined)
            });
            Value::Object(children.collect())
        }
        Value::Array(items) => {
            Value::Array(items.iter().map(|child| inline(child, named, defined)).collect())
        }
        _ => node.clone(),
    }
}
