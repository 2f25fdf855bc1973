//! Health checks of origins.
//!
//! Decides which members of a pool are healthy. Trusts a response with the expected status, or an
//! open connection if no path is configured. Never reads a response body, and never takes longer
//! than [`CHECK_TIMEOUT`] for an address.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use http::{StatusCode, Uri};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, HttpPeer, Result};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::pool::Member;
use super::{Check, OriginPool, failure};

/// The connector of all health checks. It is shared because each connector loads all certificate
/// authorities of the system.
#[derive(Default)]
pub(super) struct Checks(OnceLock<Connector>);

impl Checks {
    fn connector(&self) -> &Connector {
        self.0.get_or_init(|| Connector::new(None))
    }
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checks")
    }
}

/// Checks the members of a pool until the pool is dropped.
pub(super) async fn follow(pool: Weak<OriginPool>, check: Check, checks: Arc<Checks>) {
    loop {
        let Some(current) = pool.upgrade() else {
            return;
        };
        let mut running = JoinSet::new();
        for index in 0..current.members().len() {
            let (pool, check, checks) = (Arc::clone(&current), check.clone(), Arc::clone(&checks));
            running.spawn(async move {
                if let Some(member) = pool.members().get(index) {
                    let outcome = all_addresses(&pool, member, &check, &checks).await;
                    pool.observe(member, outcome);
                }
            });
        }
        // A pool that a reload replaced must be freed while this task sleeps.
        drop(current);
        // A panic in a check ends this task, which is reported. Otherwise the member would silently
        // never be checked again.
        running.join_all().await;
        tokio::time::sleep(check.interval).await;
    }
}

/// Checks the addresses of a member in turn. The member is healthy if one address is; requests then
/// try that address first.
async fn all_addresses(
    pool: &OriginPool,
    member: &Member,
    check: &Check,
    checks: &Checks,
) -> Result<(), String> {
    let mut outcome = Err("its host name is not resolved".to_owned());
    for (peer, address) in member.peers() {
        let mut peer = peer;
        peer.options.connection_timeout = Some(CHECK_TIMEOUT);
        peer.options.total_connection_timeout = Some(CHECK_TIMEOUT);
        let checked = async {
            match &check.path {
                None => TcpStream::connect(address)
                    .await
                    .map(drop)
                    .map_err(|error| {
                        failure::cause(&Error::because(
                            ErrorType::ConnectError,
                            "health check",
                            error,
                        ))
                    }),
                Some(path) => {
                    let host = pool.host_header(member);
                    let answered = request(checks.connector(), &peer, &host, path).await;
                    answered
                        .map_err(|error| failure::cause(&error))
                        .and_then(|status| check.accept(status))
                }
            }
        };
        outcome = timeout(CHECK_TIMEOUT, checked)
            .await
            .unwrap_or_else(|_| Err("no response in time".to_owned()));
        if outcome.is_ok() {
            member.prefer(address.ip());
            break;
        }
    }
    outcome
}

impl Check {
    fn accept(&self, status: StatusCode) -> Result<(), String> {
        let fine = if self.expect.is_empty() {
            status.is_success()
        } else {
            self.expect.contains(&status.as_u16())
        };
        if fine {
            Ok(())
        } else {
            Err(format!("status {}", status.as_u16()))
        }
    }
}

/// Requests the path with the protocol of ordinary requests.
async fn request(
    connector: &Connector,
    peer: &HttpPeer,
    host: &str,
    path: &Uri,
) -> Result<StatusCode> {
    let (mut session, _) = connector.get_http_session(peer).await?;
    let target = path.path_and_query().map_or("/", |target| target.as_str());
    let mut header = RequestHeader::build("GET", target.as_bytes(), None)?;
    if session.as_http2().is_some() {
        // RFC 9113 8.3.1: the authority is a part of the target.
        let scheme = if peer.is_tls() { "https" } else { "http" };
        let uri = Uri::try_from(format!("{scheme}://{host}{target}"));
        header.set_uri(uri.map_err(|error| {
            Error::because(ErrorType::InvalidHTTPHeader, "health check", error)
        })?);
    } else {
        header.insert_header(http::header::HOST, host)?;
    }
    header.insert_header(http::header::USER_AGENT, "Portcullis-Health-Check")?;
    session.set_read_timeout(Some(CHECK_TIMEOUT));
    session.set_write_timeout(Some(CHECK_TIMEOUT));
    session.write_request_header(Box::new(header)).await?;
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let status = session.response_header().map(|header| header.status);
    // The connection is not reused: a check must prove that new connections succeed.
    session.shutdown().await;
    status.ok_or_else(|| Error::new(ErrorType::ReadError))
}

/// The time limit for the connection with its handshake, and for the response header.
// An origin that takes longer would hold up each request that is sent to it.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_2xx_unless_something_else_is_expected() {
        let check = |expect: &[u16]| Check {
            path: None,
            interval: Duration::from_secs(1),
            expect: expect.to_vec(),
        };
        for (expect, status, healthy) in [
            (&[][..], 200, true),
            (&[], 204, true),
            (&[], 299, true),
            (&[], 199, false),
            (&[], 302, false),
            (&[], 401, false),
            (&[], 503, false),
            (&[401], 401, true),
            (&[401], 200, false),
            (&[200, 302], 302, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                check(expect).accept(status).is_ok(),
                healthy,
                "{expect:?} {status}"
            );
        }
    }
}
