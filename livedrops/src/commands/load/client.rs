//! One buyer's connection: no more of HTTP/1.1 than the API answers with, because the generator shares the machine with
//! what it measures.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::failure::Failure;

/// Seconds a buyer asks the API to wait for the decision.
const WAIT_SECONDS: u32 = 20;
/// Before a page that is not there is loaded again.
const RELOAD: Duration = Duration::from_millis(200);
/// Most answers are shorter, and arrive in one piece.
const ANSWER_BYTES: usize = 2_048;

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
    /// The API takes no further request on the connection.
    pub(super) is_last: bool,
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
        Ok(Self { stream, read: Vec::with_capacity(ANSWER_BYTES) })
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

    /// Loads a page that a node may not show yet.
    pub(super) async fn load(&mut self, page: &[u8]) -> Result<(), Failure> {
        loop {
            match self.ask(page).await?.status {
                200 => return Ok(()),
                404 | 503 => tokio::time::sleep(RELOAD).await,
                status => return Err(Failure::check(format!("the drop's page answers {status}"))),
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
    let reply = Reply {
        status: response.code.unwrap_or(0),
        is_last: text("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        location: text("location").map(str::to_owned),
        body: body.to_vec(),
    };
    Ok(Some((reply, length)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const ANSWERS: &[u8] =
        b"HTTP/1.1 202 Accepted\r\nLocation: /orders/7\r\nContent-Length: 9\r\n\r\n{\"a\": 1}\n\
        HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn an_answer_is_taken_once_it_is_whole_wherever_it_was_cut() {
        let (first, length) = reply(ANSWERS).unwrap().unwrap();
        assert_eq!((first.status, first.is_last), (202, false));
        assert_eq!(
            (first.location.as_deref(), &first.body[..]),
            (Some("/orders/7"), &b"{\"a\": 1}\n"[..])
        );
        for cut in 0..ANSWERS.len() {
            let seen = reply(&ANSWERS[..cut]).unwrap().map(|(_, length)| length);
            assert_eq!(seen, (cut >= length).then_some(length), "cut at {cut}");
        }
        let (second, rest) = reply(&ANSWERS[length..]).unwrap().unwrap();
        assert_eq!((second.status, second.is_last, rest), (404, true, ANSWERS.len() - length));
    }

    #[test]
    fn an_answer_of_unknown_length_is_an_error_and_not_waited_for() {
        assert!(reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(reply(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
    }
}
