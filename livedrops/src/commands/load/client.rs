//! One buyer's connection.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::report::Answer;
use crate::failure::Failure;

/// Seconds a buyer asks the API to wait for the decision.
const WAIT_SECONDS: u32 = 20;

pub(super) type HttpRequest = Request<Full<Bytes>>;

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

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The drop's page, for a buyer who is signed in.
    pub(super) fn page(&self, drop: Uuid, token: &str) -> Result<HttpRequest, Failure> {
        Request::get(format!("/drops/{drop}"))
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Full::default())
            .map_err(Failure::check)
    }

    /// An order of one unit that waits for its decision.
    pub(super) fn order(&self, drop: Uuid, token: &str, key: &str) -> Result<HttpRequest, Failure> {
        Request::post(format!("/drops/{drop}/orders"))
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .header("prefer", format!("wait={WAIT_SECONDS}"))
            .body(Full::new(Bytes::from_static(b"{\"qty\":1}")))
            .map_err(Failure::check)
    }
}

/// An open HTTP/1.1 connection.
pub(super) struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    pub(super) async fn open(target: &Target) -> Result<Self, Failure> {
        let stream = TcpStream::connect(target.address).await.map_err(Failure::unreachable)?;
        stream.set_nodelay(true).map_err(Failure::unreachable)?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(Failure::unreachable)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection closed");
            }
        });
        Ok(Self(sender))
    }

    /// Sends an order and reads its answer.
    pub(super) async fn send(&mut self, order: HttpRequest) -> Answer {
        match self.exchange(order).await {
            Ok((status, body)) => Answer::read(status, &body),
            Err(_) => Answer::None,
        }
    }

    /// Loads a page that must be there.
    pub(super) async fn load(&mut self, page: HttpRequest) -> Result<(), Failure> {
        match self.exchange(page).await.map_err(Failure::unreachable)? {
            (200, _) => Ok(()),
            (status, _) => Err(Failure::check(format!("the drop's page answers {status}"))),
        }
    }

    async fn exchange(&mut self, request: HttpRequest) -> hyper::Result<(u16, Bytes)> {
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
