use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken,
    CoreRevocationErrorResponse, CoreTokenIntrospectionResponse,
};
use openidconnect::{
    AuthType, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet,
    IdToken, JsonWebKeySet, LoginHint, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    Scope,
};
use serde::{Deserialize, Serialize};
use url::Url;

use super::credentials::{ASSERTION_TYPE, ClientKeyError};
use super::{ClientAuth, Credentials, Metadata, MetadataError, OAuthError, TokenResponse};
use crate::model::{Secret, UnixTime, fill_random};

/// The `openidconnect` client of one provider.
pub type Client = openidconnect::Client<
    Unread,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    OAuthError,
    TokenResponse,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
    EndpointNotSet,
>;

/// A code exchange, ready to be sent.
pub type CodeTokenRequest<'a> = openidconnect::CodeTokenRequest<'a, OAuthError, TokenResponse>;

/// A placeholder for the claims types of `openidconnect`, which reads no claims here.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Unread {}

impl openidconnect::AdditionalClaims for Unread {}

impl
    openidconnect::TokenResponse<
        Unread,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    > for TokenResponse
{
    fn id_token(
        &self,
    ) -> Option<
        &IdToken<
            Unread,
            CoreGenderClaim,
            CoreJweContentEncryptionAlgorithm,
            CoreJwsSigningAlgorithm,
        >,
    > {
        None
    }
}

/// The secrets of a login, stored only in the browser that started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSecrets {
    /// Binds the callback to the browser.
    pub state: Secret,
    /// Binds the ID token to the login.
    pub nonce: Secret,
    /// Binds the code to the login (RFC 7636).
    pub pkce_verifier: Secret,
}

impl FlowSecrets {
    /// Generates secrets of 256 bits each. The caller chooses `state`, so that it can identify the
    /// login in the callback without storing anything.
    pub fn random(state: Secret) -> Self {
        let secret = || {
            let mut bytes = [0_u8; 32];
            fill_random(&mut bytes);
            Secret::new(URL_SAFE_NO_PAD.encode(bytes))
        };
        Self {
            state,
            nonce: secret(),
            pkce_verifier: secret(),
        }
    }
}

/// An authorization code with the PKCE verifier of its login.
#[derive(Clone, Copy, Debug)]
pub struct CodeAndVerifier<'a> {
    /// The code from the callback.
    pub code: &'a Secret,
    /// The verifier (RFC 7636 4.5).
    pub pkce_verifier: &'a Secret,
}

/// Optional parameters of a login request.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// The prompt, such as a request for credentials (OpenID Connect Core 3.1.2.1).
    pub prompt: Option<CoreAuthPrompt>,
    /// The expected user, if known.
    pub login_hint: Option<String>,
    /// The maximum age of the user's authentication; verified in the callback.
    pub max_age: Option<Duration>,
}

/// Creates the client for the endpoints of `metadata`, which authenticates with `method`.
///
/// Without a method, or if it does not suit the credentials, `metadata` decides. A configured
/// method is not compared with the metadata, because some providers list their methods wrongly.
///
/// # Errors
/// [`MetadataError::Unsupported`] if the provider does not accept such credentials.
pub fn client(
    metadata: &Metadata,
    client_id: &str,
    credentials: &Credentials,
    method: Option<ClientAuth>,
    redirect_uri: &Url,
) -> Result<Client, MetadataError> {
    let client = openidconnect::Client::new(
        ClientId::new(client_id.to_owned()),
        metadata.issuer.clone(),
        JsonWebKeySet::default(),
    );
    let client = match credentials {
        Credentials::Secret(secret) => {
            client.set_client_secret(ClientSecret::new(secret.expose().to_owned()))
        }
        Credentials::Key(_) => client,
    };
    let auth_type = match (method, credentials) {
        (Some(ClientAuth::ClientSecretBasic), Credentials::Secret(_)) => AuthType::BasicAuth,
        (Some(ClientAuth::ClientSecretPost), Credentials::Secret(_))
        | (Some(ClientAuth::PrivateKeyJwt), Credentials::Key(_)) => AuthType::RequestBody,
        _ => metadata.auth_type(credentials)?,
    };
    Ok(client
        .set_auth_type(auth_type)
        .set_auth_uri(metadata.authorization.clone())
        .set_token_uri(metadata.token.clone())
        .set_redirect_uri(RedirectUrl::from_url(redirect_uri.clone())))
}

