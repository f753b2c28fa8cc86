//! A node's program with its keys and folders, and the nodes that it starts.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use platform::clock::monotonic;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::READY_MAX;

/// What a node does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything: API, processors, views, payments.
    All,
    /// Everything, and it follows the partitions of the other nodes.
    Standby,
    /// HTTP and the append to the log, nothing else.
    IngestApi,
}

/// Keys, folders and the program, shared by its nodes.
pub(super) struct Site<'a> {
    program: &'a Path,
    folder: &'a Path,
}

/// A process that serves HTTP; it is killed when it is dropped.
pub(super) struct Node {
    pub(super) process: Child,
    pub(super) url: String,
    data_dir: PathBuf,
}

impl Node {
    /// Throws away what the node kept of a partition of orders that is another's now.
    pub(super) fn forget(&self, partition: u16) -> Result<()> {
        let folder = self.data_dir.join("state/reservations").join(partition.to_string());
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl<'a> Site<'a> {
    pub(super) fn new(program: &'a Path, folder: &'a Path) -> Result<Self> {
        let site = Self { program, folder };
        let made = site.command(&["keys", "--out"]).arg(folder.join("keys")).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(site)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .env("LIVEDROPS_AUTH__PUBLIC_KEYS", self.folder.join("keys/public-key.pem"))
            .env("LIVEDROPS_AUTH__SIGNING_KEY", self.folder.join("keys/signing-key.pem"))
            .env("LIVEDROPS_LISTEN__INTERNAL", "none")
            .env("RUST_LOG", "error");
        command
    }

    /// A node that listens and owns every partition it can get.
    pub(super) fn start(&self, runtime: &Runtime, role: Role, name: &str) -> Result<Node> {
        let command = if role == Role::IngestApi { "ingest-api" } else { "all" };
        let data_dir = self.folder.join(name);
        let mut process = self
            .command(&[command, "--log", "kafka", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir)
            .env("LIVEDROPS_KAFKA__STANDBY", (role == Role::Standby).to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let printed = BufReader::new(process.stdout.take().context("a node without output")?);
        let mut node = Node { process, url: String::new(), data_dir };
        for line in printed.lines() {
            if let Some((_, address)) = line?.split_once("http://") {
                node.url = format!("http://{address}");
                break;
            }
        }
        ensure!(!node.url.is_empty(), "the node ended before it listened");
        wait_for("the node is not ready", || {
            Ok(runtime.block_on(is_ready(&node.url, role)).then_some(()))
        })?;
        Ok(node)
    }

    pub(super) fn token(&self, user: Uuid, scope: &str) -> Result<String> {
        let user = user.to_string();
        let minted = self.command(&["token", "--user", &user, "--scope", scope]).output()?;
        ensure!(minted.status.success(), "{}", String::from_utf8_lossy(&minted.stderr));
        Ok(String::from_utf8(minted.stdout)?.trim().to_owned())
    }

    /// A drop that is on sale, of a new creator.
    pub(super) fn schedule(&self, runtime: &Runtime, node: &Node, stock: u32) -> Result<Uuid> {
        let creator = platform::clock::random_uuid();
        let token = self.token(creator, &format!("creator:{creator}:write"))?;
        let body = json!({
            "productId": creator, "title": "Bench", "startsAt": "2020-01-01T00:00:00Z",
            "endsAt": "2999-01-01T00:00:00Z", "stock": stock, "price": {"amount": 0, "currency": "EUR"},
        });
        let url = format!("{}/creators/{creator}/drops", node.url);
        let answer = runtime.block_on(post(&url, &token, &body))?;
        let id = answer["drop"]["id"].as_str().and_then(|id| id.parse().ok());
        id.with_context(|| format!("not scheduled: {answer}"))
    }

    /// Runs the load in a process of its own and reads its report.
    pub(super) fn load<T: for<'de> Deserialize<'de>>(
        &self,
        node: &Node,
        drop: Uuid,
        arguments: &[&str],
    ) -> Result<T> {
        let report = self.folder.join("load.json");
        let ran = self
            .command(&["load", "--url", &node.url, "--drop", &drop.to_string()])
            .args(arguments)
            .arg("--report")
            .arg(&report)
            .output()?;
        ensure!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        Ok(serde_json::from_slice(&std::fs::read(report)?)?)
    }
}

/// Looks until there is something; `else_error` where there is nothing for too long.
pub(super) fn wait_for<T>(
    else_error: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = monotonic();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(started.elapsed() < READY_MAX, "{else_error} after {READY_MAX:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

async fn is_ready(url: &str, role: Role) -> bool {
    let Ok(response) = reqwest::get(format!("{url}/readyz")).await else { return false };
    let is_ok = response.status() == 200;
    let body: Value = response.json().await.unwrap_or_default();
    let owns_some = body["partitions"].as_array().is_some_and(|owned| !owned.is_empty());
    is_ok && (owns_some || role == Role::IngestApi)
}

/// A partition, as a node tells of it.
#[derive(Deserialize)]
pub(super) struct Shown {
    processor: String,
    pub(super) partition: u16,
    state: String,
    /// Of its last decision.
    pub(super) seq: i64,
}

impl Shown {
    fn is_same(&self, other: &Self) -> bool {
        (&self.processor, self.partition) == (&other.processor, other.partition)
    }
}

/// Whether every partition is decided by `standby`, or followed by it to where `owner` stands.
pub(super) async fn is_in_step(standby: &Node, owner: &Node) -> Result<bool> {
    let [followed, owned] = [partitions(standby).await?, partitions(owner).await?];
    let seq_of_owner =
        |shown: &Shown| owned.iter().find(|other| shown.is_same(other)).map(|other| other.seq);
    let is_there = |shown: &Shown| {
        shown.state == "running"
            || (shown.state == "standby" && seq_of_owner(shown) == Some(shown.seq))
    };
    Ok(!followed.is_empty() && followed.iter().all(is_there))
}

/// The partitions of orders that a node decides.
pub(super) async fn owned_of_orders(node: &Node) -> Result<Vec<Shown>> {
    let mut owned = partitions(node).await?;
    owned.retain(|shown| shown.processor == "reservations" && shown.state == "running");
    Ok(owned)
}

async fn partitions(node: &Node) -> Result<Vec<Shown>> {
    let mut body: Value = reqwest::get(format!("{}/readyz", node.url)).await?.json().await?;
    let partitions = body["partitions"].take();
    serde_json::from_value(partitions).context("readyz without partitions")
}

pub(super) async fn post(url: &str, token: &str, body: &Value) -> Result<Value> {
    let response = reqwest::Client::new()
        .post(url)
        .bearer_auth(token)
        .header("idempotency-key", "bench")
        .header("prefer", "wait=20")
        .json(body)
        .send()
        .await?;
    Ok(response.json().await?)
}
