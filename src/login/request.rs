use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::model::{RequestId, Support, UnixTime};
use crate::route::Endpoint;

/// The part that a host plays for the team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostRole {
    /// The team domain, where users log in.
    Team,
    /// The host of an application.
    Application,
}

/// A request to one of our own endpoints, taken out of the native one.
#[derive(Debug)]
pub(crate) struct PortalRequest {
    pub(crate) endpoint: Endpoint,
    /// The kind of host that the request was sent to.
    pub(crate) host_role: HostRole,
    pub(crate) method: Method,
    /// Canonical.
    pub(crate) host: String,
    /// Canonical.
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) client: IpAddr,
    /// Empty unless the method is POST; as long as the endpoint takes at most.
    pub(crate) body: Bytes,
    pub(crate) id: RequestId,
    /// The contact that pages name.
    pub(crate) support: Option<Arc<Support>>,
    pub(crate) now: UnixTime,
}

impl PortalRequest {
    /// The value of a query parameter; `None` also where it stands twice.
    pub(crate) fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        let query = self.query.as_deref().unwrap_or_default();
        let mut found =
            url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| *key == *name);
        let value = found.next().map(|(_, value)| value);
        value.filter(|_| found.next().is_none())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
