//! Cookies: finding ours on a request, taking them out of what is forwarded, setting them, and
//! sealing what they carry.
//!
//! Decides which bytes of a `Cookie` header are the value of a cookie (RFC 6265 §4.2.1 and nothing
//! cleverer: no quotes, no attributes). Trusts nothing in them. Never finds a cookie by searching
//! for text, only by its whole name.

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

/// Marks a browser whose cookies were just expired because they came from two logins: the prefix,
/// followed by the cookie.
pub const CONFLICT: &str = "__Host-CF_Conflict";

/// Whether a cookie is ours and no origin's business.
pub fn is_ours(name: &str) -> bool {
    matches!(
        name,
        AUTHORIZATION | APP_SESSION | BINDING | "CF_Session" | "CF_Device"
    ) || name.starts_with(FLOW_PREFIX)
        || name.starts_with(CONFLICT)
}
