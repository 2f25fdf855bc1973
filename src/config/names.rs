//! The names that rules and applications refer to.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::errors::instead;
use super::evaluations::Evaluations;

/// The names that rules can refer to.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// `true` if there is a country database.
    pub(super) countries: bool,
    /// The evaluation services that rules name.
    pub(super) evaluations: Evaluations,
    /// The ids of the identity providers; `None` for a remote team, which has them.
    pub(super) providers: Option<BTreeSet<&'a str>>,
    /// The ids of the Access groups.
    pub(super) groups: BTreeSet<&'a str>,
    /// The ids of the service tokens.
    pub(super) service_tokens: BTreeSet<&'a str>,
    /// The ids of the applications.
    pub(super) applications: BTreeSet<String>,
    /// The claims that logins request of each provider.
    pub(super) claims: BTreeMap<String, Vec<String>>,
    /// The ids of the lists of email addresses.
    pub(super) email_lists: BTreeSet<String>,
    /// The ids of the lists of networks.
    pub(super) ip_lists: BTreeSet<String>,
    /// The groups with rules about users, their own or those of groups in them.
    pub(super) about_identity: HashSet<String>,
}

impl Names<'_> {
    /// Returns a message if no identity provider has the id.
    pub(super) fn unknown_provider(&self, id: &str) -> Option<String> {
        let known = self.providers.as_ref()?;
        (!known.contains(id)).then(|| unknown("identity provider", id, known.iter().copied()))
    }

    /// Returns a message if no Access group has the id.
    pub(super) fn unknown_group(&self, id: &str) -> Option<String> {
        let known = &self.groups;
        (!known.contains(id)).then(|| unknown("group", id, known.iter().copied()))
    }

    /// Returns a message if no service token has the id.
    pub(super) fn unknown_token(&self, id: &str) -> Option<String> {
        let known = &self.service_tokens;
        (!known.contains(id)).then(|| unknown("service token", id, known.iter().copied()))
    }

    /// Returns a message if no application has the id.
    pub(super) fn unknown_application(&self, id: &str) -> Option<String> {
        let known = &self.applications;
        (!known.contains(id)).then(|| unknown("application", id, known.iter().map(String::as_str)))
    }

    /// Returns a message if no list of email addresses has the id.
    pub(super) fn unknown_email_list(&self, id: &str) -> Option<String> {
        unknown_list(id, &self.email_lists, &self.ip_lists, "email addresses")
    }

    /// Returns a message if no list of networks has the id.
    pub(super) fn unknown_ip_list(&self, id: &str) -> Option<String> {
        unknown_list(id, &self.ip_lists, &self.email_lists, "networks")
    }
}

fn unknown<'c>(kind: &str, id: &str, known: impl IntoIterator<Item = &'c str>) -> String {
    format!("no {kind} has the id `{id}`{}", instead(id, known))
}

fn unknown_list(
    id: &str,
    fitting: &BTreeSet<String>,
    other: &BTreeSet<String>,
    what: &str,
) -> Option<String> {
    if fitting.contains(id) {
        return None;
    }
    if other.contains(id) {
        return Some(format!("the list `{id}` does not contain {what}"));
    }
    let instead = instead(id, fitting.iter().map(String::as_str));
    Some(format!("no list of {what} has the id `{id}`{instead}"))
}
