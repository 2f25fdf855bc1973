//! The logout at the identity provider, after the logout here.
//!
//! Decides only the way there and back: by then the session here has ended. Trusts values that this
//! team sealed. Never puts a token of the provider into a page that scripts can read.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::control::{Logins, Running, Services};
use crate::cookie::SealingKey;
use crate::idp::{Oidc, Provider};
use crate::login::{Landing, PortalRequest};
use crate::model::{IdentityNonce, IdpId, UnixTime};
use crate::pages::{Link, LoggedOut, answer};
use crate::route::Endpoint;

/// Permission to end the session of a login at its provider. A page may contain it, because it
/// holds no token of the provider.
#[derive(Serialize, Deserialize)]
pub(super) struct ProviderLogout {
    nonce: IdentityNonce,
    idp: IdpId,
    to: Option<String>,
    expires: UnixTime,
}

impl ProviderLogout {
    pub(super) fn new(
        nonce: IdentityNonce,
        idp: IdpId,
        to: Option<&Landing>,
        now: UnixTime,
    ) -> Self {
        Self {
            nonce,
            idp,
            to: to.map(|to| to.as_str().to_owned()),
            expires: now.after(LIFETIME),
        }
    }

    /// Returns the next response of a logout; `None` if the provider does not end sessions.
    pub(super) async fn respond(
        &self,
        services: &Services,
        seal: &SealingKey,
        logins: &Logins,
        request: &PortalRequest,
    ) -> Option<Response<Bytes>> {
        let is_script = request
            .header("sec-fetch-mode")
            .is_some_and(|mode| mode != "navigate");
        // A form must not lead to another host, not even through redirects (CSP, `form-action`).
        if is_script || request.method == Method::POST {
            self.link(services, seal, request)
        } else {
            self.redirect(services, seal, logins).await
        }
    }

    fn provider<'a>(&self, services: &'a Services) -> Option<&'a Provider> {
        let provider = services
            .providers
            .iter()
            .find(|provider| *provider.id() == self.idp);
        provider.filter(|provider| provider.as_oidc().is_some_and(Oidc::ends_sessions))
    }

    /// Returns a page with a link that leads to the provider.
    fn link(
        &self,
        services: &Services,
        seal: &SealingKey,
        request: &PortalRequest,
    ) -> Option<Response<Bytes>> {
        let label = format!("Sign out of {} too", self.provider(services)?.name());
        let sealed = seal.seal(LEAVE, self).ok()?;
        let href = format!("{}?leave={sealed}", logged_out_url(services));
        let page = LoggedOut {
            also_at: None,
            back: Some(Link {
                href: &href,
                label: &label,
            }),
            switch_account: None,
            request_id: &request.id.to_string(),
        };
        Some(answer::page(page.page()))
    }

    /// Redirects to the provider, which ends its session and returns the browser to [`logged_out`].
    async fn redirect(
        &self,
        services: &Services,
        seal: &SealingKey,
        logins: &Logins,
    ) -> Option<Response<Bytes>> {
        let provider = self.provider(services)?;
        let returned = Returned {
            provider: provider.name().to_owned(),
            to: self.to.clone(),
        };
        let state = seal.seal(LEFT, &returned).ok()?;
        let back = Url::parse(&logged_out_url(services)).ok()?;
        let url = logins
            .leave_provider(self.nonce, provider, &back, &state)
            .await?;
        Some(answer::redirect(StatusCode::FOUND, url.as_str()))
    }
}

/// The `state` with which a provider returns the browser.
#[derive(Serialize, Deserialize)]
struct Returned {
    provider: String,
    to: Option<String>,
}

/// Answers `logged-out`: the return from a provider that ended its session, or with `leave` the
/// link that leads there.
///
/// It ends nothing itself, so a link on another site does no harm. A `state` that this team did not
/// seal is ignored.
pub(super) async fn logged_out(
    running: &Running,
    seal: &SealingKey,
    logins: &Logins,
    request: &PortalRequest,
) -> Response<Bytes> {
    let leave = request
        .parameter("leave")
        .and_then(|leave| seal.open::<ProviderLogout>(LEAVE, &leave).ok())
        .filter(|leave| request.now < leave.expires);
    if let Some(leave) = &leave
        && let Some(response) = leave.redirect(&running.services(), seal, logins).await
    {
        return response;
    }
    let state = request.parameter("state").unwrap_or_default();
    let returned = seal.open::<Returned>(LEFT, &state).ok();
    let to = leave
        .and_then(|leave| leave.to)
        .or_else(|| returned.as_ref()?.to.clone())
        .and_then(|to| Landing::parse(&to, &request.host, &running.snapshot()));
    let page = LoggedOut {
        also_at: returned.as_ref().map(|returned| returned.provider.as_str()),
        back: to.as_ref().map(|to| Link {
            href: to.as_str(),
            label: "Continue",
        }),
        switch_account: None,
        request_id: &request.id.to_string(),
    };
    answer::page(page.page())
}

fn logged_out_url(services: &Services) -> String {
    format!("{}{}/logged-out", services.team_url, Endpoint::PREFIX)
}

/// The sealing purposes. They are part of the sealed values, so they cannot change during an
/// upgrade.
const LEFT: &str = "left the provider";
const LEAVE: &str = "leave the provider";
// Time to read the page and follow its link. Later the session at the provider may be another one.
const LIFETIME: Duration = Duration::from_secs(600);
