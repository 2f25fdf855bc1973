use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use openidconnect::core::CoreTokenType;
use openidconnect::{
    AsyncHttpClient as _, HttpRequest, OAuth2TokenResponse as _, RequestTokenError,
};
use serde::Deserialize;
use tracing::{info, warn};
use url::Url;

use super::body::{BYTE_ORDER_MARK, JSON, compact_jws, other_than_json, says_too_many_groups};
use super::documents::{Documents, refused};
use super::failure::{EmailFailure, Endpoint, GroupsFailure, LoginFailure, is_too_many_groups};
use super::meaning::is_expired;
use super::okta::{Directory, whole};
use super::{
    Attempt, Begun, ClientSettings, GroupsMissing, OidcSettings, OktaSettings, Pending, Profile,
};
use crate::http_client::{HttpClient, MAX_BODY};
use crate::model::{
    AbsentGroups, Email, Groups, GroupsSeen, GroupsSource, IdpRef, Secret, UnixTime, is_groups,
    json,
};
use crate::oidc::{
    self, Absence, AnsweredScopes, Callback, ClaimedEmail, ClaimedGroups, ClaimsError, Credentials,
    EmailVerification, ErrorAnswer, Expected, FlowSecrets, Grant, GroupsClaim, Hints, Metadata,
    Prompt, UserClaims, VerifiedIdToken,
};
use crate::policy::is_comparable;

/// An OpenID Connect provider: Okta or any other.
pub(super) struct Connection {
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

pub(super) struct Tokens {
    id_token: String,
    access_token: String,
    scopes: AnsweredScopes,
}

impl Connection {
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

