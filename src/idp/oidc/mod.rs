//! Logins over OpenID Connect, at Okta or any other provider.
//!
//! Decides which documents are fetched, which endpoints are called, and if a failed login is tried
//! again. Trusts the configured issuer, by its TLS certificate and its keys. Never calls the token
//! endpoint twice for one login. [`crate::oidc`] verifies the tokens.

mod body;
mod documents;
mod finish;
mod tokens;

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use url::Url;

use self::body::other_than_json;
use self::documents::Documents;
use super::failure::{Endpoint, GroupsFailure, LoginFailure, is_expired};
use super::okta::Directory;
use super::{Attempt, ClientSettings, OidcSettings, OktaSettings, Pending, StartedLogin};
use crate::http_client::{HttpClient, MAX_BODY};
use crate::model::{AbsentGroups, IdpId, IdpRef, Secret, UnixTime};
use crate::oidc::{
    self, FlowSecrets, GroupsClaim, Hints, Metadata, OAuthError, Prompt, PushedRequests,
};

/// An OpenID Connect provider: Okta or any other.
pub struct Oidc {
    settings: ClientSettings,
    kind: &'static str,
    scopes: Vec<String>,
    groups_claim: GroupsClaim,
    absent_groups: AbsentGroups,
    /// The API that lists groups beside the claims; only Okta has one.
    directory: Option<Directory>,
    pub(super) http: HttpClient,
    pub(super) redirect_uri: Url,
    pub(super) documents: Documents,
}

impl Oidc {
    pub(super) fn okta(settings: OktaSettings, http: HttpClient, redirect_uri: Url) -> Self {
        let documents = Documents::new(http.clone(), &settings.issuer(), None, &settings.client);
        let directory = Some(Directory::new(&settings, http.clone()));
        let wanted = |scope: &&str| settings.groups_scope || *scope != GROUPS_SCOPE;
        let scopes = OKTA_SCOPES
            .into_iter()
            .filter(wanted)
            .map(str::to_owned)
            .collect();
        Self {
            kind: super::KIND_OKTA,
            scopes,
            groups_claim: GroupsClaim::default(),
            // Okta also omits the claim if its filter is missing or matches too many groups.
            absent_groups: AbsentGroups::Unknown,
            directory,
            http,
            redirect_uri,
            documents,
            settings: settings.client,
        }
    }

    pub(super) fn new(settings: OidcSettings, http: HttpClient, redirect_uri: Url) -> Self {
        let OidcSettings {
            client: settings,
            issuer,
            endpoints,
            scopes,
            groups_claim,
            absent_groups,
        } = settings;
        let documents = Documents::new(http.clone(), &issuer, endpoints, &settings);
        Self {
            kind: super::KIND_OIDC,
            scopes,
            groups_claim,
            absent_groups,
            directory: None,
            http,
            redirect_uri,
            documents,
            settings,
        }
    }

    /// Returns the ID that rules and `allowed_idps` refer to.
    pub const fn id(&self) -> &IdpId {
        &self.settings.id
    }

