//! Load: buyers over real sockets, each on a connection of its own, timed with an `HdrHistogram`.
//!
//! A burst sends every order at one instant over connections that are open already and have loaded the drop's page, as
//! those of waiting browsers have, and closes none before the last is answered, as browsers do. A rate sends on a
//! schedule; latency counts from when a request was *due*, so a server that stalls cannot slow the measurement down with
//! itself (coordinated omission, Gil Tene).

mod client;
mod keep_alive;
mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use super::keys::Minter;
use super::{block_on, print};
use crate::config::Config;
use crate::failure::Failure;

use client::{Connection, Reply, Target};
use keep_alive::{Ask, Buyer};
pub(crate) use report::LoadReport;
use report::{Answer, Recorder};

/// Connections opened at once, so that the listen queue never overflows.
const CONNECTING_MAX: usize = 128;
/// How long a buyer waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(crate) struct Load {
    /// `http://host:port` of an API node; several, comma separated, are used in turn.
    #[arg(long)]
    url: String,
    /// The drop to order from.
    #[arg(long)]
    drop: Uuid,
    /// Buyers who all order at once.
    #[arg(long, conflicts_with = "rate", required_unless_present_any = ["rate", "connections"])]
    burst: Option<usize>,
    /// The buyers of a burst have not loaded the drop's page: the API sees their tokens for the first time.
    #[arg(long, requires = "burst")]
    strangers: bool,
    /// Orders per second.
    #[arg(long)]
    rate: Option<u32>,
    /// Connections that each ask again as soon as they are answered.
    #[arg(long, conflicts_with_all = ["rate", "burst"])]
    connections: Option<usize>,
    /// What such a connection asks for.
    #[arg(long, value_enum, default_value = "results")]
    ask: Ask,
    /// Tokens that such a connection uses in turn: with many, most have to be verified.
    #[arg(long, default_value_t = 1)]
    tokens: usize,
    /// Length of a run other than a burst.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// First seconds of a `--rate` run that are not measured.
    #[arg(long, default_value_t = 0)]
    warm_up_seconds: u32,
    /// Wall clock in milliseconds at which a burst starts.
    #[arg(long)]
    at_ms: Option<i64>,
    /// Writes the JSON report here.
    #[arg(long)]
    report: Option<PathBuf>,
    /// First buyer's number: runs with other numbers are other buyers.
    #[arg(long, default_value_t = 0)]
    first_buyer: u32,
}

