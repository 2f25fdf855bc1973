//! Checks of an identity provider that need no browser.
//!
//! Decides nothing: it makes the calls of a login with the login's own code, and reports each
//! result with a remedy. Never signs a user in, never shows a credential, and never makes a call
//! that a login or a refresh would not make.

mod oidc;
mod saml;

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use url::{Host, Url};

use super::{GroupsFailure, LoginFailure};
use crate::http_client::{self, HttpClient, HttpError, MAX_BODY, Step as CallStep};
use crate::model::chain;
use crate::oidc::one_line;

/// The checks, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The signing certificates of a SAML provider.
    Certificate,
    /// The addresses of the host.
    Name,
    /// The TCP connection, and TLS with the roots that logins trust.
    Connection,
    /// Any response of a SAML provider.
    Answer,
    /// The discovery document.
    Discovery,
    /// The issuer that tokens must name.
    Issuer,
    /// The keys that ID tokens are signed with.
    Keys,
    /// The login request: client ID, redirect URI and scopes.
    Request,
    /// The client's secret or key.
    Credentials,
    /// The token for Okta's API.
    ApiToken,
    /// The permission of the API token to read groups.
    Groups,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything is in order.
    Good,
    /// Logins work but an operator should look at this, or the result is inconclusive.
    Warning,
    /// Logins do not work.
    Failed,
    /// Not reached, or not applicable.
    Skipped,
}

/// The result of one check. It contains no secret; text from the provider is cut and on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check.
    pub step: Step,
    /// The result.
    pub outcome: Status,
    /// The details, or the fault.
    pub found: String,
    /// The remedy, if there is one.
    pub advice: Option<Cow<'static, str>>,
}

/// The values to register at the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Registration {
    /// For an OpenID Connect provider.
    Oidc {
        /// The redirect URI of logins.
        sign_in_redirect_uri: Url,
        /// The redirect URI of logouts, if they go to the provider.
        sign_out_redirect_uri: Option<Url>,
    },
    /// For a SAML provider.
    Saml {
        /// The single sign-on URL (ACS) of this service provider.
        acs_url: String,
        /// The audience (entity ID) of this service provider; identical to the ACS URL.
        entity_id: String,
        /// The URL of our metadata, with both values and our certificates, for providers that read
        /// it.
        metadata_url: Option<Url>,
    },
}

impl Step {
    /// Returns the name shown to operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Name => "name",
            Self::Connection => "connection",
            Self::Answer => "answer",
            Self::Discovery => "discovery",
            Self::Issuer => "issuer",
            Self::Keys => "signing keys",
            Self::Request => "login request",
            Self::Credentials => "client credentials",
            Self::ApiToken => "API token",
            Self::Groups => "groups API",
        }
    }
}

/// The receiver of findings.
struct Report<'a>(&'a mut (dyn FnMut(Finding) + Send));

impl Report<'_> {
    fn add(&mut self, step: Step, outcome: Status, found: &str, advice: Option<Cow<'static, str>>) {
        let advice = advice.map(|advice| one_line(&advice, MAX_TEXT).into());
        (self.0)(Finding {
            step,
            outcome,
            found: one_line(found, MAX_TEXT),
            advice,
        });
    }

    fn good(&mut self, step: Step, found: &str) {
        self.add(step, Status::Good, found, None);
    }

    fn warning(&mut self, step: Step, found: &str, advice: Option<&'static str>) {
        self.add(step, Status::Warning, found, advice.map(Cow::from));
    }

    fn failed(&mut self, step: Step, found: &str, advice: Option<Cow<'static, str>>) {
        self.add(step, Status::Failed, found, advice);
    }

    fn login_failed(&mut self, step: Step, failure: &LoginFailure) {
        self.failed(step, &describe(failure), failure.advice().map(Cow::from));
    }

    fn skipped(&mut self, steps: &[Step]) {
        for step in steps {
            self.add(*step, Status::Skipped, "not tried", None);
        }
    }

    /// Checks the host name and the connection. Returns the outcome of a first call if there was a
    /// connection.
    async fn reach(
        &mut self,
        http: &HttpClient,
        url: &Url,
    ) -> Option<Result<StatusCode, HttpError>> {
        let proxy = http.proxy_for(url);
        if let Some(proxy) = proxy {
            self.add(
                Step::Name,
                Status::Skipped,
                &format!("resolved by the proxy `{proxy}`"),
                None,
            );
        } else if !self.name(url).await {
            self.skipped(&[Step::Connection]);
            return None;
        }
        let (host, port) = (
            url.host_str().unwrap_or_default(),
            url.port_or_known_default().unwrap_or_default(),
        );
        let answer = http.get(url, accept("*/*"), MAX_BODY).await;
        if let Err(
            failure @ (HttpError::Url { .. }
            | HttpError::Resolve { .. }
            | HttpError::Connect { .. }
            | HttpError::Proxy { .. }
            | HttpError::Tls { .. }
            | HttpError::Timeout {
                step: CallStep::Connect,
                ..
            }),
        ) = &answer
        {
            self.failed(
                Step::Connection,
                &failure.with_cause(),
                failure.advice().map(Cow::from),
            );
            return None;
        }
        let how = if url.scheme() == "https" {
            "over TLS, with a trusted certificate"
        } else {
            "without TLS"
        };
        let through = proxy
            .map(|proxy| format!(", through the proxy `{proxy}`"))
            .unwrap_or_default();
        self.good(
            Step::Connection,
            &format!("to `{host}`, port {port}, {how}{through}"),
        );
        Some(answer.map(|answer| answer.status))
    }

    async fn name(&mut self, url: &Url) -> bool {
        let Some(Host::Domain(host)) = url.host() else {
            self.add(
                Step::Name,
                Status::Skipped,
                "the configuration uses an IP address",
                None,
            );
            return true;
        };
        let found = tokio::time::timeout(LOOKUP, http_client::addresses(host)).await;
        let wrong = match found {
            Ok(Ok(found)) if !found.is_empty() => {
                let found: Vec<_> = found.iter().map(ToString::to_string).collect();
                self.good(Step::Name, &format!("`{host}` is {}", found.join(", ")));
                return true;
            }
            Ok(Ok(_)) => format!("`{host}` has no address"),
            Ok(Err(error)) => format!("`{host}` has no address: {error}"),
            Err(_) => format!(
                "no response within {} s for the address of `{host}`",
                LOOKUP.as_secs()
            ),
        };
        let advice = "check the spelling of the host, and this machine's resolver (`getent hosts`)";
        self.failed(Step::Name, &wrong, Some(advice.into()));
        false
    }
}

/// Describes a failure with its causes.
fn describe(failure: &LoginFailure) -> String {
    match failure {
        LoginFailure::Unreachable { source, .. } => format!("{failure}: {}", source.with_cause()),
        LoginFailure::Groups(source) => describe_groups_failure(source),
        _ => chain(failure),
    }
}

fn describe_groups_failure(failure: &GroupsFailure) -> String {
    match failure {
        GroupsFailure::Unreachable(source) => format!("{failure}: {}", source.with_cause()),
        _ => failure.to_string(),
    }
}

fn accept(types: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(types))])
}

/// The limit for connecting at a login.
const LOOKUP: Duration = Duration::from_secs(5);

/// The maximum length of a text, in characters.
const MAX_TEXT: usize = 600;
