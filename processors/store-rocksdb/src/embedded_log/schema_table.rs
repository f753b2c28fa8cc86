//! The embedded log's own table of schema ids, in place of a registry.

use rocksdb::{IteratorMode, WriteBatch};
use runtime::{RegistryError, SchemaRegistry};

use super::EmbeddedLog;

fn schema_key(id: u32) -> Vec<u8> {
    [b"s".as_slice(), &id.to_be_bytes()].concat()
}

impl EmbeddedLog {
    fn schemas(&self) -> Result<Vec<(u32, String, String)>, RegistryError> {
        let away = |error: &dyn std::fmt::Display| RegistryError::Unreachable(error.to_string());
        let mut schemas = Vec::new();
        let from = schema_key(0);
        let forward = IteratorMode::From(&from, rocksdb::Direction::Forward);
        for item in self.inner.db.iterator(forward) {
            let (key, value) = item.map_err(|error| away(&error))?;
            let Some(id) = key.strip_prefix(b"s").and_then(|id| id.try_into().ok()) else { break };
            let (subject, text): (String, String) =
                serde_json::from_slice(&value).map_err(|error| away(&error))?;
            schemas.push((u32::from_be_bytes(id), subject, text));
        }
        Ok(schemas)
    }

    /// Gives a schema an id, or finds the one it has.
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn register_schema(&self, subject: &str, text: &str) -> Result<u32, RegistryError> {
        let schemas = self.schemas()?;
        let known = schemas.iter().find(|(_, of, known)| of == subject && known == text);
        if let Some((id, ..)) = known {
            return Ok(*id);
        }
        let id = schemas.last().map_or(1, |(last, ..)| last + 1);
        let value = serde_json::to_vec(&(subject, text)).unwrap_or_default();
        let mut batch = WriteBatch::default();
        batch.put(schema_key(id), value);
        self.inner.write(batch, true).map_err(RegistryError::Unreachable)?;
        Ok(id)
    }
}

impl SchemaRegistry for EmbeddedLog {
    fn id_of(&self, subject: &str, text: &str) -> Result<u32, RegistryError> {
        let schemas = self.schemas()?;
        let known = schemas.iter().find(|(_, of, known)| of == subject && known == text);
        known.map(|(id, ..)| *id).ok_or_else(|| RegistryError::NotRegistered(subject.to_owned()))
    }

    fn text_of(&self, id: u32) -> Result<Option<String>, RegistryError> {
        Ok(self.schemas()?.into_iter().find(|(known, ..)| *known == id).map(|(.., text)| text))
    }
}
