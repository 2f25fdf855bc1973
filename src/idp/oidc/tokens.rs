//! The token and userinfo endpoints.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use openidconnect::core::CoreTokenType;
use openidconnect::{
    AsyncHttpClient as _, HttpRequest, HttpResponse, OAuth2TokenResponse as _, RequestTokenError,
};

use super::Oidc;
use super::body::{BYTE_ORDER_MARK, JSON, compact_jws, other_than_json, says_too_many_groups};
use super::documents::refused;
use crate::http_client::MAX_BODY;
use crate::idp::failure::{BodyKind, Endpoint, GroupsFailure, LoginFailure, is_too_many_groups};
use crate::idp::{CallbackContext, Pending};
use crate::model::{Secret, UnixTime, json};
use crate::oidc::{
    self, ClaimsError, ContentType, Credentials, Expected, GrantedScopes, Metadata, UserClaims,
    VerifiedIdToken,
};

/// The tokens of a login, of which the ID token is not verified yet.
pub(in crate::idp) struct Tokens {
    pub(super) id_token: String,
    pub(super) access_token: String,
    pub(super) scopes: GrantedScopes,
}

impl Tokens {
    /// Returns both tokens, or the fault of a response without them.
    fn read(response: &oidc::TokenResponse) -> Result<Self, &'static str> {
        // A token of another type needs a proof with each use (such as DPoP), which this client
        // does not send.
        if !matches!(response.token_type(), CoreTokenType::Bearer) {
            return Err("a token type other than bearer");
        }
        let id_token = response.id_token().ok_or("no ID token")?.to_owned();
        let access_token = response.access_token().secret().clone();
        if access_token.is_empty() {
            return Err("no access token");
        }
        Ok(Self {
            id_token,
            access_token,
            scopes: response.granted().clone(),
        })
    }
}

impl Oidc {
    /// Exchanges the code in exactly one call. If a code is used twice, the provider revokes the
    /// first tokens too (RFC 6749 4.1.2).
    pub(in crate::idp) async fn exchange(
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
            oidc::CodeAndVerifier {
                code,
                pkce_verifier: &pending.pkce_verifier,
            },
            now,
        )?;
        let send = |request: HttpRequest| {
            let (http, status, other) =
                (self.http.clone(), Arc::clone(&status), Arc::clone(&other));
            async move {
                let mut response = http.call(request).await?;
                // Relaxed: the same task reads it after the call.
                status.store(response.status().as_u16(), Ordering::Relaxed);
                if let Some(found) = repair(&mut response) {
                    let _ = other.set(found);
                }
                Ok(response)
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
            RequestTokenError::ServerResponse(error) => match error.summary() {
                Some(summary) if is_too_many_groups(&summary) => {
                    LoginFailure::Groups(GroupsFailure::Overfull)
                }
                summary => failed(summary),
            },
            // The response itself is dropped, because it may contain a token.
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => failed(None),
        })?;
        Tokens::read(&response).map_err(|fault| failed(Some(fault.to_owned())))
    }

    /// Verifies the ID token. If no known key signed it, the keys are fetched once more, within the
    /// budget.
    pub(super) async fn verify(
        &self,
        metadata: &Metadata,
        tokens: &Tokens,
        expected: &Expected<'_>,
    ) -> Result<VerifiedIdToken, LoginFailure> {
        let keys = self.documents.keys(metadata).await?;
        match oidc::verify(&tokens.id_token, &keys, expected) {
            Err(error) if error.may_be_rotation() => {
                let keys = self.documents.rotated_keys(metadata, &keys).await?;
                Ok(oidc::verify(&tokens.id_token, &keys, expected)?)
            }
            result => Ok(result?),
        }
    }

    pub(super) fn expected<'a>(
        &'a self,
        metadata: &'a Metadata,
        tokens: &'a Tokens,
        pending: &'a Pending,
        context: CallbackContext,
    ) -> Expected<'a> {
        Expected {
            issuer: metadata.issuer(),
            client_id: &self.settings.client_id,
            trusted_audiences: self.settings.trusted_audiences.as_deref(),
            nonce: &pending.nonce,
            access_token: &tokens.access_token,
            now: context.now,
            max_age: self.settings.max_age,
            leeway: context.leeway,
        }
    }

    /// Fetches the userinfo response. Every login does so, because an ID token does not reveal
    /// which claims it omits.
    pub(super) async fn userinfo(
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
        let content_type = if answer.is_type("application/json") {
            ContentType::Json
        } else {
            ContentType::Other
        };
        let claims = oidc::userinfo(content_type, &answer.body, &id_token.subject)?;
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
}

/// Repairs the spelling of a JSON response, so that `openidconnect` accepts it. Returns the kind of
/// any other response.
fn repair(response: &mut HttpResponse) -> Option<BodyKind> {
    if let Cow::Owned(mended) = json::mended(response.body()) {
        *response.body_mut() = mended.into_bytes();
    } else if let Some(rest) = response.body().strip_prefix(BYTE_ORDER_MARK) {
        *response.body_mut() = rest.to_vec();
    }
    let other = other_than_json(response.headers(), response.body());
    if other.is_none() {
        // JSON is accepted under any content type.
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    }
    other
}
