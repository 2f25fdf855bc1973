use super::outcome::{Authenticated, LoginOutcome, Retry, SignedIn};
use crate::control::{LoginError, LoginMode, Logins, Sessions};
use crate::login::PortalRequest;
use crate::observe::audit::Via;

/// Opens an organisation session for an authenticated user, or renews the browser's.
pub(super) async fn open(
    logins: &Logins,
    sessions: &Sessions,
    Authenticated {
        profile,
        previous,
        began,
    }: Authenticated,
    mode: LoginMode,
    request: &PortalRequest,
) -> LoginOutcome {
    let idp = profile.idp.id.clone();
    let login = match logins.log_in(profile, previous, began, mode, request).await {
        Ok(login) => login,
        Err(LoginError::Revoked) => return LoginOutcome::SessionEnded,
        Err(LoginError::Store) => {
            return LoginOutcome::Unavailable {
                idp: Some(idp),
                retry: Retry::Login,
            };
        }
    };
    match sessions.organisation_cookie(&login, request.now) {
        Some(cookie) => LoginOutcome::SignedIn(SignedIn {
            login,
            via: Via::Provider,
            cookie: Some(cookie),
        }),
        None => LoginOutcome::Internal,
    }
}