/// Returns the authorization URL for the code flow, always with PKCE by S256 (RFC 9700 2.1.1). The
/// scope `openid` is always included.
pub fn authorization_url(
    client: &Client,
    secrets: &FlowSecrets,
    scopes: &[String],
    hints: Hints,
) -> Url {
    let (state, nonce) = (
        secrets.state.expose().to_owned(),
        secrets.nonce.expose().to_owned(),
    );
    let verifier = PkceCodeVerifier::new(secrets.pkce_verifier.expose().to_owned());
    let mut request = client
        .authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            move || CsrfToken::new(state),
            move || Nonce::new(nonce),
        )
        .add_scopes(
            scopes
                .iter()
                .filter(|scope| *scope != "openid")
                .cloned()
                .map(Scope::new),
        )
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
    if let Some(prompt) = hints.prompt {
        request = request.add_prompt(prompt);
    }
    if let Some(hint) = hints.login_hint {
        request = request.set_login_hint(LoginHint::new(hint));
    }
    if let Some(max_age) = hints.max_age {
        request = request.set_max_age(max_age);
    }
    request.url().0
}

/// Returns the code exchange (RFC 6749 4.1.3), with client authentication.
///
/// # Errors
/// [`ClientKeyError`] if the client's key cannot sign.
pub fn code_request<'a>(
    client: &'a Client,
    credentials: &Credentials,
    metadata: &Metadata,
    code: CodeAndVerifier<'_>,
    now: UnixTime,
) -> Result<CodeTokenRequest<'a>, ClientKeyError> {
    let request = client
        .exchange_code(AuthorizationCode::new(code.code.expose().to_owned()))
        .set_pkce_verifier(PkceCodeVerifier::new(
            code.pkce_verifier.expose().to_owned(),
        ));
    Ok(match assertion(client, credentials, metadata, now)? {
        None => request,
        Some(assertion) => request
            .add_extra_param("client_assertion_type", ASSERTION_TYPE)
            .add_extra_param("client_assertion", assertion.expose().to_owned()),
    })
}

/// Returns the pushed authorization request of a login (RFC 9126 2.1): the value of the
/// `Authorization` header, if there is one, and the form.
///
/// # Errors
/// [`ClientKeyError`] if the client's key cannot sign.
pub fn pushed_request(
    client: &Client,
    credentials: &Credentials,
    metadata: &Metadata,
    login: &Url,
    now: UnixTime,
) -> Result<(Option<Secret>, Secret), ClientKeyError> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    // Parameters of the endpoint's own URL are not part of the request.
    let of_the_endpoint: Vec<_> = metadata.authorization.url().query_pairs().collect();
    form.extend_pairs(
        login
            .query_pairs()
            .filter(|pair| !of_the_endpoint.contains(pair)),
    );
    let mut header = None;
    if let Some(assertion) = assertion(client, credentials, metadata, now)? {
        form.append_pair("client_assertion_type", ASSERTION_TYPE);
        form.append_pair("client_assertion", assertion.expose());
    } else if let Credentials::Secret(secret) = credentials {
        match client.auth_type() {
            AuthType::RequestBody => drop(form.append_pair("client_secret", secret.expose())),
            _ => {
                // RFC 6749 2.3.1: each part is encoded separately.
                let part = |text: &str| {
                    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
                };
                let pair = format!("{}:{}", part(client.client_id()), part(secret.expose()));
                header = Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))));
            }
        }
    }
    Ok((header, Secret::new(form.finish())))
}

/// Returns the authorization URL for a request that was pushed to the provider (RFC 9126 4).
pub fn pushed_url(metadata: &Metadata, client_id: &str, request_uri: &str) -> Url {
    let mut url = metadata.authorization.url().clone();
    url.query_pairs_mut()
        .append_pair("client_id", client_id)
        .append_pair("request_uri", request_uri);
    url
}

/// Returns the URL that ends the provider's session (OpenID Connect RP-Initiated Logout 1.0 2).
pub fn end_session_url(
    endpoint: &Url,
    id_token: &Secret,
    client_id: &str,
    back: &Url,
    state: &str,
) -> Url {
    let mut url = endpoint.clone();
    url.query_pairs_mut()
        .append_pair("id_token_hint", id_token.expose())
        .append_pair("client_id", client_id)
        .append_pair("post_logout_redirect_uri", back.as_str())
        .append_pair("state", state);
    url
}

/// Creates the client assertion, if the credentials are a key. The audience is the token endpoint:
/// Okta requires that, and all others accept it (OpenID Connect Core 9, RFC 9126 2).
fn assertion(
    client: &Client,
    credentials: &Credentials,
    metadata: &Metadata,
    now: UnixTime,
) -> Result<Option<Secret>, ClientKeyError> {
    match credentials {
        Credentials::Secret(_) => Ok(None),
        Credentials::Key(key) => key
            .assertion(client.client_id(), metadata.token().as_str(), now)
            .map(Some),
    }
}
