use super::outcome::{Authenticated, LoginOutcome, Retry, SignedIn};
use crate::control::{Access, Becomes, NoLogin};
use crate::login::PortalRequest;
use crate::observe::audit::Via;

/// Opens an organisation session for an authenticated user, or renews the browser's.
pub(super) async fn open(
    access: &Access,
    Authenticated { profile, previous }: Authenticated,
    becomes: Becomes,
    request: &PortalRequest,
) -> LoginOutcome {
    let idp = profile.idp.id.clone();
    let login = match access
        .logins
        .log_in(profile, previous, becomes, request)
        .await
    {
        Ok(login) => login,
        Err(NoLogin::Over) => return LoginOutcome::SessionEnded,
        Err(NoLogin::Store) => {
            return LoginOutcome::Unavailable {
                idp: Some(idp),
                retry: Retry::Login,
            };
        }
    };
    match access.sessions.organisation_cookie(&login, request.now) {
        Some(cookie) => LoginOutcome::SignedIn(SignedIn {
            login,
            via: Via::Provider,
            cookie: Some(cookie),
        }),
        None => LoginOutcome::Internal,
    }
}
