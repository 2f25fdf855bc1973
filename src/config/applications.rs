use std::collections::BTreeSet;
use std::time::Duration;

use super::certificates;
use super::origins;
use super::policies::{self, Entry, Reusable};
use super::reader::{Item, Table};
use super::rules::{self, Names};
use super::server::{Insecure, Listen};
use super::service_tokens;
use super::team::TokenIssuer;
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

/// The context that an application is checked in.
pub(super) struct Context<'s, 'a> {
    /// `None` if `[team]` has mistakes.
    pub(super) team: Option<&'s Team>,
    pub(super) issuer: TokenIssuer,
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

/// The domains of the applications, to find those that differ only in the case of a path.
#[derive(Default)]
struct Paths<'a>(Vec<(Domain, PathCase, Item<'a>)>);

impl Paths<'_> {
    /// Reports every application that would refuse all of its requests.
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
                    "`{refused}` differs from `{other}` only in case, so all requests to it are \
                     rejected; write both in the same case, or add `case_sensitive_paths = true` \
                     to both applications if their origins distinguish such paths"
                ));
            }
        }
    }
}

pub(super) fn read_all<'a>(table: &mut Table<'a>, context: &Context<'_, '_>) -> Vec<Application> {
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
            "no application is configured; add `[[applications]]`",
        );
    }
    let read = |item: &Item<'a>| {
        let application = item
            .table(|table| Application::read(table, context, &mut seen))
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
        context: &Context<'_, '_>,
        seen: &mut Seen<'a>,
    ) -> Option<Self> {
        accept_type(table);
        let claimed = table
            .needed("domain", "\"app.example.com\"")
            .and_then(|item| ClaimedDomain::read(item, context, seen));
        let id = identify(
            table,
            "id",
            values::id,
            &mut seen.ids,
            claimed.as_ref(),
            Domain::canonical,
        );
        let name = identify(
            table,
            "name",
            values::label,
            &mut seen.names,
            claimed.as_ref(),
            |domain| domain.text.clone(),
        );
        let aud = aud(table, context, seen, id.as_deref(), claimed.as_ref());
        let path_case = path_case(table);
        if let Some(claimed) = &claimed {
            seen.paths
                .0
                .push((claimed.domain.clone(), path_case, claimed.item.clone()));
        }
        let origins = origins::read_all(table, context.listen);
        let insecure = context.insecure;
        let origin_settings = table.section("origin_settings", |table| {
            OriginSettings::read(table, insecure, &origins)
        });
        let session_duration =
            policies::session_duration(table).unwrap_or(Duration::from_secs(86_400));
        let allowed_idps = allowed_idps(table, context);
        let auto_redirect_to_identity = auto_redirect(table, &allowed_idps, context);
        let same_site_cookie_attribute = same_site(table);
        let http_only_cookie_attribute = table.flag("http_only_cookie_attribute", true);
        let path_cookie_attribute = table
            .item("path_cookie_attribute")
            .is_some()
            .then(|| table.flag("path_cookie_attribute", false));
        let (cors_headers, options_preflight_bypass) = preflights(table);
        let pass_cookies = table.flag("pass_cookies", false);
        let max_body = table.size("max_body", 0..=u64::MAX);
        let custom_deny_message = table.label("custom_deny_message");
        let policies = policies(table, context, &allowed_idps, claimed.as_ref());
        Some(Self {
            id: id?,
            aud: aud?,
            name: name?,
            domain: claimed?.domain,
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

/// Accepts `self_hosted` only, and rejects keys of Access that are not supported here.
fn accept_type(table: &mut Table<'_>) {
    if table.is_access() {
        table.ignore_read_only();
        table.choice("type", (), &[("self_hosted", ())]);
    }
    table.foreign(&[
        (
            "type",
            "every application here is `self_hosted`; remove this",
        ),
        ("origins", "this is called `origin`: one address or a list"),
        (
            "self_hosted_domains",
            "write an application for each domain",
        ),
        ("destinations", "write an application for each domain"),
    ]);
}

fn path_case(table: &mut Table<'_>) -> PathCase {
    if table.flag("case_sensitive_paths", false) {
        PathCase::Sensitive
    } else {
        PathCase::Insensitive
    }
}

fn same_site(table: &mut Table<'_>) -> SameSite {
    let words = [
        ("none", SameSite::None),
        ("lax", SameSite::Lax),
        ("strict", SameSite::Strict),
    ];
    table.choice("same_site_cookie_attribute", SameSite::None, &words)
}

/// Reads `cors_headers` and `options_preflight_bypass`, which exclude each other.
fn preflights(table: &mut Table<'_>) -> (Option<Cors>, bool) {
    let cors = table
        .item("cors_headers")
        .and_then(|item| item.table(Cors::read));
    let bypass = table.flag("options_preflight_bypass", false);
    let item = table.item("options_preflight_bypass");
    if let (true, Some(_), Some(item)) = (bypass, &cors, item) {
        item.error(
            "with `cors_headers`, Portcullis answers preflights itself; remove one of the two",
        );
    }
    (cors, bypass)
}

/// A parsed domain and the value that it comes from.
struct ClaimedDomain<'a> {
    domain: Domain,
    item: Item<'a>,
    /// `true` if no earlier application claims the same domain.
    is_free: bool,
}

impl<'a> ClaimedDomain<'a> {
    fn read(item: Item<'a>, context: &Context<'_, '_>, seen: &mut Seen<'_>) -> Option<Self> {
        let domain = item.parse(Domain::parse)?;
        let is_free = seen
            .places
            .claim(item.reader(), &domain.canonical(), item.place());
        let host = domain.pattern.host();
        if context
            .team
            .is_some_and(|team| team.domain.as_str() == host)
            && context.issuer == TokenIssuer::Local
        {
            item.error(&format!(
                "`{host}` is the team domain, where users sign in; an application needs a \
                 different host"
            ));
        }
        if let Some((labels, last)) = host.rsplit_once('.')
            && labels.contains('*')
            && !labels.contains('.')
            && last != "localhost"
        {
            item.warn(&format!(
                "`{host}` covers every name directly under `{last}`; if others can register one, they can take over sessions"
            ));
        }
        Some(Self {
            domain,
            item,
            is_free,
        })
    }
}

/// Reads an id or a name; `otherwise` derives the default from the domain.
fn identify(
    table: &mut Table<'_>,
    key: &'static str,
    rule: fn(&str) -> Result<String, String>,
    seen: &mut Unique,
    claimed: Option<&ClaimedDomain<'_>>,
    otherwise: impl FnOnce(&Domain) -> String,
) -> Option<String> {
    if let Some(item) = table.item(key) {
        return item.claim(rule, seen);
    }
    let claimed = claimed?;
    let text = otherwise(&claimed.domain);
    // A second application with the same domain was reported already.
    if claimed.is_free {
        seen.claim(claimed.item.reader(), &text, claimed.item.place());
    }
    Some(text)
}

fn aud(
    table: &mut Table<'_>,
    context: &Context<'_, '_>,
    seen: &mut Seen<'_>,
    id: Option<&str>,
    claimed: Option<&ClaimedDomain<'_>>,
) -> Option<Aud> {
    let item = if context.issuer == TokenIssuer::Remote {
        table.needed("aud", "\"<64 hexadecimal digits>\"")
    } else {
        table.item("aud")
    };
    let read = |text: &str| {
        Aud::parse(text).map_err(|_| {
            format!("`{text}` is not an audience; it has 64 digits of `0`-`9` and `a`-`f`")
        })
    };
    // An application of Cloudflare Access has one audience for all its domains, so it is not unique
    // here.
    if context.issuer == TokenIssuer::Remote {
        return item?.parse(read);
    }
    let (aud, at) = match item {
        Some(item) => (item.parse(read)?, item),
        None => {
            let claimed = claimed.filter(|claimed| claimed.is_free)?;
            (
                Aud::derive(&[context.team?.domain.as_str(), id?]),
                claimed.item.clone(),
            )
        }
    };
    seen.auds.claim(at.reader(), aud.as_str(), at.place());
    Some(aud)
}

fn allowed_idps(table: &mut Table<'_>, context: &Context<'_, '_>) -> Vec<IdpId> {
    let read = |text: &str| match rules::unknown_provider(text, context.names) {
        Some(message) => Err(message),
        None => Ok(IdpId(text.into())),
    };
    table
        .list("allowed_idps")
        .iter()
        .filter_map(|item| item.parse(read))
        .collect()
}

fn auto_redirect(table: &mut Table<'_>, allowed: &[IdpId], context: &Context<'_, '_>) -> bool {
    let on = table.flag("auto_redirect_to_identity", false);
    let providers = context.names.providers.as_ref().map_or(1, BTreeSet::len);
    let choices = if table.list("allowed_idps").is_empty() {
        providers
    } else {
        allowed.len()
    };
    if let (true, 2.., Some(item)) = (on, choices, table.item("auto_redirect_to_identity")) {
        item.error(&format!(
            "there are {choices} identity providers, so the user has to choose; name exactly one in `allowed_idps`"
        ));
    }
    on
}

fn policies(
    table: &mut Table<'_>,
    context: &Context<'_, '_>,
    allowed: &[IdpId],
    claimed: Option<&ClaimedDomain<'_>>,
) -> Vec<ApplicationPolicy> {
    let reader = table.reader();
    let entries = policies::read_all(table, context.names, context.lists, context.reusable);
    for Entry { policy, place, .. } in &entries {
        service_tokens::report_misplaced(reader, policy, place, context.issuer);
        if let Some(claimed) = claimed {
            certificates::report_unknown(
                reader,
                policy,
                place,
                &claimed.domain,
                context.certificates,
            );
        }
    }
    for Entry { policy, place, .. } in &entries {
        let everybody = policy.include.contains(&Rule::Everyone {})
            && policy.require.is_empty()
            && !policy.shadow;
        if everybody && policy.decision == PolicyDecision::Allow {
            let through = context
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
                &format!("this allows anyone who can log in through {through}"),
            );
        } else if everybody && policy.decision == PolicyDecision::Bypass {
            reader.warn(place, "this allows every request, without a login");
        }
    }
    entries.into_iter().map(|entry| entry.written).collect()
}
