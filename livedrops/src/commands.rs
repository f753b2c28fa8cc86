//! One file per command.

pub(crate) mod activate;
pub(crate) mod all;
pub(crate) mod audit;
pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod provider;
pub(crate) mod schemas;
pub(crate) mod topics;

use crate::failure::Failure;

/// Runs a command's asynchronous part.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::unreachable)?
        .block_on(future)
}

/// Prints a command's result on standard output.
#[allow(clippy::print_stdout, reason = "a command line tool prints its results")]
fn print(line: &str) {
    use std::io::Write as _;
    // A closed pipe (`| head`) ends the output, not the command.
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// One socket per buyer needs more open files than the usual 1,024.
pub(crate) fn raise_open_files() {
    if let Ok((soft, hard)) = rlimit::Resource::NOFILE.get()
        && soft < hard
        && let Err(error) = rlimit::Resource::NOFILE.set(hard, hard)
    {
        tracing::warn!(%error, "the limit of open files stays at {soft}");
    }
}