/// The pseudonym of a numbered buyer.
pub(crate) fn buyer(number: u32) -> Uuid {
    let mut bytes = *b"live-drops-buyer";
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

impl Load {
    pub(crate) fn run(self, config: &Config) -> Result<(), Failure> {
        let minter = Minter::new(&config.signing_key()?)?;
        let targets = self.url.split(',').map(Target::parse).collect::<Result<Vec<_>, _>>()?;
        super::raise_open_files();
        if let Some(connections) = self.connections {
            return self.sustain(&minter, &targets, connections);
        }
        let report = block_on(async {
            match (self.burst, self.rate) {
                (Some(buyers), _) => self.burst(&minter, &targets, buyers).await,
                (None, Some(rate)) => self.rate(&minter, &targets, rate).await,
                (None, None) => {
                    Err(Failure::usage("burst", "or --rate or --connections is required"))
                }
            }
        })?;
        self.write_report(&report)?;
        report.lines().iter().for_each(|line| print(line));
        if report.unanswered > 0 {
            return Err(Failure::check(format!("{} orders were not answered", report.unanswered)));
        }
        Ok(())
    }

    fn sustain(
        &self,
        minter: &Minter,
        targets: &[Target],
        connections: usize,
    ) -> Result<(), Failure> {
        let buyers = (0..connections).map(|index| {
            let tokens = (0..self.tokens.max(1))
                .map(|token| self.token(minter, index + token * connections))
                .collect::<Result<_, _>>()?;
            Ok(Buyer { target: targets[index % targets.len()].clone(), drop: self.drop, tokens })
        });
        let buyers = buyers.collect::<Result<Vec<_>, Failure>>()?;
        let length = Duration::from_secs(u64::from(self.seconds));
        let sustained = block_on(keep_alive::sustain(buyers, self.ask, length))?;
        self.write_report(&sustained)?;
        print(&sustained.line());
        if sustained.failed_by_status.is_empty() {
            return Ok(());
        }
        Err(Failure::check(format!("failed by status: {:?}", sustained.failed_by_status)))
    }

    fn write_report(&self, report: &impl serde::Serialize) -> Result<(), Failure> {
        let Some(path) = &self.report else { return Ok(()) };
        let json = serde_json::to_vec_pretty(report).map_err(Failure::check)?;
        std::fs::write(path, json)
            .map_err(|error| Failure::usage("report", format!("{}: {error}", path.display())))
    }

    fn token(&self, minter: &Minter, index: usize) -> Result<String, Failure> {
        let number = self.first_buyer.saturating_add(u32::try_from(index).unwrap_or(u32::MAX));
        minter.mint(buyer(number), "", Duration::from_hours(1))
    }

    async fn burst(
        &self,
        minter: &Minter,
        targets: &[Target],
        buyers: usize,
    ) -> Result<LoadReport, Failure> {
        let connecting = Arc::new(Semaphore::new(CONNECTING_MAX));
        let mut opening = tokio::task::JoinSet::new();
        for index in 0..buyers {
            let token = self.token(minter, index)?;
            let target = targets[index % targets.len()].clone();
            let (connecting, drop, waits) = (connecting.clone(), self.drop, !self.strangers);
            opening.spawn(async move {
                let _permit = connecting.acquire().await;
                let mut connection = Connection::open(&target).await?;
                if waits {
                    let page = target.page(&format!("/drops/{drop}"), &token);
                    let loaded = tokio::time::timeout(ANSWER_MAX, connection.load(&page)).await;
                    loaded.map_err(|_| Failure::unreachable("the drop's page does not come"))??;
                }
                Ok::<_, Failure>((connection, target.order(drop, &token, "burst", true)))
            });
        }
        let mut ready = Vec::with_capacity(buyers);
        while let Some(opened) = opening.join_next().await {
            ready.push(opened.map_err(Failure::check)??);
        }
        if let Some(at_ms) = self.at_ms {
            let left = at_ms.saturating_sub(platform::clock::now_ms()).max(0).cast_unsigned();
            tokio::time::sleep(Duration::from_millis(left)).await;
        }
        let recorder = Recorder::new();
        let (answers, mut answered) = mpsc::unbounded_channel();
        for (mut connection, request) in ready {
            let answers = answers.clone();
            let due = recorder.started();
            tokio::spawn(async move {
                let reply = tokio::time::timeout(ANSWER_MAX, connection.ask(&request)).await;
                drop(answers.send((due.elapsed(), reply.ok().and_then(Result::ok), connection)));
            });
        }
        drop(answers);
        collect(recorder, &mut answered).await
    }

    async fn rate(
        &self,
        minter: &Minter,
        targets: &[Target],
        rate: u32,
    ) -> Result<LoadReport, Failure> {
        let total = rate as usize * self.seconds as usize;
        let skipped = rate as usize * self.warm_up_seconds as usize;
        let (answers, mut answered) = mpsc::unbounded_channel();
        let idle: Arc<std::sync::Mutex<Vec<(usize, Connection)>>> = Arc::default();
        let start = tokio::time::Instant::now();
        let mut measured = Recorder::new();
        let mut in_warm_up = skipped;
        let mut due = start;
        for index in 0..total {
            let token = self.token(minter, index)?;
            tokio::time::sleep_until(due).await;
            if index == skipped {
                measured = Recorder::new();
            }
            let which = index % targets.len();
            let target = targets[which].clone();
            let request = target.order(self.drop, &token, "rate", true);
            let (answers, idle) = (answers.clone(), idle.clone());
            let counts = index >= skipped;
            tokio::spawn(async move {
                let reply = ask_pooled(&idle, which, &target, &request).await;
                drop(answers.send((counts, due.elapsed(), Answer::read(reply.as_ref()))));
            });
            due += Duration::from_secs(1) / rate;
        }
        drop(answers);
        while let Some((counts, latency, answer)) = answered.recv().await {
            if counts {
                measured.record(latency, answer);
            } else {
                in_warm_up -= 1;
            }
        }
        debug_assert_eq!(in_warm_up, 0, "every warm-up order was answered or given up");
        let seconds = measured.started().elapsed();
        Ok(measured.finish(seconds))
    }
}

/// Reads the answers, and lets go of the connections, once all are there: both take time that the API needs meanwhile.
async fn collect(
    mut recorder: Recorder,
    answered: &mut mpsc::UnboundedReceiver<(Duration, Option<Reply>, Connection)>,
) -> Result<LoadReport, Failure> {
    let mut replies = Vec::new();
    while let Some(reply) = answered.recv().await {
        replies.push(reply);
    }
    let seconds = recorder.started().elapsed();
    for (latency, reply, _) in replies {
        recorder.record(latency, Answer::read(reply.as_ref()));
    }
    Ok(recorder.finish(seconds))
}

/// Sends on an idle connection, or a new one where all are busy: an open loop never waits for one.
async fn ask_pooled(
    idle: &std::sync::Mutex<Vec<(usize, Connection)>>,
    which: usize,
    target: &Target,
    request: &[u8],
) -> Option<Reply> {
    let take = || {
        let mut idle = idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let index = idle.iter().position(|(of, _)| *of == which)?;
        Some(idle.swap_remove(index).1)
    };
    let mut connection = match take() {
        Some(connection) => connection,
        None => Connection::open(target).await.ok()?,
    };
    let reply = tokio::time::timeout(ANSWER_MAX, connection.ask(request)).await.ok()?.ok()?;
    if !reply.is_last {
        let mut idle = idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        idle.push((which, connection));
    }
    Some(reply)
}
