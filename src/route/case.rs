use std::collections::HashMap;

use super::Domain;
use super::readings::Pattern;
use crate::model::CleanPath;

/// Two domains on the same hosts, by their index in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaseRivals {
    /// The domain that is the same as the other one to an origin that ignores case.
    pub domain: usize,
    /// The domain that covers all paths of the first if case is ignored, and not otherwise.
    pub rival: usize,
}

/// Returns all [`CaseRivals`] of a list, each once. Two domains that differ only in case are rivals
/// of each other.
///
/// The time is linear in the number of domains, and quadratic in those of a host if one of them has
/// a letter that case changes.
pub fn case_rivals(domains: &[&Domain]) -> Vec<CaseRivals> {
    let patterns = domains.iter().enumerate().map(|(index, domain)| {
        let pattern = Pattern::compile(domain.path());
        Entry {
            index,
            domain,
            has_case: pattern.has_case(),
            pattern,
        }
    });
    let (mut exact, mut wild) = (HashMap::<&str, Vec<Entry<'_>>>::new(), Vec::new());
    for entry in patterns {
        match entry.domain.exact_host() {
            Some(host) => exact.entry(host).or_default().push(entry),
            None => wild.push(entry),
        }
    }
    let mut rivals = Vec::new();
    let mut compare = |one: &Entry<'_>, other: &Entry<'_>| {
        if one.is_rivalled_by(other) {
            rivals.push(CaseRivals {
                domain: one.index,
                rival: other.index,
            });
        }
    };
    for on_host in exact.values().chain([&wild]) {
        for one in on_host {
            on_host.iter().for_each(|other| compare(one, other));
        }
    }
    for one in exact.values().flatten() {
        for other in &wild {
            compare(one, other);
            compare(other, one);
        }
    }
    rivals.sort_unstable_by_key(|rivals| (rivals.domain, rivals.rival));
    rivals
}

struct Entry<'a> {
    index: usize,
    domain: &'a Domain,
    pattern: Pattern,
    has_case: bool,
}

impl Entry<'_> {
    fn is_rivalled_by(&self, other: &Self) -> bool {
        (self.has_case || other.has_case)
            && may_share_a_host(self.domain, other.domain)
            && covers_in_other_case(&other.pattern, self.domain)
    }
}

/// Returns `true` unless no host can be one of both.
fn may_share_a_host(one: &Domain, other: &Domain) -> bool {
    match (one.exact_host(), other.exact_host()) {
        (Some(host), _) => other.covers_host(host),
        (_, Some(host)) => one.covers_host(host),
        (None, None) => true,
    }
}

/// The paths of a domain have one reading, up to their case; so has its pattern when it is read as
/// a path.
fn covers_in_other_case(pattern: &Pattern, domain: &Domain) -> bool {
    CleanPath::parse(domain.path()).is_ok_and(|path| {
        pattern.may_cover(&path, super::PathCase::Insensitive)
            && !pattern.may_cover(&path, super::PathCase::Sensitive)
    })
}
