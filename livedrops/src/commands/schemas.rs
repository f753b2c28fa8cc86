//! Schemas: compatible with each other, and known to the registry.

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use schemas::avro::RELEASED;

use super::{block_on, print};
use crate::config::Config;
use crate::failure::Failure;
use crate::log_handle::{open_registry, register_schemas};

#[derive(clap::Args)]
pub(crate) struct Schemas {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Check that every version reads every other of its subject.
    Check,
    /// Register every version under `FULL_TRANSITIVE`.
    Register,
}

impl Schemas {
    pub(crate) fn run(self, config: &Config) -> Result<(), Failure> {
        match self.what {
            What::Check => check(),
            What::Register => block_on(async {
                register_schemas(&open_registry(config)?).await?;
                RELEASED.iter().for_each(|schema| {
                    print(&format!("{} v{}  registered", schema.subject, schema.version));
                });
                Ok(())
            }),
        }
    }
}

fn check() -> Result<(), Failure> {
    for one in RELEASED {
        let parse = |text| Schema::parse_str(text).map_err(Failure::check);
        for other in RELEASED.iter().filter(|other| other.subject == one.subject) {
            SchemaCompatibility::mutual_read(&parse(one.text)?, &parse(other.text)?).map_err(
                |error| {
                    Failure::check(format!(
                        "{} v{} and v{}: {error}",
                        one.subject, one.version, other.version
                    ))
                },
            )?;
        }
        print(&format!("{} v{}  compatible with every version", one.subject, one.version));
    }
    Ok(())
}
