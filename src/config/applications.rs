use std::collections::BTreeSet;
use std::time::Duration;

use super::certificates;
use super::origins;
use super::policies::{self, Entry, Reusable};
use super::reader::{Item, Table};
use super::rules::{self, Names};
use super::server::{Insecure, Listen};
use super::service_tokens;
use super::unique::Unique;
use super::values;
use crate::catalog::{
    Application, ApplicationPolicy, ClientAuthority, Cors, Domain, IdentityProvider, Kind,
    OriginSettings, Team,
};
use crate::cookie::SameSite;
use crate::model::{Aud, IdpId};
use crate::policy::{List, PolicyDecision, Rule};
use crate::route::{CaseRivals, PathCase, case_rivals};

/// What an application's description refers to.
pub(super) struct Surroundings<'s, 'a> {
    /// None where it could not be read.
    pub(super) team: Option<&'s Team>,
    pub(super) remote: bool,
    pub(super) insecure: &'s Insecure,
    pub(super) listen: &'s [Listen],
    pub(super) names: &'s Names<'a>,
    pub(super) providers: &'s [IdentityProvider],
    pub(super) lists: &'s [List],
    pub(super) reusable: &'s Reusable,
    pub(super) certificates: &'s [ClientAuthority],
}

struct Seen<'a> {
    ids: Unique,
    names: Unique,
    places: Unique,
    auds: Unique,
    paths: Paths<'a>,
}

/// The domains of the applications, to find those that only the case of a path tells apart.
#[derive(Default)]
struct Paths<'a>(Vec<(Domain, PathCase, Item<'a>)>);

impl Paths<'_> {
    /// Reports every application all of whose requests are refused.
    fn report(&self) {
        let domains: Vec<_> = self.0.iter().map(|(domain, ..)| &domain.pattern).collect();
        let mut reported = BTreeSet::new();
        for CaseRivals { domain, rival } in case_rivals(&domains) {
            let (Some((refused, case, _)), Some((other, ..))) =
                (self.0.get(domain), self.0.get(rival))
            else {
                continue;
            };
            let is_refused =
                *case == PathCase::Insensitive && other.pattern.covers_host(refused.pattern.host());
            let (first, later) = (domain.min(rival), domain.max(rival));
            if is_refused
                && reported.insert((first, later))
                && let Some((_, _, item)) = self.0.get(later)
            {
                let (refused, other) = (refused.canonical(), other.canonical());
                item.error(&format!(
                    "only case keeps `{refused}` from being part of `{other}`, so all requests to it are refused; write both in the \
                     same case, or add `case_sensitive_paths = true` to both applications if their origins tell such paths apart"
                ));
            }
        }
    }
}

pub(super) fn read_all<'a>(
    table: &mut Table<'a>,
    around: &Surroundings<'_, '_>,
) -> Vec<Application> {
    let mut seen = Seen {
        ids: Unique::new("application has the id"),
        names: Unique::new("application has the name"),
        places: Unique::new("application claims"),
        auds: Unique::new("application has the audience"),
        paths: Paths::default(),
    };
    let list = table.list("applications");
    if list.is_empty() {
        table.reader().warn(
            table.place(),
            "there are no applications, so there is nothing to reach; add `[[applications]]`",
        );
    }
    let read = |item: &Item<'a>| {
        let application = item
            .table(|table| Application::read(table, around, &mut seen))
            .flatten()?;
        item.record(Kind::Application, &application.id);
        Some(application)
    };
    let applications = list.iter().filter_map(read).collect();
    seen.paths.report();
    applications
}

