//! One buyer's connection: no more of HTTP/1.1 than the API answers with, because the generator shares the machine with
//! what it measures.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::failure::Failure;

/// Seconds a buyer asks the API to wait for the decision.
const WAIT_SECONDS: u32 = 20;

/// An API node.
#[derive(Clone, Debug)]
pub(super) struct Target {
    address: SocketAddr,
    host: String,
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let bad = |why: &str| Failure::usage("url", format!("`{url}`: {why}"));
        let host = url
            .trim_end_matches('/')
            .strip_prefix("http://")
            .ok_or_else(|| bad("must start with http://"))?;
        let address = std::net::ToSocketAddrs::to_socket_addrs(host)
            .map_err(|error| bad(&error.to_string()))?
            .next()
            .ok_or_else(|| bad("has no address"))?;
        Ok(Self { address, host: host.to_owned() })
    }

    /// An order of one unit; with `waits`, answered with its decision.
    pub(super) fn order(&self, drop: Uuid, token: &str, key: &str, waits: bool) -> Vec<u8> {
        let prefer = if waits { format!("Prefer: wait={WAIT_SECONDS}\r\n") } else { String::new() };
        let body = "{\"qty\":1}";
        let (host, length) = (&self.host, body.len());
        format!(
            "POST /drops/{drop}/orders HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{prefer}\
             Content-Type: application/json\r\nContent-Length: {length}\r\nIdempotency-Key: {key}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// What is at a path, for a buyer who is signed in.
    pub(super) fn page(&self, path: &str, token: &str) -> Vec<u8> {
        let host = &self.host;
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n")
            .into_bytes()
    }
}

/// What the API answers.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

/// An open HTTP/1.1 connection, and what was read from it but not used.
pub(super) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(target: &Target) -> Result<Self, Failure> {
        let stream = TcpStream::connect(target.address).await.map_err(Failure::unreachable)?;
        stream.set_nodelay(true).map_err(Failure::unreachable)?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends a request and reads its answer.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<Reply, Failure> {
        self.stream.write_all(request).await.map_err(Failure::unreachable)?;
        loop {
            if let Some((reply, length)) = reply(&self.read)? {
                self.read.drain(..length);
                return Ok(reply);
            }
            let read = self.stream.read_buf(&mut self.read).await.map_err(Failure::unreachable)?;
            if read == 0 {
                return Err(Failure::unreachable("the node closed a connection"));
            }
        }
    }
}

/// A whole answer at the start of `bytes`, and how long it is.
fn reply(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(bytes).map_err(Failure::check)? else {
        return Ok(None);
    };
    let text = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let length = text("content-length").and_then(|length| length.parse::<usize>().ok());
    let length = start + length.ok_or_else(|| Failure::check("an answer without its length"))?;
    let Some(body) = bytes.get(start..length) else { return Ok(None) };
    let (status, location) = (response.code.unwrap_or(0), text("location").map(str::to_owned));
    Ok(Some((Reply { status, location, body: body.to_vec() }, length)))
}