    /// Returns the name on the login page.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub(super) const fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    pub(super) const fn directory(&self) -> Option<&Directory> {
        self.directory.as_ref()
    }

    pub(super) fn groups_claim(&self) -> &str {
        self.groups_claim.name()
    }

    pub(super) fn idp_ref(&self) -> IdpRef {
        IdpRef {
            id: self.settings.id.clone(),
            kind: self.kind.to_owned(),
        }
    }

    fn client(&self, metadata: &Metadata) -> Result<oidc::Client, LoginFailure> {
        let ClientSettings {
            client_id,
            credentials,
            auth_method,
            ..
        } = &self.settings;
        Ok(oidc::client(
            metadata,
            client_id,
            credentials,
            *auth_method,
            &self.redirect_uri,
        )?)
    }

    /// Starts a login. `state` returns in the callback; the caller binds it to the browser.
    ///
    /// # Errors
    /// If the discovery document cannot be fetched: [`Blame::Provider`](super::Blame::Provider).
    pub async fn begin(
        &self,
        state: &str,
        hints: Hints,
        now: UnixTime,
    ) -> Result<StartedLogin, LoginFailure> {
        let attempt = Attempt {
            prompted: hints.prompt == Some(Prompt::Login),
            ..Attempt::default()
        };
        self.request(state, hints, attempt, now).await
    }

    /// Starts the attempt that [`Oidc::next_attempt`] returned.
    ///
    /// # Errors
    /// As for [`Oidc::begin`].
    pub async fn begin_again(
        &self,
        state: &str,
        attempt: Attempt,
        now: UnixTime,
    ) -> Result<StartedLogin, LoginFailure> {
        let hints = Hints {
            prompt: attempt.prompted.then_some(Prompt::Login),
            ..Hints::default()
        };
        self.request(state, hints, attempt, now).await
    }

    /// Returns the next attempt if another one may succeed after this failure.
    ///
    /// That is the case if Okta could not fill the groups claim, the scope `groups` was requested,
    /// and its API can list the groups instead; or if the provider's sign-in page expired. Each
    /// reason counts once.
    pub fn next_attempt(&self, failure: &LoginFailure, pending: &Pending) -> Option<Attempt> {
        let attempt = pending.attempt;
        match failure {
            LoginFailure::Groups(GroupsFailure::Overfull) if !attempt.without_groups => {
                let useful = self.directory.as_ref().is_some_and(Directory::has_token)
                    && self.scopes.iter().any(|scope| scope == GROUPS_SCOPE);
                // The user has just signed in with the intended account, so there is no second
                // prompt.
                useful.then_some(Attempt {
                    without_groups: true,
                    prompted: false,
                    ..attempt
                })
            }
            LoginFailure::ProviderError { error, description }
                if is_expired(error, description.as_deref()) =>
            {
                (!attempt.after_expiry).then_some(Attempt {
                    after_expiry: true,
                    ..attempt
                })
            }
            _ => None,
        }
    }

    async fn request(
        &self,
        state: &str,
        hints: Hints,
        attempt: Attempt,
        now: UnixTime,
    ) -> Result<StartedLogin, LoginFailure> {
        let metadata = self.documents.metadata().await?;
        let secrets = FlowSecrets::random(Secret::new(state));
        let client = self.client(&metadata)?;
        let prompt = match (&self.settings.prompt, hints.prompt) {
            // The configured prompt also allows another account, and the provider may support no
            // other prompt.
            (Some(configured @ (Prompt::SelectAccount | Prompt::Login)), _) => {
                Some(configured.clone())
            }
            (_, Some(Prompt::Login)) => Some(metadata.account_prompt()),
            (configured, wanted) => wanted.or_else(|| configured.clone()),
        };
        let hints = Hints {
            prompt,
            max_age: self.settings.max_age,
            ..hints
        };
        let scopes = self.scopes(attempt);
        let mut url = oidc::authorization_url(&client, &secrets, &scopes, hints);
        let mut pushed_scopes = None;
        let requests = if self.settings.pushed_requests {
            PushedRequests::Always
        } else {
            PushedRequests::IfRequired
        };
        if let Some(endpoint) = metadata.pushed(requests)? {
            let request_uri = self.push(&client, &metadata, endpoint, &url, now).await?;
            url = oidc::pushed_url(&metadata, &self.settings.client_id, &request_uri);
            pushed_scopes = Some(scopes.join(" "));
        }
        let FlowSecrets {
            state: _,
            nonce,
            pkce_verifier,
        } = secrets;
        let (idp, issuer) = (self.settings.id.clone(), metadata.issuer().to_owned());
        Ok(StartedLogin {
            url,
            pending: Pending {
                nonce,
                pkce_verifier,
                idp,
                issuer,
                pushed_scopes,
                attempt,
            },
        })
    }

    fn scopes(&self, attempt: Attempt) -> Cow<'_, [String]> {
        let mut scopes = Cow::from(&self.scopes);
        if attempt.without_groups {
            scopes.to_mut().retain(|scope| scope != GROUPS_SCOPE);
        }
        scopes
    }

    /// Pushes the login request to the provider and returns its `request_uri` (RFC 9126 2.2).
    async fn push(
        &self,
        client: &oidc::Client,
        metadata: &Metadata,
        endpoint: &Url,
        login: &Url,
        now: UnixTime,
    ) -> Result<String, LoginFailure> {
        #[derive(Deserialize)]
        struct Pushed {
            request_uri: String,
        }
        let named = Endpoint::Pushed;
        let (authorization, form) =
            oidc::pushed_request(client, &self.settings.credentials, metadata, login, now)?;
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = authorization {
            let refused = |_| LoginFailure::Answer {
                endpoint: named,
                status: StatusCode::UNAUTHORIZED,
            };
            let mut authorization =
                HeaderValue::try_from(authorization.expose()).map_err(refused)?;
            authorization.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, authorization);
        }
        let answer = self
            .http
            .post(endpoint, headers, form.expose().to_owned().into(), MAX_BODY)
            .await;
        let answer = answer.map_err(|source| LoginFailure::Unreachable {
            endpoint: named,
            source,
        })?;
        let status = answer.status;
        if let Some(found) = other_than_json(&answer.headers, &answer.body) {
            return Err(LoginFailure::NotJson {
                endpoint: named,
                status,
                found,
            });
        }
        if status != StatusCode::CREATED {
            let error = serde_json::from_slice::<OAuthError>(&answer.body)
                .ok()
                .and_then(|error| error.summary());
            return Err(LoginFailure::PushedRequest { status, error });
        }
        let pushed: Pushed =
            serde_json::from_slice(&answer.body).map_err(|_| LoginFailure::PushedRequest {
                status,
                error: None,
            })?;
        Ok(pushed.request_uri)
    }

    /// Returns `true` if a logout also ends the provider's session.
    pub const fn ends_sessions(&self) -> bool {
        self.settings.provider_logout
    }

    /// Returns the URL that ends the provider's session and then redirects to `back` with `state`.
    /// `None` if that is not configured, the provider does not support it, or it cannot be reached.
    pub async fn end_session(&self, id_token: &Secret, back: &Url, state: &str) -> Option<Url> {
        if !self.settings.provider_logout {
            return None;
        }
        let metadata = self.documents.metadata().await.ok()?;
        let endpoint = metadata.end_session()?;
        Some(oidc::end_session_url(
            endpoint,
            id_token,
            &self.settings.client_id,
            back,
            state,
        ))
    }
}

/// The scopes requested at Okta. Without `groups`, there is no groups claim.
const OKTA_SCOPES: [&str; 4] = ["openid", "profile", "email", GROUPS_SCOPE];
const GROUPS_SCOPE: &str = "groups";