    pub(super) fn oidc(settings: OidcSettings, http: HttpClient, redirect_uri: Url) -> Self {
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

    pub(super) async fn begin(
        &self,
        state: &str,
        hints: Hints,
        now: UnixTime,
    ) -> Result<Begun, LoginFailure> {
        let attempt = Attempt {
            prompted: hints.prompt == Some(Prompt::Login),
            ..Attempt::default()
        };
        self.request(state, hints, attempt, now).await
    }

    pub(super) async fn begin_again(
        &self,
        state: &str,
        attempt: Attempt,
        now: UnixTime,
    ) -> Result<Begun, LoginFailure> {
        let hints = Hints {
            prompt: attempt.prompted.then_some(Prompt::Login),
            ..Hints::default()
        };
        self.request(state, hints, attempt, now).await
    }

    pub(super) fn next_attempt(
        &self,
        failure: &LoginFailure,
        pending: &Pending,
    ) -> Option<Attempt> {
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
    ) -> Result<Begun, LoginFailure> {
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
        if let Some(endpoint) = metadata.pushed(self.settings.pushed_requests)? {
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
        Ok(Begun {
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
            let error = serde_json::from_slice::<ErrorAnswer>(&answer.body)
                .ok()
                .and_then(|answer| answer.told());
            return Err(LoginFailure::PushedRequest { status, error });
        }
        let pushed: Pushed =
            serde_json::from_slice(&answer.body).map_err(|_| LoginFailure::PushedRequest {
                status,
                error: None,
            })?;
        Ok(pushed.request_uri)
    }

    /// Returns the URL that ends the provider's session, if that is configured and the provider
    /// supports it.
    pub(super) async fn end_session(
        &self,
        id_token: &Secret,
        back: &Url,
        state: &str,
    ) -> Option<Url> {
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

    pub(super) async fn finish(
        &self,
        state: &Secret,
        pending: &Pending,
        callback: &Callback,
        now: UnixTime,
        leeway: Duration,
        client_ip: Option<IpAddr>,
    ) -> Result<Profile, LoginFailure> {
        // RFC 9700 2.1: the flow records its provider, so a callback cannot be replayed to another
        // one.
        if pending.idp != self.settings.id || pending.issuer != self.documents.issuer() {
            return Err(LoginFailure::Flow);
        }
        let metadata = self.documents.metadata().await?;
        let code = callback.code(state, metadata.issuer(), metadata.iss_promised())?;
        let tokens = self.exchange(&metadata, code, pending, now).await?;
        let id_token = self
            .verify(&metadata, &tokens, pending, now, leeway)
            .await?;
        let expected = self.expected(&metadata, &tokens, pending, now, leeway);
        let userinfo = self
            .userinfo(&metadata, &tokens, &id_token, &expected)
            .await?;
        let email_claim = self.settings.email_claim_name.as_deref().unwrap_or("email");
        let (groups_claim, wanted) = (&self.groups_claim, &self.settings.claims);
        let grant = Grant::new(
            &self.scopes(pending.attempt),
            &tokens.scopes,
            pending.pushed_scopes.as_deref(),
        );
        let absence = match userinfo {
            Some(_) if grant.is_complete() => Absence::Proven,
            _ => Absence::Unproven,
        };
        let claimed = oidc::merge(
            &id_token,
            userinfo.as_ref(),
            email_claim,
            groups_claim,
            wanted,
            absence,
        );
        for claim in &claimed.unreadable {
            warn!(idp = %self.settings.id.0, claim, "ignoring an unreadable claim; its value is unknown");
        }
        for (claim, _) in claimed
            .claims
            .iter()
            .filter(|(name, value)| !is_groups(name) && !is_comparable(value))
        {
            warn!(idp = %self.settings.id.0, claim, "a claim holds a value that rules cannot compare; rules about it are unknown");
        }
        for claim in &claimed.unproven {
            info!(idp = %self.settings.id.0, claim, "{ABSENCE_UNPROVEN}");
        }
        let email = match &claimed.email {
            ClaimedEmail::Claimed(text) => text,
            ClaimedEmail::Absent => return Err(LoginFailure::Email(EmailFailure::Missing)),
            ClaimedEmail::Unreadable => return Err(LoginFailure::Email(EmailFailure::Unreadable)),
        };
        // Okta vouches for the addresses of its directory and does not have to send
        // `email_verified`.
        let shown = || oidc::tame(email, LONGEST_ADDRESS);
        match (claimed.email_verified, self.settings.email_verified) {
            (None, EmailVerification::Optional) if grant.lacks(EMAIL_SCOPE) => {
                return Err(LoginFailure::Email(EmailFailure::ScopeNotGranted));
            }
            (Some(true), _) | (None, EmailVerification::Optional) => {}
            (Some(false), _) => return Err(LoginFailure::Email(EmailFailure::Unverified(shown()))),
            (None, EmailVerification::Required) => {
                return Err(LoginFailure::Email(EmailFailure::Unconfirmed(shown())));
            }
        }
        let email = Email::parse(email).map_err(|e| LoginFailure::Email(e.into()))?;
        let (claimed_groups, missing) =
            self.absence(claimed.groups, &id_token.claims, userinfo.as_ref(), &grant);
        // Okta could not fill the claim, so its value now is incomplete.
        let claimed_groups = if pending.attempt.without_groups {
            ClaimedGroups::Elsewhere
        } else {
            claimed_groups
        };
        let (groups, groups_seen) = match &self.directory {
            Some(directory) => {
                directory
                    .groups(claimed_groups, claimed.groups_source, &claimed.subject, now)
                    .await
            }
            None => Ok(claimed_only(claimed_groups, claimed.groups_source, now)),
        }
        .map_err(LoginFailure::Groups)?;
        let missing = missing
            .filter(|missing| groups == Groups::Unknown || *missing == GroupsMissing::TakenAsNone);
        let mut claims = claimed.claims;
        groups.tell(&mut claims);
        Ok(Profile {
            subject: claimed.subject,
            email,
            name: claimed.name,
            idp: self.idp_ref(),
            groups,
            groups_seen,
            groups_missing: missing,
            amr: claimed.amr,
            claims,
            headers: Vec::new(),
            at: now,
            ip: client_ip,
            session_ends: None,
            id_token: self
                .settings
                .provider_logout
                .then(|| Secret::new(tokens.id_token)),
        })
    }

    /// Exchanges the code in exactly one call. If a code is used twice, the provider revokes the
    /// first tokens too (RFC 6749 4.1.2).
    pub(super) async fn exchange(
        &self,
        metadata: &Metadata,
        code: &Secret,
        pending: &Pending,
        now: UnixTime,
    ) -> Result<Tokens, LoginFailure> {
        let (status, other) = (Arc::new(AtomicU16::new(0)), Arc::new(OnceLock::new()));
        let client = self.client(metadata)?;
        let credentials: &Credentials = &self.settings.credentials;
        let request = oidc::code_request(
            &client,
            credentials,
            metadata,
            (code, &pending.pkce_verifier),
            now,
        )?;
        let send = |request: HttpRequest| {
            let (http, status, other) =
                (self.http.clone(), Arc::clone(&status), Arc::clone(&other));
            async move {
                let mut answer = http.call(request).await?;
                if let Cow::Owned(mended) = json::mended(answer.body()) {
                    *answer.body_mut() = mended.into_bytes();
                } else if let Some(rest) = answer.body().strip_prefix(BYTE_ORDER_MARK) {
                    *answer.body_mut() = rest.to_vec();
                }
                status.store(answer.status().as_u16(), Ordering::Relaxed);
                match other_than_json(answer.headers(), answer.body()) {
                    Some(found) => drop(other.set(found)),
                    // JSON is accepted under any content type.
                    None => drop(answer.headers_mut().insert(header::CONTENT_TYPE, JSON)),
                }
                Ok(answer)
            }
        };
        let result = request.request_async(&send).await;
        let failed = |error| {
            let status = StatusCode::from_u16(status.load(Ordering::Relaxed))
                .unwrap_or(StatusCode::BAD_GATEWAY);
            match other.get() {
                Some(found) => LoginFailure::NotJson {
                    endpoint: Endpoint::Token,
                    status,
                    found: *found,
                },
                None => LoginFailure::TokenEndpoint { status, error },
            }
        };
        let response: oidc::TokenResponse = result.map_err(|error| match error {
            RequestTokenError::Request(source) => LoginFailure::Unreachable {
                endpoint: Endpoint::Token,
                source,
            },
            RequestTokenError::ServerResponse(answer) => match answer.told() {
                Some(told) if is_too_many_groups(&told) => {
                    LoginFailure::Groups(GroupsFailure::Overfull)
                }
                told => failed(told),
            },
            // The response itself is dropped, because it may contain a token.
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => failed(None),
        })?;
        if !matches!(response.token_type(), CoreTokenType::Bearer) {
            return Err(failed(Some("a token type other than bearer".to_owned())));
        }
        let id_token = response
            .id_token()
            .ok_or_else(|| failed(Some("no ID token".to_owned())))?
            .to_owned();
        let access_token =
            Some(response.access_token().secret().clone()).filter(|token| !token.is_empty());
        let access_token =
            access_token.ok_or_else(|| failed(Some("no access token".to_owned())))?;
        Ok(Tokens {
            id_token,
            access_token,
            scopes: response.granted().clone(),
        })
    }

    /// Verifies the ID token. If no known key signed it, the keys are fetched once more, within the
    /// budget.
    async fn verify(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        pending: &Pending,
        now: UnixTime,
        leeway: Duration,
    ) -> Result<VerifiedIdToken, LoginFailure> {
        let expected = self.expected(metadata, tokens, pending, now, leeway);
        let keys = self.documents.keys(metadata).await?;
        match oidc::verify(&tokens.id_token, &keys, &expected) {
            Err(error) if error.may_be_rotation() => {
                let keys = self.documents.rotated_keys(metadata, &keys).await?;
                Ok(oidc::verify(&tokens.id_token, &keys, &expected)?)
            }
            result => Ok(result?),
        }
    }

    fn expected<'a>(
        &'a self,
        metadata: &'a Metadata,
        tokens: &'a Tokens,
        pending: &'a Pending,
        now: UnixTime,
        leeway: Duration,
    ) -> Expected<'a> {
        Expected {
            issuer: metadata.issuer(),
            client_id: &self.settings.client_id,
            trusted_audiences: self.settings.trusted_audiences.as_deref(),
            nonce: &pending.nonce,
            access_token: &tokens.access_token,
            now,
            max_age: self.settings.max_age,
            leeway,
        }
    }

    /// Fetches the userinfo response. Every login does so, because an ID token does not reveal
    /// which claims it omits.
    async fn userinfo(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        id_token: &VerifiedIdToken,
        expected: &Expected<'_>,
    ) -> Result<Option<UserClaims>, LoginFailure> {
        let endpoint = Endpoint::Userinfo;
        let Some(url) = metadata.userinfo() else {
            return Ok(None);
        };
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", tokens.access_token))
            .map_err(|_| LoginFailure::TokenEndpoint {
                status: StatusCode::OK,
                error: Some("no usable token".into()),
            })?;
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let answer = self
            .http
            .get(url, headers, MAX_BODY)
            .await
            .map_err(|source| LoginFailure::Unreachable { endpoint, source })?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST if says_too_many_groups(&answer) => {
                return Err(LoginFailure::Groups(GroupsFailure::Overfull));
            }
            _ => return Err(refused(endpoint, &answer)),
        }
        if let Some(token) = compact_jws(&answer.body) {
            return self
                .signed_userinfo(metadata, token, expected, &id_token.subject)
                .await
                .map(Some);
        }
        let claims = oidc::userinfo(
            answer.is_type("application/json"),
            &answer.body,
            &id_token.subject,
        )?;
        Ok(Some(claims))
    }

    /// Verifies a signed userinfo response. As for an ID token, the keys are fetched once more if
    /// no known key signed it.
    async fn signed_userinfo(
        &self,
        metadata: &Metadata,
        token: &str,
        expected: &Expected<'_>,
        subject: &str,
    ) -> Result<UserClaims, LoginFailure> {
        let keys = self.documents.keys(metadata).await?;
        match oidc::signed_userinfo(token, &keys, expected, subject) {
            Err(ClaimsError::Signature) => {
                let keys = self.documents.rotated_keys(metadata, &keys).await?;
                Ok(oidc::signed_userinfo(token, &keys, expected, subject)?)
            }
            result => Ok(result?),
        }
    }

    /// Returns the reason why the claims hold no groups, and applies `absent_groups` if neither
    /// document has the claim.
    fn absence(
        &self,
        groups: ClaimedGroups,
        id_token: &UserClaims,
        userinfo: Option<&UserClaims>,
        grant: &Grant,
    ) -> (ClaimedGroups, Option<GroupsMissing>) {
        let documents = || [Some(id_token), userinfo].into_iter().flatten();
        let left_out = documents().any(GroupsClaim::are_left_out_of);
        let missing = match groups {
            ClaimedGroups::Claimed(_) => return (groups, None),
            ClaimedGroups::Elsewhere => GroupsMissing::Reference,
            ClaimedGroups::Absent | ClaimedGroups::Unreadable if left_out => {
                GroupsMissing::Reference
            }
            ClaimedGroups::Unreadable => GroupsMissing::Unreadable,
            ClaimedGroups::Absent if self.absent_groups == AbsentGroups::Unknown => {
                GroupsMissing::LeftOut
            }
            ClaimedGroups::Absent if userinfo.is_none() => GroupsMissing::NoUserinfo,
            ClaimedGroups::Absent if !grant.is_complete() => GroupsMissing::ScopeNotGranted,
            ClaimedGroups::Absent => {
                return (
                    ClaimedGroups::Claimed(Vec::new()),
                    Some(GroupsMissing::TakenAsNone),
                );
            }
        };
        (groups, Some(missing))
    }
}

/// Returns the groups of a provider without an API: claimed groups are complete, and others are
/// unknown.
fn claimed_only(
    claimed: ClaimedGroups,
    source: GroupsSource,
    now: UnixTime,
) -> (Groups, Option<GroupsSeen>) {
    match claimed {
        ClaimedGroups::Claimed(names) => whole(names, source, now),
        ClaimedGroups::Elsewhere | ClaimedGroups::Absent | ClaimedGroups::Unreadable => {
            (Groups::Unknown, None)
        }
    }
}

/// RFC 5321 4.5.3.1.3, without the angle brackets.
const LONGEST_ADDRESS: usize = 254;

/// The scopes requested at Okta. Without `groups`, there is no groups claim.
const OKTA_SCOPES: [&str; 4] = ["openid", "profile", "email", GROUPS_SCOPE];
const GROUPS_SCOPE: &str = "groups";
/// The scope of the claims `email` and `email_verified` (OpenID Connect Core 5.4).
const EMAIL_SCOPE: &str = "email";
const ABSENCE_UNPROVEN: &str = "the claim is unknown: it is absent, and there is no userinfo response or not every \
                                requested scope is known to be granted";
