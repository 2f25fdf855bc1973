//! The tokens that this team signs: the organisation's, for the team domain, each application's,
//! and what origins are told of programs.

use std::time::Duration;

use http::HeaderValue;
use serde::Serialize;

use super::Access;
use super::access::{Login, organisation_aud};
use super::documents::{account_id, country, document};
use crate::cookie::{self, SameSite, SetCookie};
use crate::engine::{Application, Snapshot};
use crate::model::{Aud, Identity, IdentityNonce, UnixTime};
use crate::policy::Truth;
use crate::session::Presented;
use crate::store::StoreError;
use crate::token::{Claims, Kind, OrganisationClaims, ServiceClaims};

impl Access {
    /// Returns the organisation session as a cookie for the team domain (`docs/wire.md` 5.4);
    /// `None` if it cannot be signed.
    pub(crate) fn organisation_cookie(&self, login: &Login, now: UnixTime) -> Option<HeaderValue> {
        let snapshot = self.snapshot();
        let aud = organisation_aud(&snapshot);
        let claims = claims(
            &snapshot,
            Kind::Org,
            &aud,
            login.nonce,
            &login.identity,
            login.expires,
            now,
        );
        let (account_id, identity) = (
            account_id(snapshot.issuer()),
            document(&login.identity, &snapshot),
        );
        let token = |identity| {
            self.sign(&OrganisationClaims {
                claims: &claims,
                account_id: &account_id,
                identity,
            })
        };
        let whole = token(Some(&identity))?;
        let token = if whole.len() <= MAX_ORGANISATION_TOKEN {
            whole
        } else {
            token(None)?
        };
        let cookie = SetCookie {
            name: cookie::AUTHORIZATION,
            value: &token,
            path: "/",
            expires: login.expires,
            now,
            http_only: true,
            same_site: SameSite::None,
        };
        cookie.to_header()
    }

    /// Returns an application token (`docs/wire.md` 5.2) for a hand-over that was made at `since`;
    /// `None` if its login is over.
    ///
    /// # Errors
    /// If the store does not answer.
    pub(crate) async fn application_token(
        &self,
        application: &Application,
        nonce: IdentityNonce,
        since: UnixTime,
        expires: UnixTime,
        now: UnixTime,
    ) -> Result<Option<String>, StoreError> {
        let Some(identity) = self.identity(nonce, now).await? else {
            return Ok(None);
        };
        let snapshot = self.snapshot();
        let presented = Presented {
            nonce: Some(nonce),
            user: &identity.user,
            aud: std::slice::from_ref(application.aud()),
            issued: since,
            login: Some(identity.order()),
        };
        if snapshot.revocations().cover(presented) != Truth::False {
            return Ok(None);
        }
        Ok(self.sign(&claims(
            &snapshot,
            Kind::App,
            application.aud(),
            nonce,
            &identity,
            expires,
            now,
        )))
    }

    /// Signs the assertion that tells an origin which service client a request is from
    /// (`docs/wire.md` 5.3). Concurrent requests share one signature. A node without signing keys
    /// signs none, so it admits no such service client.
    pub(super) async fn assert_program(&self, aud: &Aud, common_name: &str, expires: UnixTime) {
        let _one = self.asserting.lock().await;
        let (snapshot, now, of) = (self.snapshot(), UnixTime::now(), (aud, common_name));
        if self.known.has_assertion(snapshot.issuer(), of, now) {
            return;
        }
        let claims = ServiceClaims {
            iss: snapshot.issuer(),
            aud: [aud.as_str()],
            exp: expires,
            iat: now,
            kind: Kind::App,
            common_name,
            sub: "",
        };
        let Some(token) = self
            .sign(&claims)
            .and_then(|token| HeaderValue::try_from(token).ok())
        else {
            return;
        };
        // Early enough that an origin which takes its time does not find it too old.
        let margin = (expires.since(now) / 4).min(RENEW_BEFORE);
        let renew_from = UnixTime(expires.0.saturating_sub(margin.as_secs()));
        self.known
            .set_assertion(snapshot.issuer(), of, token, renew_from);
    }

    fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let signing = self.signing.load_full()?;
        signing
            .sign(claims)
            .map_err(|error| tracing::error!(%error, "a token could not be signed"))
            .ok()
    }
}

fn claims(
    snapshot: &Snapshot,
    kind: Kind,
    aud: &Aud,
    nonce: IdentityNonce,
    identity: &Identity,
    expires: UnixTime,
    now: UnixTime,
) -> Claims {
    let app = kind == Kind::App;
    Claims {
        iss: snapshot.issuer().to_owned(),
        aud: vec![aud.as_str().to_owned()],
        exp: expires,
        iat: now,
        nbf: Some(now),
        kind,
        sub: identity.user.0.to_string(),
        email: Some(identity.email.as_str().to_owned()),
        identity_nonce: Some(nonce.as_str().to_owned()),
        country: app.then(|| country(snapshot, identity)),
        custom: app
            .then(|| identity.claims_made())
            .filter(|claims| !claims.is_empty()),
    }
}

const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// Beside five logins under way, what servers on the way take as one header.
const MAX_ORGANISATION_TOKEN: usize = 3 * 1024;
