use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use openidconnect::core::CoreTokenType;
use openidconnect::{
    AsyncHttpClient as _, AuthorizationCode, HttpRequest, OAuth2TokenResponse as _, PkceCodeVerifier, RequestTokenError,
};
use url::Url;

use super::documents::{Ages, Documents};
use super::failure::{EmailFailure, Endpoint, GroupsFailure, LoginFailure, is_too_many_groups};
use super::groups::GroupsApi;
use super::{Begun, Pending, Profile};
use crate::http_client::{HttpClient, MAX_BODY, Response};
use crate::model::{Email, Group, Groups, IdpId, IdpRef, Secret, UnixTime};
use crate::oidc::{self, Callback, ClaimedGroups, Expected, FlowSecrets, Metadata, UserClaims, VerifiedIdToken};

/// An Okta connection, in the words of Access's `config`.
#[derive(Clone, Debug)]
pub struct OktaSettings {
    /// What rules and `allowed_idps` refer to.
    pub id: IdpId,
    /// What the login page calls it.
    pub name: String,
    /// Of the application in Okta.
    pub client_id: String,
    /// Of the application in Okta.
    pub client_secret: Secret,
    /// `https://<name>.okta.com`, and never the `-admin` host.
    pub okta_account: Url,
    /// A custom authorization server; `None` is the org server, whose issuer is the account itself.
    pub authorization_server_id: Option<String>,
    /// For reading all groups of a person where the claim cannot hold them. Reading rights are enough.
    pub api_token: Option<Secret>,
    /// Claims to keep for policies and origins.
    pub claims: Vec<String>,
    /// The claim that holds the address, where it is not `email`.
    pub email_claim_name: Option<String>,
    /// How long what Okta publishes is believed.
    pub ages: Ages,
    /// How long reading all pages of groups may take.
    pub groups_budget: Duration,
}

impl OktaSettings {
    /// The issuer, byte for byte as tokens and the discovery document must name it.
    pub fn issuer(&self) -> String {
        let account = self.okta_account.as_str().trim_end_matches('/');
        match &self.authorization_server_id {
            None => account.to_owned(),
            Some(id) => format!("{account}/oauth2/{id}"),
        }
    }
}

pub(super) struct Okta {
    settings: OktaSettings,
    http: HttpClient,
    redirect_uri: Url,
    documents: Documents,
}

struct Tokens {
    id_token: String,
    access_token: String,
}

impl Okta {
    pub(super) fn new(settings: OktaSettings, http: HttpClient, redirect_uri: Url) -> Self {
        let documents = Documents::new(http.clone(), &settings.issuer(), settings.ages);
        Self { settings, http, redirect_uri, documents }
    }

    pub(super) const fn settings(&self) -> &OktaSettings {
        &self.settings
    }

    pub(super) fn idp_ref(&self) -> IdpRef {
        IdpRef { id: self.settings.id.clone(), kind: super::KIND_OKTA.to_owned() }
    }

    fn client(&self, metadata: &Metadata) -> oidc::Client {
        oidc::client(metadata, &self.settings.client_id, &self.settings.client_secret, &self.redirect_uri)
    }

    pub(super) async fn begin(&self, state: &str, hints: oidc::Hints) -> Result<Begun, LoginFailure> {
        let metadata = self.documents.metadata().await?;
        let secrets = FlowSecrets::random(Secret::new(state));
        let url = oidc::authorization_url(&self.client(&metadata), &secrets, hints);
        let FlowSecrets { state: _, nonce, pkce_verifier } = secrets;
        let (idp, issuer) = (self.settings.id.clone(), metadata.issuer().to_owned());
        Ok(Begun { url, pending: Pending { nonce, pkce_verifier, idp, issuer } })
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
        // RFC 9700 §2.1: the flow remembers whom it was begun with.
        if pending.idp != self.settings.id || pending.issuer != self.documents.issuer() {
            return Err(LoginFailure::Flow);
        }
        let metadata = self.documents.metadata().await?;
        let code = callback.code(state, metadata.issuer(), metadata.iss_promised())?;
        let tokens = self.exchange(&metadata, code, pending).await?;
        let id_token = self.verify(&metadata, &tokens, pending, now, leeway).await?;
        let (userinfo, overfull) = match self.userinfo(&metadata, &tokens, &id_token).await {
            // The groups are all that is missing, and there is another way to them.
            Err(LoginFailure::Groups(GroupsFailure::Overfull)) if self.suffices(&id_token) => (None, true),
            other => (other?, false),
        };
        let email_claim = self.settings.email_claim_name.as_deref().unwrap_or("email");
        let claimed = oidc::merge(&id_token, userinfo.as_ref(), email_claim, &self.settings.claims)?;
        // Okta vouches for the addresses of its directory and need not say so.
        if claimed.email_verified == Some(false) {
            return Err(LoginFailure::Email(EmailFailure::Unverified));
        }
        let email = claimed.email.as_deref().ok_or(LoginFailure::Email(EmailFailure::Missing))?;
        let email = Email::parse(email).map_err(|e| LoginFailure::Email(e.into()))?;
        let claimed_groups = if overfull { ClaimedGroups::Elsewhere } else { claimed.groups };
        let groups = self.groups(claimed_groups, &claimed.subject, now).await.map_err(LoginFailure::Groups)?;
        Ok(Profile {
            subject: claimed.subject,
            email,
            name: claimed.name,
            idp: self.idp_ref(),
            groups,
            amr: claimed.amr,
            claims: claimed.claims,
            at: now,
            ip: client_ip,
        })
    }

