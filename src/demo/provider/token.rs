use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::params::Params;
use super::{
    ACCESS_LIFE, AccessToken, CodeGrant, DemoProvider, Secret, SigningKeyError, UnixTime,
    credentials, oauth_error, pages, random, sha256,
};

impl DemoProvider {
    /// OpenID Connect Core 1.0, section 3.1.3.
    pub(super) fn token(&self, request: &Request<Bytes>, now: UnixTime) -> Response<Bytes> {
        let invalid = |error, description| oauth_error(StatusCode::BAD_REQUEST, error, description);
        if !is_form(request.headers()) {
            return invalid("invalid_request", "the body must be a form");
        }
        let Ok(params) = Params::parse(request.body()) else {
            return invalid("invalid_request", "a parameter occurs twice");
        };
        if !self.is_client(request.headers()) {
            let refusal = oauth_error(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "the client credentials are wrong",
            );
            return pages::with_header(
                refusal,
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"demo\""),
            );
        }
        let grant = match self.take_grant(&params, now) {
            Ok(grant) => grant,
            Err((error, description)) => return invalid(error, description),
        };
        let access = AccessToken {
            user: grant.user,
            scope: grant.scope.clone(),
        };
        let access_token = self.access().insert(access, now);
        match self.id_token(&grant, &access_token, now) {
            Ok(id_token) => pages::json(
                StatusCode::OK,
                &json!({
                    "token_type": "Bearer", "expires_in": ACCESS_LIFE.as_secs(), "access_token": access_token,
                    "scope": grant.scope.0, "id_token": id_token,
                }),
            ),
            Err(_) => oauth_error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                "the ID token could not be signed",
            ),
        }
    }

    /// Takes the grant behind the code of a token request, if the request matches it.
    ///
    /// # Errors
    /// The error and its description (RFC 6749 5.2).
    fn take_grant(
        &self,
        params: &Params,
        now: UnixTime,
    ) -> Result<CodeGrant, (&'static str, &'static str)> {
        if !params.is("grant_type", "authorization_code") {
            return Err((
                "unsupported_grant_type",
                "the grant_type must be authorization_code",
            ));
        }
        let Some(code) = params.get("code") else {
            return Err(("invalid_request", "the code is missing"));
        };
        // RFC 6749 4.1.2: a code works once. It is spent even if the rest of the request is wrong.
        let grant = self.codes().take(code, now);
        let Some(grant) = grant else {
            return Err(("invalid_grant", "the code is unknown, used or expired"));
        };
        // RFC 6749 4.1.3
        if !params.is("redirect_uri", &self.redirect_uri) {
            return Err((
                "invalid_grant",
                "the redirect_uri differs from the authorization request",
            ));
        }
        if params
            .get("client_id")
            .is_some_and(|id| id != self.credentials.client_id)
        {
            return Err(("invalid_grant", "the code belongs to another client"));
        }
        // RFC 7636 4.6
        if !params
            .get("code_verifier")
            .is_some_and(|verifier| grant.is_verified_by(verifier))
        {
            return Err((
                "invalid_grant",
                "the code_verifier does not match the code_challenge",
            ));
        }
        Ok(grant)
    }

    /// Returns an ID token as short as Okta's: without groups, whatever the scope, and without
    /// `email_verified`.
    fn id_token(
        &self,
        grant: &CodeGrant,
        access_token: &str,
        now: UnixTime,
    ) -> Result<String, SigningKeyError> {
        let CodeGrant {
            user,
            scope,
            nonce,
            challenge: _,
            at,
        } = grant;
        let mut claims = json!({
            "iss": self.issuer, "sub": user.subject(), "aud": self.credentials.client_id,
            "iat": now, "exp": now.0.saturating_add(3600), "auth_time": at, "jti": random(), "ver": 1,
            "amr": ["user"], "idp": "00odemo", "at_hash": at_hash(access_token),
        });
        let mut add = |name: &str, value: String| {
            claims
                .as_object_mut()
                .and_then(|c| c.insert(name.to_owned(), value.into()))
        };
        if let Some(nonce) = nonce {
            add("nonce", nonce.clone());
        }
        if scope.has("email") {
            add("email", user.email());
        }
        if scope.has("profile") {
            add("name", user.name.to_owned());
            add("preferred_username", user.email());
        }
        self.key.sign(&claims)
    }

    /// Returns `true` for the proxy's credentials. Id and secret are form-encoded before they are
    /// joined (RFC 6749 2.3.1).
    fn is_client(&self, headers: &HeaderMap) -> bool {
        let basic = credentials(headers, "Basic").and_then(|given| STANDARD.decode(given).ok());
        let Some((id, secret)) = basic
            .as_deref()
            .and_then(|b| std::str::from_utf8(b).ok())
            .and_then(|t| t.split_once(':'))
        else {
            return false;
        };
        let decoded = |text: &str| {
            percent_decode_str(&text.replace('+', " "))
                .decode_utf8()
                .map(|t| t.into_owned())
        };
        let (Ok(id), Ok(secret)) = (decoded(id), decoded(secret)) else {
            return false;
        };
        id == self.credentials.client_id && Secret::new(secret) == self.credentials.client_secret
    }
}

impl CodeGrant {
    fn is_verified_by(&self, verifier: &str) -> bool {
        // RFC 7636 4.1
        let unreserved =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        let well_formed = (43..=128).contains(&verifier.len()) && verifier.bytes().all(unreserved);
        well_formed && URL_SAFE_NO_PAD.encode(sha256(verifier)) == self.challenge
    }
}

/// Returns the left half of the hash (OIDC Core 3.1.3.6).
fn at_hash(access_token: &str) -> String {
    let hash = sha256(access_token);
    URL_SAFE_NO_PAD.encode(hash.as_ref().get(..16).unwrap_or_default())
}

fn is_form(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().is_some_and(|t| {
        t.trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}
