//! Processes of the program, and a client.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use platform::clock::{monotonic, random_uuid};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_livedrops");
/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// One broker, so one test with Kafka at a time.
pub(crate) static BROKER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A setting that `deploy/stack` hands down.
pub(crate) fn from_stack(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `make test`, or cargo under `deploy/stack run --with postgres,clickhouse,kafka --`")
    })
}

/// Where a log is, for every process of a test.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) folder: std::sync::Arc<tempfile::TempDir>,
    log: &'static str,
}

impl Site {
    pub(crate) fn embedded() -> Self {
        Self::new("embedded")
    }

    pub(crate) fn kafka() -> Self {
        Self::new("kafka")
    }

    fn new(log: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = Command::new(PROGRAM)
            .args(["keys", "--out"])
            .arg(folder.path().join("keys"))
            .output()
            .unwrap();
        assert!(keys.status.success(), "{keys:?}");
        Self { folder: std::sync::Arc::new(folder), log }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A command of the program; views only where `views` says so.
    pub(crate) fn command(&self, data: &str, views: bool, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .env("LIVEDROPS_LOG__KIND", self.log)
            .env("LIVEDROPS_DATA_DIR", self.path(data))
            .env("LIVEDROPS_AUTH__PUBLIC_KEYS", self.path("keys/public-key.pem"))
            .env("LIVEDROPS_AUTH__SIGNING_KEY", self.path("keys/signing-key.pem"))
            .env("LIVEDROPS_LISTEN__INTERNAL", "none")
            .env("LIVEDROPS_LOG__PARTITIONS", if self.log == "embedded" { "4" } else { "12" })
            .current_dir(self.folder.path());
        if !views {
            command.env_remove("LIVEDROPS_POSTGRES__URL").env_remove("LIVEDROPS_CLICKHOUSE__URL");
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, data: &str, views: bool, arguments: &[&str]) -> Output {
        self.command(data, views, arguments).output().unwrap()
    }

    pub(crate) fn token(&self, user: Uuid, scope: &str) -> String {
        let user = user.to_string();
        let output = self.run("none", false, &["token", "--user", &user, "--scope", scope]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts an API process and waits until it listens and every partition decides.
    pub(crate) async fn start(&self, data: &str, views: bool, arguments: &[&str]) -> Node {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--listen", "127.0.0.1:0"]);
        let node = Node::spawn(self.command(data, views, &arguments));
        node.wait_until_ready().await;
        node
    }
}

/// A process without an API; killed when dropped.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A running API process; killed when dropped.
pub(crate) struct Node {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Node {
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        assert!(!url.is_empty(), "the process ended before it listened: {:?}", child.wait());
        Self { child, url }
    }

    pub(crate) async fn wait_until_ready(&self) {
        let started = monotonic();
        loop {
            if let Ok(response) = reqwest::get(format!("{}/readyz", self.url)).await
                && response.status() == 200
                && let Ok(body) = response.json::<Value>().await
                // An API without processors is ready without partitions.
                && (body["partitions"].as_array().is_some_and(|p| !p.is_empty()) || self.is_api_only())
            {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{} is not ready", self.url);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn is_api_only(&self) -> bool {
        let command =
            std::fs::read(format!("/proc/{}/cmdline", self.child.id())).unwrap_or_default();
        String::from_utf8_lossy(&command).contains("ingest-api")
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; returns the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        terminate(&mut self.child)
    }

    pub(crate) fn client(&self, token: &str) -> Client {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Client { url: self.url.clone(), token: token.to_owned(), http }
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status =
        Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// SIGTERM; returns the exit code. One that does not end fails the test, and is killed when its owner is dropped.
pub(crate) fn terminate(child: &mut Child) -> Option<i32> {
    signal(child.id(), "TERM");
    let started = monotonic();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(started.elapsed() < PATIENCE, "process {} does not end", child.id());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that is stopped; it goes on when this is dropped, also where a test fails: others need it.
pub(crate) struct Stopped(u32);

impl Stopped {
    pub(crate) fn new(pid: u32) -> Self {
        signal(pid, "STOP");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

/// Somebody who talks to a node.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) http: reqwest::Client,
}

impl Client {
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// Posts with a key, waiting for the decision.
    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let request = self
            .request(Method::POST, path)
            .header("idempotency-key", key)
            .header("prefer", "wait=20");
        answer(request.json(body).send().await.unwrap()).await
    }
}

pub(crate) async fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

/// A creator who can write for itself.
pub(crate) fn creator(site: &Site) -> (Uuid, String) {
    let creator = random_uuid();
    (creator, site.token(creator, &format!("creator:{creator}:write")))
}

pub(crate) fn now_ms() -> i64 {
    platform::clock::now_ms()
}

pub(crate) fn instant(ms: i64) -> String {
    use time::format_description::well_known::Rfc3339;
    let instant =
        time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).unwrap();
    instant.format(&Rfc3339).unwrap()
}

/// The instant of a field, in milliseconds since 1970.
pub(crate) fn milliseconds(instant: &str) -> i64 {
    use time::format_description::well_known::Rfc3339;
    let instant = time::OffsetDateTime::parse(instant, &Rfc3339).unwrap();
    i64::try_from(instant.unix_timestamp_nanos() / 1_000_000).unwrap()
}

/// A free drop's schedule request, live now unless `change` says otherwise.
pub(crate) fn drop_request(stock: i64) -> Value {
    json!({
        "productId": random_uuid(), "title": "Test", "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2999-01-01T00:00:00Z", "stock": stock, "price": {"amount": 0, "currency": "EUR"},
    })
}

/// Schedules a drop; returns its id.
pub(crate) async fn schedule(site: &Site, node: &Node, request: &Value) -> (Uuid, Client) {
    let (creator, token) = creator(site);
    let client = node.client(&token);
    let (status, body) =
        client.post(&format!("/creators/{creator}/drops"), "schedule", request).await;
    assert_eq!(status, 201, "{body}");
    (body["drop"]["id"].as_str().unwrap().parse().unwrap(), client)
}

/// `livedrops audit` must agree.
pub(crate) fn assert_audit(site: &Site, data: &str, views: bool) -> String {
    let output = site.run(data, views, &["audit"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The identity of every store under a data folder: another one after a wipe.
pub(crate) fn store_identities(data: &Path) -> Vec<String> {
    let mut identities = Vec::new();
    for processor in std::fs::read_dir(data.join("state")).unwrap() {
        for partition in std::fs::read_dir(processor.unwrap().path()).unwrap() {
            let file = partition.unwrap().path().join("IDENTITY");
            identities.push(std::fs::read_to_string(file).unwrap());
        }
    }
    identities.sort();
    identities
}

/// What a buyer was promised: the order id of every acknowledged intent.
pub(crate) type Promises = std::sync::Arc<std::sync::Mutex<Vec<Uuid>>>;

/// Buyers that order one after another until told to stop, retrying with the same key until acknowledged.
pub(crate) async fn keep_ordering(
    urls: std::sync::Arc<std::sync::Mutex<String>>,
    tokens: Vec<String>,
    drop: Uuid,
    promises: Promises,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let mut number = 0_u32;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let token = &tokens[number as usize % tokens.len()];
        let key = format!("key-{number}");
        loop {
            let url = urls.lock().unwrap().clone();
            let request = http
                .post(format!("{url}/drops/{drop}/orders"))
                .bearer_auth(token)
                .header("idempotency-key", &key)
                .json(&json!({"qty": 1}));
            if let Ok(response) = request.send().await {
                let (status, body) = answer(response).await;
                let id = body["order"]["id"].as_str().or_else(|| body["orderId"].as_str());
                if [200, 201, 202, 409].contains(&status) {
                    promises.lock().unwrap().push(id.unwrap().parse().unwrap());
                    break;
                }
                assert!([503, 504].contains(&status), "{status} {body}");
            }
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        number += 1;
    }
}

/// kill -9 in the middle of a burst, ten times at random points; then every promise is kept.
pub(crate) async fn survive_ten_kills(site: &Site, views: bool) {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut node = site.start("data", views, &["all"]).await;
    let (drop_id, _) = schedule(site, &node, &drop_request(500)).await;
    let tokens: Vec<String> = (0..4).map(|_| site.token(random_uuid(), "")).collect();
    let probe = node.client(&site.token(random_uuid(), ""));
    let url = std::sync::Arc::new(std::sync::Mutex::new(node.url.clone()));
    let promises = Promises::default();
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let buyers: Vec<_> = (0..8)
        .map(|buyer| {
            let own = vec![tokens[buyer % 4].clone()];
            tokio::spawn(keep_ordering(url.clone(), own, drop_id, promises.clone(), stop.clone()))
        })
        .collect();
    let identities = store_identities(&site.path("data"));
    let mut slowest = Duration::ZERO;
    for round in 0..10_u64 {
        // A fixed pause would always hit the same step.
        let jitter = u64::from(random_uuid().as_bytes()[15]);
        tokio::time::sleep(Duration::from_millis(50 + jitter)).await;
        node.kill();
        let restarted = monotonic();
        let command = site.command("data", views, &["all", "--listen", "127.0.0.1:0"]);
        node = tokio::task::spawn_blocking(move || Node::spawn(command)).await.unwrap();
        url.lock().unwrap().clone_from(&node.url);
        let client = Client { url: node.url.clone(), ..probe.clone() };
        loop {
            let path = format!("/drops/{drop_id}/orders");
            let (status, _) =
                client.post(&path, &format!("probe-{round}"), &json!({"qty": 1})).await;
            if [200, 201, 409].contains(&status) {
                break;
            }
            assert!(restarted.elapsed() < PATIENCE);
        }
        slowest = slowest.max(restarted.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    for buyer in buyers {
        buyer.await.unwrap();
    }
    assert_eq!(store_identities(&site.path("data")), identities, "no store was wiped");
    let admin = node.client(&site.token(random_uuid(), "admin"));
    let promised = promises.lock().unwrap().clone();
    assert!(promised.len() > 100, "only {} orders were acknowledged", promised.len());
    for id in &promised {
        let (status, body) = admin.get(&format!("/orders/{id}?waitMs=10000")).await;
        assert!(status == 200 && body["status"] != "PENDING", "order {id}: {status} {body}");
    }
    // A figure, not a verdict: the machine is busy with other tests.
    eprintln!("{} promises kept, slowest first decision after a kill {slowest:?}", promised.len());
    assert_eq!(node.terminate(), Some(0));
}
