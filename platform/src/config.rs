//! Configuration: `livedrops.toml`, then `LIVEDROPS_…` variables, then flags.

use std::collections::BTreeMap;
use std::path::Path;

/// Settings as dotted names and text, from every source merged; the caller gives them types.
#[derive(Clone, Debug, Default)]
pub struct Settings(BTreeMap<String, String>);

/// A setting that cannot be used: exit code 2.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ConfigError {
    /// Dotted name of the setting.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl ConfigError {
    /// Names the setting and what is wrong with it.
    pub fn new(field: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self { field: field.into(), message: message.to_string() }
    }
}

impl Settings {
    /// Reads `file`, if it is there, then the process's variables. Names that are not in `known` are errors: a
    /// misspelt setting must not be a silent default.
    ///
    /// # Errors
    /// [`ConfigError`] names the file or the setting.
    pub fn load(
        file: &Path,
        variables: impl Iterator<Item = (String, String)>,
        known: &[&str],
    ) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        if file.exists() {
            let name = file.display().to_string();
            let text =
                std::fs::read_to_string(file).map_err(|error| ConfigError::new(&name, error))?;
            let table: toml::Table =
                toml::from_str(&text).map_err(|error| ConfigError::new(&name, error.message()))?;
            flatten("", &toml::Value::Table(table), &mut values);
        }
        for (name, value) in variables {
            if let Some(rest) = name.strip_prefix("LIVEDROPS_") {
                values.insert(rest.to_lowercase().replace("__", "."), value);
            }
        }
        match values.keys().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(ConfigError::new(unknown, "no such setting")),
            None => Ok(Self(values)),
        }
    }

    /// Overrides a setting, as a flag does.
    pub fn set(&mut self, name: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    /// The text of a setting.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A setting's value, or `default`.
    ///
    /// # Errors
    /// Where the text is not of the type.
    pub fn parsed<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, ConfigError>
    where
        T::Err: std::fmt::Display,
    {
        let parse = |text: &str| {
            text.parse().map_err(|error| ConfigError::new(name, format!("`{text}`: {error}")))
        };
        self.get(name).map_or(Ok(default), parse)
    }
}

fn flatten(prefix: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, into);
            }
        }
        toml::Value::Array(items) => {
            let items: Vec<_> = items.iter().map(text_of).collect();
            into.insert(prefix.to_owned(), items.join(","));
        }
        scalar => {
            into.insert(prefix.to_owned(), text_of(scalar));
        }
    }
}

fn text_of(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["kafka.brokers", "auth.public_keys", "partitions"];

    fn variables(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
        let owned: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        owned.into_iter()
    }

    #[test]
    fn variables_override_the_file_and_flags_override_both() {
        let folder = std::env::temp_dir().join(format!("livedrops-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("livedrops.toml");
        std::fs::write(&file, "partitions = 3\n[kafka]\nbrokers = ['a:1', 'b:2']\n").unwrap();
        let mut settings = Settings::load(
            &file,
            variables(&[("LIVEDROPS_PARTITIONS", "4"), ("HOME", "x")]),
            &KNOWN,
        )
        .unwrap();
        assert_eq!(settings.get("kafka.brokers"), Some("a:1,b:2"));
        assert_eq!(settings.parsed("partitions", 12_u16), Ok(4));
        settings.set("partitions", Some("five"));
        assert_eq!(settings.parsed("partitions", 12_u16).unwrap_err().field, "partitions");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let none = Path::new("/nonexistent/livedrops.toml");
        let error = Settings::load(none, variables(&[("LIVEDROPS_KAFKA__BROKER", "a:1")]), &KNOWN)
            .unwrap_err();
        assert_eq!(error.field, "kafka.broker");
    }
}
