//! Cookies: finds ours on a request, removes them from forwarded requests, sets them, and seals
//! their values.
//!
//! Decides which bytes of a `Cookie` header are the value of a cookie (RFC 6265 4.2.1: no quotes,
//! no attributes). Trusts nothing in them. Never finds a cookie by searching for text, only by its
//! whole name.

mod expire;
mod find;
mod seal;
mod set;

pub use expire::expire_everywhere;
pub use find::{octets, values, without};
pub use seal::{SealError, SealingKey};
pub use set::{SameSite, SetCookie};

/// The session on an application's host, and the organisation session on the team domain.
pub const AUTHORIZATION: &str = "CF_Authorization";
/// Binds a login to the browser that began it, on the application's host.
pub const APP_SESSION: &str = "CF_AppSession";
/// Reserved for the binding cookie.
pub const BINDING: &str = "CF_Binding";
/// Binds one login flow to the browser, on the team domain: the prefix, followed by the flow's id.
pub const FLOW_PREFIX: &str = "__Host-CF_Session_";

/// The prefix of the cookie that marks a browser after its cookies of two logins were expired; the
/// name of that cookie follows.
pub const CONFLICT: &str = "__Host-CF_Conflict";

/// Returns `true` if a cookie is ours, so that origins must not receive it.
pub fn is_ours(name: &str) -> bool {
    matches!(
        name,
        AUTHORIZATION | APP_SESSION | BINDING | "CF_Session" | "CF_Device"
    ) || name.starts_with(FLOW_PREFIX)
        || name.starts_with(CONFLICT)
}
