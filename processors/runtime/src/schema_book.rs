//! Schema ids: which we write, how any record is read, and when an unknown id is poison.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use schemas::avro::{self, Codec};
use schemas::decision::{PinnedSchema, schema_fingerprint};
use schemas::ids::Hash;

/// Why a registry gave no schema.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answers; try again.
    #[error("the schema registry is unreachable: {0}")]
    Unreachable(String),
    /// The current schema of a subject is not registered: `livedrops schemas register` does it.
    #[error("the schema of {0} is not registered; run `livedrops schemas register`")]
    NotRegistered(String),
}

/// Where schema ids come from: a registry over HTTP, or the embedded log's own table.
pub trait SchemaRegistry: Send + Sync {
    /// Id of a schema that was registered before. Clients never register.
    ///
    /// # Errors
    /// [`RegistryError`].
    fn id_of(&self, subject: &str, text: &str) -> Result<u32, RegistryError>;

    /// Text of the schema with this id; `None` where a registry that answers has no such id.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`].
    fn text_of(&self, id: u32) -> Result<Option<String>, RegistryError>;
}

/// What to do about a record whose schema cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaProblem {
    /// No waiting will help: the id is of another record type, or of nothing in a healthy registry.
    #[error("{0}")]
    Poison(String),
    /// The registry is away or has forgotten ids we pinned: wait, losing nothing.
    #[error("{0}")]
    Stall(String),
}

/// Codecs by id, for one process. Ids never change their meaning, so they are kept for ever.
pub struct SchemaBook {
    registry: Arc<dyn SchemaRegistry>,
    pinned: Vec<Pinned>,
    others: Mutex<FxHashMap<u32, Arc<Codec>>>,
}

/// The schema this build writes a subject with. Nearly every record is read with it, so its codec is at hand.
struct Pinned {
    id: u32,
    subject: &'static str,
    fingerprint: Hash,
    codec: Arc<Codec>,
}

impl std::fmt::Debug for SchemaBook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SchemaBook").field("pins", &self.pins()).finish_non_exhaustive()
    }
}

impl SchemaBook {
    /// Looks up the ids of every schema this build writes.
    ///
    /// # Errors
    /// Where the registry is away or lacks one of them.
    pub fn open(registry: Arc<dyn SchemaRegistry>) -> Result<Self, RegistryError> {
        let mut pinned = Vec::new();
        for topic in schemas::topics::ALL {
            let schema = avro::current(topic.subject)
                .ok_or_else(|| RegistryError::NotRegistered(topic.subject.to_owned()))?;
            let id = registry.id_of(schema.subject, schema.text)?;
            let codec = Codec::parse(schema.text)
                .map_err(|_| RegistryError::NotRegistered(topic.subject.to_owned()))?;
            let (subject, fingerprint) = (topic.subject, schema_fingerprint(schema.text));
            pinned.push(Pinned { id, subject, fingerprint, codec: Arc::new(codec) });
        }
        Ok(Self { registry, pinned, others: Mutex::default() })
    }

    /// Id under which this build writes records of `subject`.
    ///
    /// # Panics
    /// For a subject of no topic.
    #[must_use]
    pub fn write_id(&self, subject: &str) -> u32 {
        self.pinned(subject).id
    }

    fn pinned(&self, subject: &str) -> &Pinned {
        let known = self.pinned.iter().find(|pinned| pinned.subject == subject);
        known.expect("every topic's subject is pinned")
    }

    /// What `owner_started` records.
    #[must_use]
    pub fn pins(&self) -> Vec<PinnedSchema> {
        let pin = |pinned: &Pinned| PinnedSchema {
            id: pinned.id.cast_signed(),
            fingerprint: pinned.fingerprint,
        };
        self.pinned.iter().map(pin).collect()
    }

    /// The codec of a record written with schema `id`, which must be of the record type of `subject`.
    ///
    /// # Errors
    /// [`SchemaProblem`] says whether the record is poison or the reader has to wait.
    pub fn codec(&self, id: u32, subject: &str) -> Result<Arc<Codec>, SchemaProblem> {
        // Nearly every record is of this build's version, and a number is compared faster than a name.
        let is_current = |pinned: &&Pinned| pinned.id == id && pinned.subject == subject;
        if let Some(pinned) = self.pinned.iter().find(is_current) {
            return Ok(pinned.codec.clone());
        }
        let pinned = self.pinned(subject);
        let known = self.others.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        let codec = match known {
            Some(codec) => codec,
            None => self.fetch(id)?,
        };
        let expected = pinned.codec.name();
        if codec.name() == expected {
            Ok(codec)
        } else {
            Err(SchemaProblem::Poison(format!(
                "schema {id} is of {}, not {expected}",
                codec.name()
            )))
        }
    }

    fn fetch(&self, id: u32) -> Result<Arc<Codec>, SchemaProblem> {
        let stall = |error: RegistryError| SchemaProblem::Stall(format!("schema {id}: {error}"));
        let Some(text) = self.registry.text_of(id).map_err(stall)? else {
            return Err(self.judge_unknown(id));
        };
        let codec = Codec::parse(&text).map_err(|error| {
            SchemaProblem::Poison(format!("schema {id} cannot be used: {error}"))
        })?;
        let codec = Arc::new(codec);
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.insert(id, codec.clone());
        Ok(codec)
    }

    /// An unknown id is the record's fault only while the registry still knows the ids we rely on; a
    /// registry that came back empty would turn every record of a newer producer into poison.
    fn judge_unknown(&self, id: u32) -> SchemaProblem {
        for Pinned { id: pinned, subject, .. } in &self.pinned {
            match self.registry.text_of(*pinned) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    return SchemaProblem::Stall(format!(
                        "schema {id} is unknown, but so is {pinned} of {subject}: the registry has lost \
                         its schemas"
                    ));
                }
                Err(error) => return SchemaProblem::Stall(format!("schema {id}: {error}")),
            }
        }
        SchemaProblem::Poison(format!("schema id {id} is unknown to the registry"))
    }
}