impl Application {
    fn read<'a>(
        table: &mut Table<'a>,
        around: &Surroundings<'_, '_>,
        seen: &mut Seen<'a>,
    ) -> Option<Self> {
        if table.is_access() {
            table.ignore_read_only();
            table.choice("type", (), &[("self_hosted", ())]);
        }
        table.foreign(&[
            (
                "type",
                "every application here is `self_hosted`; leave this out",
            ),
            (
                "origins",
                "this is called `origin`, one address or a list of them",
            ),
            (
                "self_hosted_domains",
                "write an application for each domain",
            ),
            ("destinations", "write an application for each domain"),
        ]);
        let spot = table
            .needed("domain", "\"app.example.com\"")
            .and_then(|item| Spot::read(item, around, seen));
        let id = identify(
            table,
            "id",
            values::id,
            &mut seen.ids,
            spot.as_ref(),
            Domain::canonical,
        );
        let name = identify(
            table,
            "name",
            values::label,
            &mut seen.names,
            spot.as_ref(),
            |domain| domain.text.clone(),
        );
        let aud = aud(table, around, seen, id.as_deref(), spot.as_ref());
        let path_case = if table.flag("case_sensitive_paths", false) {
            PathCase::Sensitive
        } else {
            PathCase::Insensitive
        };
        if let Some(spot) = &spot {
            seen.paths
                .0
                .push((spot.domain.clone(), path_case, spot.item.clone()));
        }
        let origins = origins::read_all(table, around.listen);
        let insecure = around.insecure;
        let origin_settings = table.section("origin_settings", |table| {
            OriginSettings::read(table, insecure, &origins)
        });
        let session_duration =
            policies::session_duration(table).unwrap_or(Duration::from_secs(86_400));
        let allowed_idps = allowed_idps(table, around);
        let auto_redirect_to_identity = auto_redirect(table, &allowed_idps, around);
        let same_site = [
            ("none", SameSite::None),
            ("lax", SameSite::Lax),
            ("strict", SameSite::Strict),
        ];
        let same_site_cookie_attribute =
            table.choice("same_site_cookie_attribute", SameSite::None, &same_site);
        let http_only_cookie_attribute = table.flag("http_only_cookie_attribute", true);
        let path_cookie_attribute = table
            .item("path_cookie_attribute")
            .is_some()
            .then(|| table.flag("path_cookie_attribute", false));
        let cors_headers = table
            .item("cors_headers")
            .and_then(|item| item.table(Cors::read));
        let options_preflight_bypass = table.flag("options_preflight_bypass", false);
        if let (true, Some(_), Some(item)) = (
            options_preflight_bypass,
            &cors_headers,
            table.item("options_preflight_bypass"),
        ) {
            item.error(
                "with `cors_headers` preflights are answered here; leave one of the two out",
            );
        }
        let pass_cookies = table.flag("pass_cookies", false);
        let max_body = table.size("max_body", 0..=u64::MAX);
        let custom_deny_message = table.label("custom_deny_message");
        let policies = policies(table, around, &allowed_idps, spot.as_ref());
        Some(Self {
            id: id?,
            aud: aud?,
            name: name?,
            domain: spot?.domain,
            path_case,
            origins,
            origin_settings: origin_settings?,
            session_duration,
            allowed_idps,
            auto_redirect_to_identity,
            same_site_cookie_attribute,
            http_only_cookie_attribute,
            path_cookie_attribute,
            cors_headers,
            options_preflight_bypass,
            pass_cookies,
            max_body,
            custom_deny_message,
            policies,
        })
    }
}

/// A domain and where it is written.
struct Spot<'a> {
    domain: Domain,
    item: Item<'a>,
    /// Whether no other application is there.
    is_free: bool,
}

impl<'a> Spot<'a> {
    fn read(item: Item<'a>, around: &Surroundings<'_, '_>, seen: &mut Seen<'_>) -> Option<Self> {
        let domain = item.parse(Domain::parse)?;
        let is_free = seen
            .places
            .claim(item.reader(), &domain.canonical(), item.place());
        let host = domain.pattern.host();
        if around.team.is_some_and(|team| team.domain.as_str() == host) && !around.remote {
            item.error(&format!(
                "`{host}` is the team domain, where people log in; an application needs a host of its own"
            ));
        }
        if let Some((labels, last)) = host.rsplit_once('.')
            && labels.contains('*')
            && !labels.contains('.')
            && last != "localhost"
        {
            item.warn(&format!(
                "`{host}` covers every name right under `{last}`; if anybody else can have one, they can take over sessions"
            ));
        }
        Some(Self {
            domain,
            item,
            is_free,
        })
    }
}

