use std::net::IpAddr;

use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;
use pingora::prelude::Result;
use smallvec::SmallVec;

use crate::cookie;
use crate::engine::{Permit, is_method_override, is_reserved};
use crate::model::RequestId;

/// Strips, then sets: on every request, those without a session too. The id is that of the request's audit event.
pub(super) fn edit(
    request: &mut RequestHeader,
    permit: &Permit,
    client: Option<IpAddr>,
    secure: bool,
    id: Option<RequestId>,
) -> Result<()> {
    let reserved: SmallVec<[HeaderName; 8]> =
        request.headers.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
    for name in &reserved {
        request.remove_header(name);
    }
    strip_cookies(request, permit)?;
    if let Some(session) = permit.session() {
        request.insert_header(ASSERTION, session.assertion().clone())?;
        if let Some(email) = session.email_header() {
            request.insert_header(EMAIL, email.clone())?;
        }
    }
    if let Some(id) = id {
        request.insert_header("Cf-Ray", id.to_string())?;
    }
    if let Some(client) = client {
        request.insert_header("X-Forwarded-For", address(client).as_slice())?;
    }
    let host = request.headers.get(header::HOST).cloned();
    let host = host.or_else(|| request.uri.authority().and_then(|a| HeaderValue::try_from(a.as_str()).ok()));
    if let Some(host) = host {
        request.insert_header("X-Forwarded-Host", host)?;
    }
    request.insert_header("X-Forwarded-Proto", HeaderValue::from_static(if secure { "https" } else { "http" }))?;
    Ok(())
}

fn strip_cookies(request: &mut RequestHeader, permit: &Permit) -> Result<()> {
    let settings = permit.application().settings();
    // A preflight that goes on unchecked carries nobody's cookies.
    if permit.session().is_none() && permit.policy().is_none() {
        request.remove_header(&header::COOKIE);
        request.remove_header(&header::AUTHORIZATION);
        let overrides: SmallVec<[HeaderName; 2]> =
            request.headers.keys().filter(|name| is_method_override(name.as_str())).cloned().collect();
        for name in &overrides {
            request.remove_header(name);
        }
        return Ok(());
    }
    if settings.pass_cookies {
        return Ok(());
    }
    match cookie::without(&request.headers, cookie::is_ours) {
        None => {}
        Some(None) => {
            request.remove_header(&header::COOKIE);
        }
        Some(Some(rest)) => request.insert_header("Cookie", rest)?,
    }
    Ok(())
}

/// An address as text. It is written on every request, and formatting would cost more than all else that is done with it.
fn address(client: IpAddr) -> SmallVec<[u8; 40]> {
    let IpAddr::V4(client) = client else { return client.to_string().into_bytes().into() };
    let mut text = SmallVec::new();
    for octet in client.octets() {
        if !text.is_empty() {
            text.push(b'.');
        }
        if octet >= 100 {
            text.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            text.push(b'0' + octet / 10 % 10);
        }
        text.push(b'0' + octet % 10);
    }
    text
}

const ASSERTION: &str = "Cf-Access-Jwt-Assertion";
const EMAIL: &str = "Cf-Access-Authenticated-User-Email";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_everywhere() {
        let all_octets = (0..=255_u8).map(|octet| IpAddr::from([octet, 255 - octet, 0, octet / 2]));
        let others = ["2001:db8::1", "::1", "fe80::aaaa:bbbb:cccc:dddd"].map(|text| text.parse().unwrap());
        for client in all_octets.chain(others) {
            assert_eq!(address(client).as_slice(), client.to_string().as_bytes());
        }
    }
}
