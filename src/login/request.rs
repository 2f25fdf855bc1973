use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::engine::Team;
use crate::model::{RequestId, RequestView, Support, UnixTime};
use crate::route::{Endpoint, HostRole};

/// A request to one of our endpoints, read from the front's native request.
#[derive(Debug)]
pub(crate) struct PortalRequest {
    pub(crate) endpoint: Endpoint,
    pub(crate) host_role: HostRole,
    pub(crate) method: Method,
    /// Canonical.
    pub(crate) host: String,
    /// Canonical.
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) client: IpAddr,
    /// Empty unless the method is POST; at most as long as the endpoint accepts.
    pub(crate) body: Bytes,
    pub(crate) id: RequestId,
    /// The support contact for pages.
    pub(crate) support: Option<Arc<Support>>,
    pub(crate) now: UnixTime,
}

impl PortalRequest {
    /// Copies a request to one of our endpoints. The front adds the body.
    pub(crate) fn new(
        request: &RequestView<'_>,
        endpoint: Endpoint,
        host_role: HostRole,
        team: &Team,
        now: UnixTime,
    ) -> Self {
        Self {
            endpoint,
            host_role,
            method: request.method.clone(),
            host: request.authority.host.to_string(),
            path: request.path.normalized().into_owned(),
            query: request.query.map(str::to_owned),
            headers: request.headers.clone(),
            client: request.client,
            body: Bytes::new(),
            id: RequestId::random(),
            support: team.support.clone(),
            now,
        }
    }

    /// Returns the value of a query parameter; `None` if it occurs twice.
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
