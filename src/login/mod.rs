//! The steps of a login, from the refused request to the page first asked for.
//!
//! Application host → `login` on the team domain → identity provider → `callback` → `authorized` on
//! the application host → the page. Decides which step a browser is at and whether it may take the
//! next one. Trusts what was sealed by this team, for its purpose and its time; everything else
//! that comes back is input. Never builds a return address from anything but a known host and a
//! path.

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
pub(crate) use login_url::{LoginUrl, app_session_hash};
pub(crate) use provider_trial::TrialLink;
pub(crate) use purpose::{Destination, LoginPurpose, organisation_aud, refresh_path};
pub(crate) use request::{HostRole, PortalRequest};
pub(crate) use return_to::{Landing, ReturnTo, ReturnToError};

/// The query of the page that a logout ends on, as Access has it.
pub(crate) const LOGGED_OUT: &str = "__cf_access_message=logged_out";
