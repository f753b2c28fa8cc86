//! HTTP/1.1 on one listener, until it drains.
//!
//! Not `axum::serve`: it copies every route for each connection and first looks whether the client speaks HTTP/2. Both
//! together were three quarters of the memory of a connection that only streams events.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Pause where the process cannot take another connection: most likely it has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long a connection may take to send the head of its next request. Longer than the minute after which load balancers
/// drop an idle one themselves. Whoever has gone without a word would hold a file for ever.
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// Serves until `draining` is cancelled, then until every open request is answered.
pub(crate) async fn serve(listener: TcpListener, router: Router, draining: CancellationToken) {
    let routes = TowerToHyperService::new(router);
    let connections = GracefulShutdown::new();
    while let Some(accepted) = draining.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(SILENCE_MAX)
            .serve_connection(TokioIo::new(stream), routes.clone());
        let serving = connections.watch(serving);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener); // who connects from now on is refused, and may ask another node
    connections.shutdown().await;
}

/// The client has gone already; the listener is well.
fn is_of_one_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_stays_silent_is_closed_and_keeps_no_file_open() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let draining = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, Router::new(), draining.clone()));
        let mut answer = Vec::new();
        let read = tokio::time::timeout(2 * SILENCE_MAX, silent.read_to_end(&mut answer));
        assert_eq!(read.await.unwrap().unwrap(), 0, "closed without an answer");
        draining.cancel();
        serving.await.unwrap();
    }
}