/// An id or a name, with what serves where there is none.
fn identify(
    table: &mut Table<'_>,
    key: &'static str,
    rule: fn(&str) -> Result<String, String>,
    seen: &mut Unique,
    spot: Option<&Spot<'_>>,
    otherwise: impl FnOnce(&Domain) -> String,
) -> Option<String> {
    if let Some(item) = table.item(key) {
        return item.claim(rule, seen);
    }
    let spot = spot?;
    let text = otherwise(&spot.domain);
    // Two in one place were reported there.
    if spot.is_free {
        seen.claim(spot.item.reader(), &text, spot.item.place());
    }
    Some(text)
}

fn aud(
    table: &mut Table<'_>,
    around: &Surroundings<'_, '_>,
    seen: &mut Seen<'_>,
    id: Option<&str>,
    spot: Option<&Spot<'_>>,
) -> Option<Aud> {
    let item = if around.remote {
        table.needed("aud", "\"<64 hexadecimal digits>\"")
    } else {
        table.item("aud")
    };
    let read = |text: &str| {
        Aud::parse(text).map_err(|_| {
            format!("`{text}` is not an audience; it has 64 digits of `0`-`9` and `a`-`f`")
        })
    };
    // One application of the real Access has one audience for all its domains.
    if around.remote {
        return item?.parse(read);
    }
    let (aud, at) = match item {
        Some(item) => (item.parse(read)?, item),
        None => {
            let spot = spot.filter(|spot| spot.is_free)?;
            (
                Aud::derive(&[around.team?.domain.as_str(), id?]),
                spot.item.clone(),
            )
        }
    };
    seen.auds.claim(at.reader(), aud.as_str(), at.place());
    Some(aud)
}

fn allowed_idps(table: &mut Table<'_>, around: &Surroundings<'_, '_>) -> Vec<IdpId> {
    let read = |text: &str| match rules::unknown_provider(text, around.names) {
        Some(message) => Err(message),
        None => Ok(IdpId(text.into())),
    };
    table
        .list("allowed_idps")
        .iter()
        .filter_map(|item| item.parse(read))
        .collect()
}

fn auto_redirect(table: &mut Table<'_>, allowed: &[IdpId], around: &Surroundings<'_, '_>) -> bool {
    let on = table.flag("auto_redirect_to_identity", false);
    let providers = around.names.providers.as_ref().map_or(1, BTreeSet::len);
    let choices = if table.list("allowed_idps").is_empty() {
        providers
    } else {
        allowed.len()
    };
    if let (true, 2.., Some(item)) = (on, choices, table.item("auto_redirect_to_identity")) {
        item.error(&format!(
            "there are {choices} identity providers to choose from, so somebody must choose; name exactly one in `allowed_idps`"
        ));
    }
    on
}

fn policies(
    table: &mut Table<'_>,
    around: &Surroundings<'_, '_>,
    allowed: &[IdpId],
    spot: Option<&Spot<'_>>,
) -> Vec<ApplicationPolicy> {
    let reader = table.reader();
    let entries = policies::read_all(table, around.names, around.lists, around.reusable);
    for Entry { policy, place, .. } in &entries {
        service_tokens::report_misplaced(reader, policy, place, around.remote);
        if let Some(spot) = spot {
            certificates::report_unknown(reader, policy, place, &spot.domain, around.certificates);
        }
    }
    for Entry { policy, place, .. } in &entries {
        let everybody = policy.include.contains(&Rule::Everyone {})
            && policy.require.is_empty()
            && !policy.shadow;
        if everybody && policy.decision == PolicyDecision::Allow {
            let through = around
                .providers
                .iter()
                .filter(|p| allowed.is_empty() || allowed.contains(&p.id));
            let through = through.map(|p| format!("`{}`", p.name)).collect::<Vec<_>>();
            let through = if through.is_empty() {
                "the team domain".to_owned()
            } else {
                through.join(" or ")
            };
            reader.warn(
                place,
                &format!("this lets in anyone who can log in through {through}"),
            );
        } else if everybody && policy.decision == PolicyDecision::Bypass {
            reader.warn(place, "this lets in anyone at all, without a login");
        }
    }
    entries.into_iter().map(|entry| entry.written).collect()
}
