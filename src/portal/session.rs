use super::outcome::{LoginOutcome, Retry, SignedIn};
use crate::control::{Authenticated, LoginError, LoginMode, Logins, Sessions};
use crate::login::{Destination, PortalRequest};
use crate::store::StoreError;

/// Returns the browser's organisation session, if the application allows its identity provider.
///
/// # Errors
/// If the store does not answer.
pub(super) async fn find(
    sessions: &Sessions,
    destination: &Destination,
    request: &PortalRequest,
) -> Result<Option<SignedIn>, StoreError> {
    let (headers, now) = (&request.headers, request.now);
    let login = sessions.organisation_session(headers, now).await?;
    Ok(login
        .filter(|login| destination.application.allows_idp(&login.identity.idp.id))
        .map(SignedIn::by_session))
}

/// Opens an organisation session for an authenticated user, or renews the browser's.
pub(super) async fn open(
    logins: &Logins,
    sessions: &Sessions,
    user: Authenticated,
    mode: LoginMode,
    request: &PortalRequest,
) -> LoginOutcome {
    let idp = user.profile.idp.id.clone();
    let login = match logins.log_in(user, mode, request).await {
        Ok(login) => login,
        Err(LoginError::Revoked) => return LoginOutcome::NoSession,
        Err(LoginError::Store) => {
            return LoginOutcome::Unavailable {
                idp: Some(idp),
                retry: Retry::Login,
            };
        }
    };
    match sessions.organisation_cookie(&login, request.now) {
        Some(cookie) => LoginOutcome::SignedIn(SignedIn::at_provider(login, cookie)),
        None => LoginOutcome::Internal,
    }
}
