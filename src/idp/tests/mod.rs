//! Logins against a stand-in for Okta on the loopback interface.

mod absent_groups;
mod advice;
mod answers;
mod attempts;
mod callbacks;
mod check;
mod clients;
mod conformance;
mod directory;
mod documents;
mod groups;
mod keys;
mod responses;
mod scopes;
mod stand_in;

use super::*;
use crate::model::{Group, UserId};
use crate::oidc::testing::NOW;