    /// One call, never a second: a code that was used twice takes the first one's tokens with it (RFC 6749 §4.1.2).
    async fn exchange(&self, metadata: &Metadata, code: &Secret, pending: &Pending) -> Result<Tokens, LoginFailure> {
        let status = Arc::new(AtomicU16::new(0));
        let client = self.client(metadata);
        let request = client
            .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(pending.pkce_verifier.expose().to_owned()));
        let send = |request: HttpRequest| {
            let (http, status) = (self.http.clone(), Arc::clone(&status));
            async move {
                let answer = http.call(request).await?;
                status.store(answer.status().as_u16(), Ordering::Relaxed);
                Ok(answer)
            }
        };
        let result = request.request_async(&send).await;
        let failed = |error| {
            let status = StatusCode::from_u16(status.load(Ordering::Relaxed)).unwrap_or(StatusCode::BAD_GATEWAY);
            LoginFailure::TokenEndpoint { status, error }
        };
        let response: oidc::TokenResponse = result.map_err(|error| match error {
            RequestTokenError::Request(source) => LoginFailure::Unreachable { endpoint: Endpoint::Token, source },
            RequestTokenError::ServerResponse(said) => {
                let description = said.error_description().map(String::as_str).unwrap_or_default();
                if is_too_many_groups(description) {
                    return LoginFailure::Groups(GroupsFailure::Overfull);
                }
                let said = format!("{} {description}", said.error().as_ref());
                failed(Some(oidc::tame(said.trim_end(), 300)))
            }
            // The answer itself is not kept: there may be a token in it.
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => failed(None),
        })?;
        if !matches!(response.token_type(), CoreTokenType::Bearer) {
            return Err(failed(Some("a token type other than bearer".to_owned())));
        }
        let id_token = response.extra_fields().id_token.clone();
        let id_token = id_token.ok_or_else(|| failed(Some("no ID token".to_owned())))?;
        Ok(Tokens { id_token, access_token: response.access_token().secret().clone() })
    }

    /// A key that is not known is looked for once more, as often as the cooldown lets it.
    async fn verify(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        pending: &Pending,
        now: UnixTime,
        leeway: Duration,
    ) -> Result<VerifiedIdToken, LoginFailure> {
        let expected = Expected {
            issuer: metadata.issuer(),
            client_id: &self.settings.client_id,
            nonce: &pending.nonce,
            access_token: &tokens.access_token,
            now,
            leeway,
        };
        let keys = self.documents.keys(metadata).await?;
        match oidc::verify(&tokens.id_token, &keys, &expected) {
            Err(error) if error.may_be_rotation() => {
                let keys = self.documents.rotated_keys(metadata).await?;
                Ok(oidc::verify(&tokens.id_token, &keys, &expected)?)
            }
            result => Ok(result?),
        }
    }

    /// Asked at every login: a thin ID token does not tell what it leaves out.
    async fn userinfo(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        id_token: &VerifiedIdToken,
    ) -> Result<Option<UserClaims>, LoginFailure> {
        let endpoint = Endpoint::Userinfo;
        let Some(url) = metadata.userinfo() else { return Ok(None) };
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", tokens.access_token)).map_err(|_| {
            LoginFailure::TokenEndpoint { status: StatusCode::OK, error: Some("no usable token".into()) }
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
            status => return Err(LoginFailure::Answer { endpoint, status }),
        }
        let claims = oidc::userinfo(answer.is_type("application/json"), &answer.body, &id_token.subject)?;
        Ok(Some(claims))
    }

    /// Whether an ID token says all that was asked for but the groups, and those can be read.
    fn suffices(&self, id_token: &VerifiedIdToken) -> bool {
        let wanted = self.settings.claims.iter().map(String::as_str);
        let mut wanted = wanted.chain([self.settings.email_claim_name.as_deref().unwrap_or("email")]);
        self.settings.api_token.is_some() && wanted.all(|name| id_token.claims.get(name).is_some())
    }

    /// What is known of the groups, and whether that is all of them.
    ///
    /// | claim | with an API token | without |
    /// | --- | --- | --- |
    /// | fewer than 100 | these | these |
    /// | 100 or more | the API's list | the login fails |
    /// | absent | the API's list | unknown |
    ///
    /// Okta leaves the claim out where it is empty, but also where nobody set up a filter for it, and by some accounts where
    /// it would be too long. That the scope was granted does not tell these apart, so an absent claim is not an empty one:
    /// policies that do not look at groups still work, and one that excludes a group does not let in whoever is in it.
    async fn groups(&self, claimed: ClaimedGroups, subject: &str, now: UnixTime) -> Result<Groups, GroupsFailure> {
        let all_there = match claimed {
            ClaimedGroups::Claimed(names) if names.len() < CLAIM_CAPACITY => {
                let named = |name: String| Group { id: name.clone(), name };
                return Ok(Groups::Known(names.into_iter().map(named).collect()));
            }
            ClaimedGroups::Claimed(_) | ClaimedGroups::Elsewhere => Err(GroupsFailure::TooMany),
            ClaimedGroups::Absent => Ok(Groups::Unknown),
        };
        let Some(token) = &self.settings.api_token else { return all_there };
        let (http, account) = (&self.http, &self.settings.okta_account);
        GroupsApi { http, account, token, budget: self.settings.groups_budget }
            .read(subject, now)
            .await
            .map(Groups::Known)
    }
}

fn says_too_many_groups(answer: &Response) -> bool {
    let challenges = answer.headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    is_too_many_groups(&String::from_utf8_lossy(&answer.body)) || challenges.into_iter().any(is_too_many_groups)
}

/// As many as Okta puts into a claim: a full one may have been cut.
const CLAIM_CAPACITY: usize = 100;
