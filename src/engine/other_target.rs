//! Requests that name a second resource in a header, as `COPY` and `MOVE` do.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;

use super::matching::{RouteMatch, match_route};
use super::reserved::is_spelt;
use super::{Application, Snapshot};
use crate::model::{CleanPath, HostPort, RequestView};

/// Returns `true` if every resource that the request names in a header belongs to the application,
/// too.
///
/// An origin acts on that resource, so the policies of another application must not be evaded by
/// it.
pub(super) fn stay_inside(
    snapshot: &Snapshot,
    application: &Arc<Application>,
    request: &RequestView<'_>,
) -> bool {
    // These methods copy and move nothing.
    if matches!(*request.method, Method::GET | Method::HEAD) {
        return true;
    }
    let names_target = |name: &str| OTHER_TARGETS.iter().any(|ours| is_spelt(name, ours));
    request
        .headers
        .iter()
        .filter(|(name, _)| names_target(name.as_str()))
        .all(|(_, value)| {
            let target = value.to_str().ok().and_then(Target::parse);
            target.is_some_and(|target| {
                target.is_inside(snapshot, application, &request.authority.host)
            })
        })
}

/// The resource that a header names.
struct Target<'a> {
    authority: Option<HostPort<'a>>,
    path: Cow<'a, str>,
}

impl<'a> Target<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        // An origin that does not cut off the query would read it as a part of the path. No
        // resource has a fragment.
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        if text.contains('#') || query.contains(['/', '\\', '%', '#']) {
            return None;
        }
        // `//host/path` and `http:/path` are references to some origins, and paths to others.
        let has_prefix = |prefix: &str| {
            text.get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if has_prefix("//")
            || !text.contains("://") && (has_prefix("http:") || has_prefix("https:"))
        {
            return None;
        }
        let Some((_, rest)) = text.split_once("://") else {
            // S3 and Swift take a bucket without a slash in front.
            let path = if text.starts_with('/') {
                Cow::Borrowed(text)
            } else {
                Cow::Owned(format!("/{text}"))
            };
            return Some(Self {
                authority: None,
                path,
            });
        };
        let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
        let path = if path.is_empty() { "/" } else { path };
        Some(Self {
            authority: Some(HostPort::parse(authority).ok()?),
            path: Cow::Borrowed(path),
        })
    }

    /// Origins that serve one host take the path alone, so it counts for the request's host in any
    /// case.
    fn is_inside(&self, snapshot: &Snapshot, application: &Arc<Application>, host: &str) -> bool {
        let Ok(path) = CleanPath::parse(&self.path) else {
            return false;
        };
        let is_ours = |found: &Arc<Application>| Arc::ptr_eq(found, application);
        let here = matches!(match_route(snapshot, host, &path), Ok(RouteMatch::Application(found)) if is_ours(found));
        let there = self.authority.as_ref().is_none_or(|authority| {
            match match_route(snapshot, &authority.host, &path) {
                Ok(RouteMatch::Application(found)) => is_ours(found),
                // No policy protects a host that this team does not have. The path was checked for
                // this host above.
                Ok(RouteMatch::Nowhere) => true,
                Ok(RouteMatch::Endpoint { .. }) | Err(_) => false,
            }
        });
        here && there
    }
}

/// `Destination` of WebDAV (RFC 4918 10.3), and the sources of copies in S3 and Swift.
const OTHER_TARGETS: [&str; 3] = ["destination", "x-amz-copy-source", "x-copy-from"];
