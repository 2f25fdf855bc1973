//! Everything about an identity provider that can be tried without a browser.
//!
//! Decides nothing: it makes the calls that a login makes, by the login's own code, and says how
//! each ended and what to change. Never logs anybody in, never shows a credential, and never calls
//! anything that a login or a refresh would not.

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
use crate::oidc::tame;

/// What is tried, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The certificates that a SAML provider signs with.
    Certificate,
    /// The host's addresses.
    Name,
    /// TCP, and TLS by the roots that logins trust.
    Connection,
    /// An answer of a SAML provider, whichever.
    Answer,
    /// The discovery document.
    Discovery,
    /// The name that tokens must be from.
    Issuer,
    /// The keys that ID tokens are signed with.
    Keys,
    /// The request of a login: client id, redirect URI and scopes.
    Request,
    /// The client's secret or key.
    Credentials,
    /// The token for Okta's API.
    ApiToken,
    /// What that may read.
    Groups,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should.
    Good,
    /// Logins work, but somebody should look at it; or it could not be told.
    Warning,
    /// Logins do not work.
    Failed,
    /// It was not come to, or there is nothing to try.
    Skipped,
}

/// The end of one step. Holds no secret; what the provider said in it is cut and on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of which.
    pub step: Step,
    /// How.
    pub outcome: Outcome,
    /// What was found, or what is wrong.
    pub found: String,
    /// What to change, where something is to be changed and that is known.
    pub advice: Option<Cow<'static, str>>,
}

/// What has to be registered at the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Registration {
    /// At an OpenID Connect provider.
    Oidc {
        /// Where logins come back to.
        sign_in_redirect_uri: Url,
        /// Where logouts come back to, if they go to the provider.
        sign_out_redirect_uri: Option<Url>,
    },
    /// At a SAML provider.
    Saml {
        /// The single sign-on URL, or ACS, of this end.
        acs_url: String,
        /// The audience, or entity id, of this end: the same.
        entity_id: String,
        /// Where both, and the certificates of this end, stand for providers that read them.
        metadata_url: Option<Url>,
    },
}

impl Step {
    /// What people call it.
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

/// Where findings go.
struct Report<'a>(&'a mut (dyn FnMut(Finding) + Send));

impl Report<'_> {
    fn tell(
        &mut self,
        step: Step,
        outcome: Outcome,
        found: &str,
        advice: Option<Cow<'static, str>>,
    ) {
        let advice = advice.map(|advice| tame(&advice, MAX_TEXT).into());
        (self.0)(Finding {
            step,
            outcome,
            found: tame(found, MAX_TEXT),
            advice,
        });
    }

    fn good(&mut self, step: Step, found: &str) {
        self.tell(step, Outcome::Good, found, None);
    }

    fn warning(&mut self, step: Step, found: &str, advice: Option<&'static str>) {
        self.tell(step, Outcome::Warning, found, advice.map(Cow::from));
    }

    fn failed(&mut self, step: Step, found: &str, advice: Option<Cow<'static, str>>) {
        self.tell(step, Outcome::Failed, found, advice);
    }

    fn login_failed(&mut self, step: Step, failure: &LoginFailure) {
        self.failed(step, &told(failure), failure.advice().map(Cow::from));
    }

    fn skipped(&mut self, steps: &[Step]) {
        for step in steps {
            self.tell(*step, Outcome::Skipped, "not tried", None);
        }
    }

    /// The first two steps with any host: its name, and a connection to it. What came of a first
    /// call, where there was a connection.
    async fn reach(
        &mut self,
        http: &HttpClient,
        url: &Url,
    ) -> Option<Result<StatusCode, HttpError>> {
        let proxy = http.proxy_for(url);
        if let Some(proxy) = proxy {
            self.tell(
                Step::Name,
                Outcome::Skipped,
                &format!("the proxy `{proxy}` looks it up"),
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
                &failure.told(),
                failure.advice().map(Cow::from),
            );
            return None;
        }
        let how = if url.scheme() == "https" {
            "over TLS, by a certificate that is trusted"
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
            self.tell(
                Step::Name,
                Outcome::Skipped,
                "the configuration holds an address",
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
                "nobody says within {} s what the address of `{host}` is",
                LOOKUP.as_secs()
            ),
        };
        let advice = "check the spelling of the host, and this machine's resolver (`getent hosts`)";
        self.failed(Step::Name, &wrong, Some(advice.into()));
        false
    }
}

/// What happened, with its causes.
fn told(failure: &LoginFailure) -> String {
    match failure {
        LoginFailure::Unreachable { source, .. } => format!("{failure}: {}", source.told()),
        LoginFailure::Groups(source) => groups_told(source),
        _ => chain(failure),
    }
}

fn groups_told(failure: &GroupsFailure) -> String {
    match failure {
        GroupsFailure::Unreachable(source) => format!("{failure}: {}", source.told()),
        _ => failure.to_string(),
    }
}

fn accept(types: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(types))])
}

/// As long as a login waits for a connection.
const LOOKUP: Duration = Duration::from_secs(5);

/// In characters.
const MAX_TEXT: usize = 600;
