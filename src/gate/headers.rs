//! The headers that an origin receives, derived from those that the client sent.

use std::net::IpAddr;

use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;

use super::Forwarded;
use crate::cookie;
use crate::engine::{Permit, is_method_override};

/// The changes to the headers of a request before it goes to the origin.
///
/// They are a value, so that a front without a [`HeaderMap`] can write them into its own protocol.
#[derive(Debug)]
pub(crate) struct HeaderEdits {
    /// Names to remove with all their lines, before anything is set.
    pub(crate) remove: SmallVec<[HeaderName; 8]>,
    /// Lines that replace every line of their name. Lines of one name are adjacent.
    pub(crate) set: SmallVec<[(HeaderName, HeaderValue); 12]>,
}

/// Facts about the connection that the origin learns from headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Downstream<'a> {
    /// The authority of the target, which replaces a missing `Host`.
    pub(crate) authority: Option<&'a str>,
    pub(crate) client: Option<IpAddr>,
    /// `true` if the client connected over TLS.
    pub(crate) is_tls: bool,
}

impl HeaderEdits {
    /// Returns the changes for every forwarded request, with or without a session.
    ///
    /// # Errors
    /// If a value cannot be a header. Then the request must not be forwarded.
    pub(crate) fn new(
        headers: &HeaderMap,
        forwarded: &Forwarded,
        downstream: Downstream<'_>,
    ) -> Result<Self, InvalidHeaderValue> {
        let permit = &forwarded.permit;
        let mut edits = Self {
            remove: unwanted(headers, permit),
            set: SmallVec::new(),
        };
        edits.set_identity(permit);
        edits.strip_cookies(headers, permit);
        if let Some(id) = forwarded.id {
            edits
                .set
                .push((RAY, HeaderValue::try_from(id.to_string())?));
        }
        edits.set_forwarding(headers, forwarded.plain_http, downstream)?;
        Ok(edits)
    }

    /// Applies the changes to the headers that they were made for.
    pub(crate) fn apply(self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        let mut lines = self.set.into_iter().peekable();
        while let Some((name, value)) = lines.next() {
            // Inserted, so that a line of the client never stays beside ours.
            if lines.peek().is_some_and(|(next, _)| *next == name) {
                headers.insert(name.clone(), value);
                while let Some((name, value)) = lines.next_if(|(next, _)| *next == name) {
                    headers.append(name, value);
                }
            } else {
                headers.insert(name, value);
            }
        }
    }

    fn set_identity(&mut self, permit: &Permit) {
        if let Some(session) = permit.session() {
            let attributes = session.headers();
            self.set.extend(attributes.iter().cloned());
            // `apply` needs the lines of a name side by side, and two attributes may share a
            // header.
            if attributes.len() > 1 {
                self.set
                    .sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
            }
            if let Some(email) = session.email_header() {
                self.set.push((EMAIL, email.clone()));
            }
        }
        if let Some(assertion) = permit.assertion() {
            self.set.push((ASSERTION, assertion.clone()));
        }
    }

    fn strip_cookies(&mut self, headers: &HeaderMap, permit: &Permit) {
        // `unwanted` removes the cookies of an unchecked preflight.
        if is_unchecked(permit) {
            return;
        }
        // With a service client the engine did not examine the cookies, so ours are removed.
        if permit.application().settings().pass_cookies && permit.service_client().is_none() {
            return;
        }
        match cookie::without(headers, cookie::is_ours) {
            None => {}
            Some(None) => self.remove.push(header::COOKIE),
            Some(Some(rest)) => self.set.push((header::COOKIE, rest)),
        }
    }

    fn set_forwarding(
        &mut self,
        headers: &HeaderMap,
        plain_http: bool,
        downstream: Downstream<'_>,
    ) -> Result<(), InvalidHeaderValue> {
        let Downstream {
            authority,
            client,
            is_tls,
        } = downstream;
        if let Some(client) = client {
            let address = HeaderValue::from_bytes(&address(client))?;
            self.set.push((FORWARDED_FOR, address));
        }
        let host = match headers.get(header::HOST) {
            Some(host) => Some(host.clone()),
            None => authority.map(HeaderValue::try_from).transpose()?,
        };
        if let Some(host) = host {
            self.set.push((FORWARDED_HOST, host));
        }
        // A load balancer may end TLS in front of a plain listener. Then the team's scheme is the
        // browser's.
        let scheme = if is_tls || !plain_http {
            "https"
        } else {
            "http"
        };
        self.set
            .push((FORWARDED_PROTO, HeaderValue::from_static(scheme)));
        Ok(())
    }
}

/// Returns the names that a client must not send, among those that it sent.
fn unwanted(headers: &HeaderMap, permit: &Permit) -> SmallVec<[HeaderName; 8]> {
    let application = permit.application();
    let is_unchecked = is_unchecked(permit);
    let no_override = is_unchecked || application.asks_for_method();
    let no_authorization = is_unchecked || permit.takes_authorization();
    headers
        .keys()
        .filter(|&name| {
            application.is_reserved(name.as_str())
                || (no_override && is_method_override(name.as_str()))
                || (no_authorization && name == header::AUTHORIZATION)
                || (is_unchecked && name == header::COOKIE)
        })
        .cloned()
        .collect()
}

/// Returns `true` for a preflight that is forwarded without a check. It carries no credentials.
fn is_unchecked(permit: &Permit) -> bool {
    permit.session().is_none() && permit.policy().is_none()
}

/// Returns an IP address as text. Every request needs it, and formatting would cost more than the
/// rest of the edits.
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
    fn address_is_written_as_its_type_formats_it() {
        let all_octets = (0..=255_u8).map(|octet| IpAddr::from([octet, 255 - octet, 0, octet / 2]));
        let others =
            ["2001:db8::1", "::1", "fe80::aaaa:bbbb:cccc:dddd"].map(|text| text.parse().unwrap());
        for client in all_octets.chain(others) {
            assert_eq!(address(client).as_slice(), client.to_string().as_bytes());
        }
    }

    #[test]
    fn set_line_replaces_every_line_of_its_name() {
        let name = HeaderName::from_static("x-role");
        let mut headers = HeaderMap::new();
        for value in ["forged", "forged too"] {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        let set = ["reader", "writer"].map(|role| (name.clone(), HeaderValue::from_static(role)));
        let edits = HeaderEdits {
            remove: SmallVec::new(),
            set: set.into_iter().collect(),
        };
        edits.apply(&mut headers);
        let lines: Vec<_> = headers.get_all(&name).iter().collect();
        assert_eq!(lines, ["reader", "writer"]);
    }
}
