//! The values of a login, from the refused request to the requested page.
//!
//! Application host → `login` on the team domain → identity provider → `callback` → `authorized` on
//! the application host → the page. Decides which values a browser carries from step to step, and
//! whether a returned one is valid. Trusts values that this team sealed for the same purpose and
//! that have not expired; all other values are untrusted input. Never builds a return URL from
//! anything but a known host and a path. It waits for nothing and shows no page.

mod app_session;
mod conflict;
mod flow;
mod handover;
mod login_url;
mod provider_trial;
mod purpose;
mod request;
mod return_to;

pub(crate) use app_session::AppSession;
pub(crate) use conflict::Conflict;
pub(crate) use flow::{Flow, FlowCookies, State, is_flow};
pub(crate) use handover::{Claim, Granted, Handover, Refused, Terms};
pub(crate) use login_url::{
    LoginOption, LoginUrl, app_session_hash, replaced_handover, with_handover,
};
pub(crate) use provider_trial::TrialLink;
pub(crate) use purpose::{Destination, LoginPurpose, organisation_aud, refresh_path};
pub(crate) use request::PortalRequest;
pub(crate) use return_to::{Landing, ReturnTo, ReturnToError};

/// The query of the page on which a logout ends, as in Access.
pub(crate) const LOGGED_OUT: &str = "__cf_access_message=logged_out";
