//! The headers that an origin is sent, from those that the client sent.

use std::net::IpAddr;

use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

use super::Forwarded;
use crate::cookie;
use crate::engine::{Permit, is_method_override};

/// Removes what clients must not send, then sets what the check says: on every request, those
/// without a session too.
///
/// `authority` is that of the target, which stands for a missing `Host`; `is_tls` is `true` if the
/// client came over TLS.
///
/// # Errors
/// If a value cannot be a header. Then nothing may be forwarded.
pub(crate) fn edit(
    headers: &mut HeaderMap,
    authority: Option<&str>,
    forwarded: &Forwarded,
    client: Option<IpAddr>,
    is_tls: bool,
) -> Result<(), InvalidHeaderValue> {
    let Forwarded {
        permit,
        id,
        plain_http,
        ..
    } = forwarded;
    strip(headers, |name| permit.application().is_reserved(name));
    if permit.application().asks_for_method() {
        strip(headers, is_method_override);
    }
    strip_cookies(headers, permit);
    if let Some(assertion) = permit.assertion() {
        headers.insert(ASSERTION, assertion.clone());
    }
    if let Some(email) = permit.session().and_then(|session| session.email_header()) {
        headers.insert(EMAIL, email.clone());
    }
    for (name, value) in permit
        .session()
        .map(|session| session.headers())
        .unwrap_or_default()
    {
        headers.append(name, value.clone());
    }
    if permit.takes_authorization() {
        headers.remove(header::AUTHORIZATION);
    }
    if let Some(id) = id {
        headers.insert(RAY, HeaderValue::try_from(id.to_string())?);
    }
    if let Some(client) = client {
        headers.insert(FORWARDED_FOR, HeaderValue::from_bytes(&address(client))?);
    }
    let host = match headers.get(header::HOST) {
        Some(host) => Some(host.clone()),
        None => authority.map(HeaderValue::try_from).transpose()?,
    };
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
    let is_https = is_tls || !plain_http;
    headers.insert(
        FORWARDED_PROTO,
        HeaderValue::from_static(if is_https { "https" } else { "http" }),
    );
    Ok(())
}

fn strip(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: SmallVec<[HeaderName; 8]> = headers
        .keys()
        .filter(|name| unwanted(name.as_str()))
        .cloned()
        .collect();
    for name in &names {
        headers.remove(name);
    }
}

fn strip_cookies(headers: &mut HeaderMap, permit: &Permit) {
    // A preflight that goes on unchecked carries nobody's cookies.
    if permit.session().is_none() && permit.policy().is_none() {
        headers.remove(header::COOKIE);
        headers.remove(header::AUTHORIZATION);
        strip(headers, is_method_override);
        return;
    }
    // A program's cookies nobody has looked at.
    if permit.application().settings().pass_cookies && permit.service_client().is_none() {
        return;
    }
    match cookie::without(headers, cookie::is_ours) {
        None => {}
        Some(None) => {
            headers.remove(header::COOKIE);
        }
        Some(Some(rest)) => {
            headers.insert(header::COOKIE, rest);
        }
    }
}

/// An address as text. It is written on every request, and formatting would cost more than all else
/// that is done with it.
fn address(client: IpAddr) -> SmallVec<[u8; 40]> {
    let IpAddr::V4(client) = client else {
        return client.to_string().into_bytes().into();
    };
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

const ASSERTION: HeaderName = HeaderName::from_static("cf-access-jwt-assertion");
const EMAIL: HeaderName = HeaderName::from_static("cf-access-authenticated-user-email");
const RAY: HeaderName = HeaderName::from_static("cf-ray");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_everywhere() {
        let all_octets = (0..=255_u8).map(|octet| IpAddr::from([octet, 255 - octet, 0, octet / 2]));
        let others =
            ["2001:db8::1", "::1", "fe80::aaaa:bbbb:cccc:dddd"].map(|text| text.parse().unwrap());
        for client in all_octets.chain(others) {
            assert_eq!(address(client).as_slice(), client.to_string().as_bytes());
        }
    }
}
