use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet, ExtraTokenFields, IdToken, JsonWebKeySet,
    LoginHint, Nonce, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, StandardErrorResponse,
    StandardTokenResponse,
};
use serde::{Deserialize, Serialize};
use url::Url;

use super::Metadata;
use crate::model::{Secret, fill_random};

/// The client of one provider, as `openidconnect` knows it.
pub type Client = openidconnect::Client<
    Unread,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
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

/// What a token endpoint answers (OpenID Connect Core 3.1.3.3), with the ID token as the string it came as: what is in
/// it is read once, behind its signature.
pub type TokenResponse = StandardTokenResponse<IdTokenField, CoreTokenType>;

/// The member that OpenID Connect adds to a token response.
#[derive(Clone, Deserialize, Serialize)]
pub struct IdTokenField {
    /// Still to be verified.
    pub id_token: Option<String>,
}

impl ExtraTokenFields for IdTokenField {}

impl std::fmt::Debug for IdTokenField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdTokenField(…)")
    }
}

/// Stands where `openidconnect` would want the types of claims that it is not asked to read.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Unread {}

impl openidconnect::AdditionalClaims for Unread {}

impl openidconnect::TokenResponse<Unread, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>
    for TokenResponse
{
    fn id_token(
        &self,
    ) -> Option<&IdToken<Unread, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>> {
        None
    }
}

/// What a login leaves behind in the browser that began it, and in no other place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSecrets {
    /// Ties the callback to the browser.
    pub state: Secret,
    /// Ties the ID token to the login.
    pub nonce: Secret,
    /// Ties the code to the login (RFC 7636).
    pub pkce_verifier: Secret,
}

impl FlowSecrets {
    /// New ones, of 256 bits each. `state` is the caller's: who can tell by it which login comes back needs no other record.
    pub fn random(state: Secret) -> Self {
        let secret = || {
            let mut bytes = [0_u8; 32];
            fill_random(&mut bytes);
            Secret::new(URL_SAFE_NO_PAD.encode(bytes))
        };
        Self { state, nonce: secret(), pkce_verifier: secret() }
    }
}

/// What a login may ask of the provider beside who somebody is.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// Whether to ask for credentials again (OpenID Connect Core 3.1.2.1).
    pub prompt: Option<CoreAuthPrompt>,
    /// Whom the login is for, as far as it is known.
    pub login_hint: Option<String>,
}

/// The client that speaks to the endpoints of `metadata`.
pub fn client(metadata: &Metadata, client_id: &str, client_secret: &Secret, redirect_uri: &Url) -> Client {
    openidconnect::Client::new(ClientId::new(client_id.to_owned()), metadata.issuer.clone(), JsonWebKeySet::default())
        .set_client_secret(ClientSecret::new(client_secret.expose().to_owned()))
        .set_auth_type(metadata.auth_type.clone())
        .set_auth_uri(metadata.authorization.clone())
        .set_token_uri(metadata.token.clone())
        .set_redirect_uri(RedirectUrl::from_url(redirect_uri.clone()))
}

/// Where to send the browser: the code flow, with PKCE by S256 always (RFC 9700 §2.1.1).
pub fn authorization_url(client: &Client, secrets: &FlowSecrets, hints: Hints) -> Url {
    let (state, nonce) = (secrets.state.expose().to_owned(), secrets.nonce.expose().to_owned());
    let verifier = PkceCodeVerifier::new(secrets.pkce_verifier.expose().to_owned());
    let mut request = client
        .authorize_url(
            CoreAuthenticationFlow::AuthorizationCode,
            move || CsrfToken::new(state),
            move || Nonce::new(nonce),
        )
        // `openid` is there already.
        .add_scopes(["profile", "email", GROUPS_SCOPE].map(|scope| Scope::new(scope.to_owned())))
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
    if let Some(prompt) = hints.prompt {
        request = request.add_prompt(prompt);
    }
    if let Some(hint) = hints.login_hint {
        request = request.set_login_hint(LoginHint::new(hint));
    }
    request.url().0
}

/// The scope that Okta gives the groups claim for.
const GROUPS_SCOPE: &str = "groups";
