//! Logins over OpenID Connect with a provider shaped like Okta, and the commands that check it.

mod check;
mod groups;
mod groups_refresh;
mod linked;
mod logout;
mod outgoing;
mod provider_trial;
mod sessions;
mod variants;
