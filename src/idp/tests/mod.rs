//! Logins against a stand-in for Okta on the loopback interface.

mod absent_groups;
mod advice;
mod answers;
mod attempts;
mod bad_days;
mod check;
mod clients;
mod conformance;
mod directory;
mod groups;
mod keys;
mod scopes;
mod stand_in;

use super::*;
use crate::model::{Group, UserId};
use crate::oidc::testing::NOW;
