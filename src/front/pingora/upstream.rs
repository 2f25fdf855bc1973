use std::net::IpAddr;

use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, Result};
use smallvec::SmallVec;

use crate::cookie;
use crate::engine::{Permit, is_method_override, is_reserved};

/// Strips, then sets: on every request, those without a session too.
pub(super) fn edit(request: &mut RequestHeader, permit: &Permit, client: Option<IpAddr>, secure: bool) -> Result<()> {
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
    if let Some(client) = client {
        let client = HeaderValue::try_from(client.to_string());
        let client = client.map_err(|_| Error::explain(ErrorType::HTTPStatus(500), "the client's address"))?;
        request.insert_header("X-Forwarded-For", client)?;
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
        Some(Some(rest)) => request.insert_header(header::COOKIE, rest)?,
    }
    Ok(())
}

const ASSERTION: &str = "Cf-Access-Jwt-Assertion";
const EMAIL: &str = "Cf-Access-Authenticated-User-Email";
