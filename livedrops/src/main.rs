//! `livedrops`: every role of Live Drops in one program. Wiring only; the rules live elsewhere.

mod archive;
mod commands;

mod config;
mod failure;
mod log_handle;

mod node;
mod owners;
mod payments;
mod proof;

mod serving;
mod tails;
mod views;

use clap::{Parser, Subcommand};
use failure::Failure;

/// One heap for Rust, librdkafka and `RocksDB`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(
    name = "livedrops",
    version,
    about = "Limited stock at a set instant: nothing oversold, nothing lost"
)]
struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, default_value = "livedrops.toml")]
    config: std::path::PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One live drop through the whole pipeline over real HTTP, then a verified report.
    Demo(commands::demo::Demo),
    /// Every role in one process.
    All(commands::all::All),
    /// The HTTP interface alone.
    IngestApi(commands::all::IngestApi),
    /// One processor alone.
    Processor(commands::all::ProcessorRole),
    /// Prove I1-I3 from the log; compare stores, Postgres and `ClickHouse` with it.
    Audit(commands::audit::Audit),
    /// Let partitions go on with the rules of this build, after an upgrade.
    Activate(commands::activate::Activate),
    /// Intents that could not be read.
    DeadLetters(commands::dead_letters::DeadLetters),
    /// A payment provider of our own, for development, demos and tests.
    Provider(commands::provider::Provider),
    /// A burst, a rate or busy connections, with a latency report.
    Load(commands::load::Load),
    /// Topics on the broker.
    Topics(commands::topics::Topics),
    /// Schemas in the registry.
    Schemas(commands::schemas::Schemas),
    /// Mint a token for development.
    Token(commands::keys::Token),
    /// Write a key pair.
    Keys(commands::keys::Keys),
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit_code()
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let config = config::Config::load(&arguments.config)?;
    match arguments.command {
        Command::Demo(demo) => demo.run(config),
        Command::All(all) => all.run(config),
        Command::IngestApi(role) => role.run(config),
        Command::Processor(role) => role.run(config),
        Command::Audit(audit) => audit.run(config),
        Command::Activate(activate) => activate.run(config),
        Command::DeadLetters(command) => command.run(config),
        Command::Provider(provider) => provider.run(),
        Command::Load(load) => load.run(&config),
        Command::Topics(topics) => topics.run(config),
        Command::Schemas(schemas) => schemas.run(&config),
        Command::Token(token) => token.run(&config),
        Command::Keys(keys) => keys.run(),
    }
}
