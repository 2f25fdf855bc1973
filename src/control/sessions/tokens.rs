//! The tokens that this team issues to browsers: for the team domain, and for each application.

use http::HeaderValue;

use super::{Login, Sessions};
use crate::control::documents::{account_id, country, document};
use crate::cookie::{self, SameSite, SetCookie};
use crate::engine::{Application, Snapshot};
use crate::login::organisation_aud;
use crate::model::{Aud, Identity, IdentityNonce, UnixTime};
use crate::policy::Truth;
use crate::session::Presented;
use crate::store::StoreError;
use crate::token::{Claims, Kind, OrganisationClaims};

impl Sessions {
    /// Returns the organisation session as a cookie for the team domain (`docs/wire.md` 5.4);
    /// `None` if it cannot be signed.
    pub(crate) fn organisation_cookie(&self, login: &Login, now: UnixTime) -> Option<HeaderValue> {
        let snapshot = self.running.snapshot();
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
            self.issuer.sign(&OrganisationClaims {
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
        let Some(identity) = self.identities.identity(nonce, now).await? else {
            return Ok(None);
        };
        let snapshot = self.running.snapshot();
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
        Ok(self.issuer.sign(&claims(
            &snapshot,
            Kind::App,
            application.aud(),
            nonce,
            &identity,
            expires,
            now,
        )))
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

/// In bytes. Together with five flow cookies it fits into the header size that common servers
/// accept.
const MAX_ORGANISATION_TOKEN: usize = 3 * 1024;
