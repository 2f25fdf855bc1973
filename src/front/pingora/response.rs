//! Edits of response heads from origins.
//!
//! Decides which fields belong to the connection to the origin and are removed (RFC 9110 7.6.1), and
//! which responses have no reliable end. Trusts Pingora's parsing and its choice of framing. Never
//! changes the body.

use std::any::Any;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::{HttpModule, HttpModuleBuilder, Module};
use pingora::prelude::{Error, ErrorType, Result, Session};
use smallvec::SmallVec;

/// Removes the fields of the connection to the origin, and sets the framing toward the client.
///
/// # Errors
/// If the response cannot be forwarded: an unrequested 101, or framing without a reliable end.
pub(super) fn edit(session: &mut Session, response: &mut ResponseHeader) -> Result<()> {
    // `tunnel.rs` handles requests that may switch protocols.
    if response.status == StatusCode::SWITCHING_PROTOCOLS {
        return refuse("the origin switched protocols without a request to do so");
    }
    let closes = closes(response);
    let keeps_upgrade = response.status == StatusCode::UPGRADE_REQUIRED;
    strip_hop_by_hop(response, keeps_upgrade);
    merge_content_length(response)?;
    let bodiless = is_bodiless(&session.req_header().method, response.status);
    match coding(&response.headers) {
        Coding::Usual => {}
        Coding::Identity | Coding::Endless if bodiless => {
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        Coding::Identity if closes => {
            response.remove_header(&header::TRANSFER_ENCODING);
            response.set_version(Version::HTTP_11);
            response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
        Coding::Identity => {
            return refuse(
                "`Transfer-Encoding: identity` on a connection that stays open has no end",
            );
        }
        Coding::Endless => {
            return refuse(
                "a `Transfer-Encoding` whose last coding is not `chunked` has no reliable end",
            );
        }
    }
    let final_response = !response.status.is_informational();
    if final_response
        && is_old(session.req_header())
        && !response.headers.contains_key(header::CONTENT_LENGTH)
    {
        // Only the end of the connection ends such a body (RFC 9112 6.3).
        session.set_keepalive(None);
    }
    Ok(())
}

fn refuse(why: &'static str) -> Result<()> {
    Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up())
}

/// Returns `true` if the origin closes its connection after this response.
fn closes(response: &ResponseHeader) -> bool {
    let lists =
        |token: &[u8]| tokens(&response.headers).any(|listed| listed.eq_ignore_ascii_case(token));
    lists(b"close") || response.version < Version::HTTP_11 && !lists(b"keep-alive")
}

/// Returns the options of all `Connection` fields.
pub(super) fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(header::CONNECTION).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|t| !t.is_empty())
}

fn strip_hop_by_hop(response: &mut ResponseHeader, keeps_upgrade: bool) {
    let named: SmallVec<[HeaderName; 4]> = tokens(&response.headers)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect();
    for name in &named {
        // Without its framing the response would have another body. `Upgrade` is handled below.
        if !matches!(
            *name,
            header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::UPGRADE
        ) {
            response.remove_header(name);
        }
    }
    for name in [
        header::CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::TE,
    ] {
        response.remove_header(&name);
    }
    // A 426 has to name the protocols (RFC 9110 15.5.22).
    if !keeps_upgrade {
        response.remove_header(&header::UPGRADE);
    }
}

/// Merges equal values of `Content-Length` into one (RFC 9110 8.6): HTTP/2 clients reject two.
fn merge_content_length(response: &mut ResponseHeader) -> Result<()> {
    let mut lines = response.headers.get_all(header::CONTENT_LENGTH).into_iter();
    let Some(first) = lines.next() else {
        return Ok(());
    };
    if lines.next().is_none() && !first.as_bytes().contains(&b',') {
        return Ok(());
    }
    let lines = response.headers.get_all(header::CONTENT_LENGTH).into_iter();
    let mut values = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let Some(length) = values.next().map(<[u8]>::to_vec) else {
        return Ok(());
    };
    // Two lengths are response splitting: the client and we could see different ends.
    if values.any(|other| other != length) {
        return refuse("different values of `Content-Length`");
    }
    response.insert_header(header::CONTENT_LENGTH, length)
}

/// Returns `true` if a response has no body whatever its fields are (RFC 9112 6.3).
pub(super) fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The transfer coding of a response, as far as it determines the end of the body.
enum Coding {
    /// None, or `chunked` as the last one.
    Usual,
    /// `identity` alone, which RFC 9112 no longer knows.
    Identity,
    /// Another one is the last: only the end of the connection ends the body (RFC 9112 6.3).
    Endless,
}

fn coding(headers: &HeaderMap) -> Coding {
    let lines = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    let mut codings = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let Some(first) = codings.next() else {
        return Coding::Usual;
    };
    let is_identity = |coding: &[u8]| coding.eq_ignore_ascii_case(b"identity");
    let (last, only_identity) = codings.fold((first, is_identity(first)), |(_, only), coding| {
        (coding, only && is_identity(coding))
    });
    match last {
        _ if only_identity => Coding::Identity,
        last if last.eq_ignore_ascii_case(b"chunked") => Coding::Usual,
        _ => Coding::Endless,
    }
}

/// Returns `true` if the client speaks HTTP/1.0 or less.
pub(super) fn is_old(request: &RequestHeader) -> bool {
    request.version < Version::HTTP_11
}

/// Builds an [`OldClient`] for each request. It replaces Pingora's compression module, which has no
/// effect here.
#[derive(Debug)]
pub(super) struct OldClients;

impl HttpModuleBuilder for OldClients {
    fn init(&self) -> Module {
        Box::new(OldClient::default())
    }
}

/// Removes features of HTTP/1.1 from exchanges with HTTP/1.0 clients.
///
/// This is a module, because Pingora adds the chunked coding after the response filters.
#[derive(Debug, Default)]
struct OldClient {
    is_old: bool,
}

#[async_trait]
impl HttpModule for OldClient {
    async fn request_header_filter(&mut self, request: &mut RequestHeader) -> Result<()> {
        self.is_old = is_old(request);
        if self.is_old {
            // Both must be ignored in HTTP/1.0 (RFC 9110 7.8 and 10.1.1).
            request.remove_header(&header::EXPECT);
            request.remove_header(&header::UPGRADE);
        }
        Ok(())
    }

    async fn response_header_filter(
        &mut self,
        response: &mut ResponseHeader,
        _end: bool,
    ) -> Result<()> {
        if self.is_old {
            response.remove_header(&header::TRANSFER_ENCODING);
        }
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
