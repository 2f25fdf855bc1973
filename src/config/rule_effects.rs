//! Finds well-formed rules that cannot have an effect.

use super::names::Names;
use super::reader::Item;
use crate::model::{Email, EmailDomain, IdpId};
use crate::policy::{Rule, Verb};

/// Returns `true` if a well-formed rule can have an effect here; reports the reason otherwise.
pub(super) fn has_effect(rule: &Rule, body: &Item<'_>, names: &Names<'_>) -> bool {
    let check = |field: &str, message: Option<String>| is_right(body, field, message);
    match rule {
        Rule::Everyone {}
        | Rule::Ip { .. }
        | Rule::AuthMethod { .. }
        | Rule::PortcullisTime(_)
        | Rule::Certificate {}
        | Rule::AnyValidServiceToken {} => true,
        Rule::Email { email } => check("email", email_mistake(email)),
        Rule::EmailDomain { domain } => check("domain", domain_mistake(domain)),
        Rule::Group { id } => check("id", names.unknown_group(id)),
        Rule::EmailList { id } => check("id", names.unknown_email_list(id)),
        Rule::IpList { id } => check("id", names.unknown_ip_list(id)),
        Rule::LoginMethod { id } => check("id", names.unknown_provider(&id.0)),
        Rule::Okta {
            name,
            identity_provider_id: idp,
        } => {
            let named = check("name", empty_name(name));
            is_known(idp, body, names) && named
        }
        Rule::Saml {
            attribute_name: name,
            identity_provider_id: idp,
            ..
        } => {
            let mistake = requested(name, idp, names, Requested::Attribute);
            let named = check("attribute_name", mistake);
            is_known(idp, body, names) && named
        }
        Rule::Oidc {
            claim_name: name,
            identity_provider_id: idp,
            ..
        } => {
            let mistake = requested(name, idp, names, Requested::Claim);
            let named = check("claim_name", mistake);
            is_known(idp, body, names) && named
        }
        Rule::AzureAd {
            identity_provider_id: idp,
            ..
        }
        | Rule::GithubOrganization {
            identity_provider_id: idp,
            ..
        }
        | Rule::Gsuite {
            identity_provider_id: idp,
            ..
        }
        | Rule::AuthContext {
            identity_provider_id: idp,
            ..
        } => {
            warn_not_evaluated(rule, body);
            is_known(idp, body, names)
        }
        Rule::DevicePosture { .. }
        | Rule::UserRiskScore { .. }
        | Rule::CloudflareAccountMember { .. } => {
            warn_not_evaluated(rule, body);
            true
        }
        Rule::PortcullisMethod { methods } => check("methods", no_method(methods)),
        Rule::Geo { .. } => check("country_code", no_countries(names)),
        Rule::ExternalEvaluation {
            evaluate_url,
            keys_url,
        } => names.evaluations.check(evaluate_url, keys_url, body),
        Rule::ServiceToken { token_id } => check("token_id", names.unknown_token(token_id)),
        Rule::LinkedAppToken { app_uid } => check("app_uid", names.unknown_application(app_uid)),
        Rule::CommonName { common_name } => check("common_name", common_name_mistake(common_name)),
    }
}

/// Returns `true` without a mistake in the field; reports it otherwise.
fn is_right(body: &Item<'_>, field: &str, mistake: Option<String>) -> bool {
    let Some(message) = mistake else {
        return true;
    };
    let field = body.get(field).unwrap_or_else(|| body.clone());
    field.error(&message);
    false
}

fn is_known(idp: &IdpId, body: &Item<'_>, names: &Names<'_>) -> bool {
    is_right(body, "identity_provider_id", names.unknown_provider(&idp.0))
}

/// The facts that a configuration has to request of its provider.
#[derive(Clone, Copy)]
enum Requested {
    Claim,
    Attribute,
}

/// Returns a message if logins do not request the claim or attribute.
fn requested(name: &str, idp: &IdpId, names: &Names<'_>, what: Requested) -> Option<String> {
    if name.is_empty() {
        return empty_name(name);
    }
    let requested = names.claims.get(&*idp.0)?;
    let (what, list) = match what {
        Requested::Attribute => ("attribute", "attributes"),
        Requested::Claim => ("claim", "claims"),
    };
    let is_requested = requested.iter().any(|requested| requested == name);
    (!is_requested).then(|| {
        format!(
            "the provider `{}` does not request the {what} `{name}`; add it to its `{list}`",
            idp.0
        )
    })
}

fn empty_name(name: &str) -> Option<String> {
    name.is_empty().then(|| "the name is empty".to_owned())
}

fn no_method(methods: &[Verb]) -> Option<String> {
    let none = "an empty list matches no method; name at least one, such as `GET`";
    methods.is_empty().then(|| none.to_owned())
}

fn no_countries(names: &Names<'_>) -> Option<String> {
    let none =
        "there is no country database; add `[geo]` with `database = \"GeoLite2-Country.mmdb\"`";
    (!names.countries).then(|| none.to_owned())
}

fn common_name_mistake(common_name: &str) -> Option<String> {
    let none = common_name.is_empty() || common_name.chars().any(char::is_control);
    none.then(|| "no certificate that is taken has such a common name".to_owned())
}

/// Warns about a rule that nothing here can evaluate.
fn warn_not_evaluated(rule: &Rule, body: &Item<'_>) {
    let selector = rule.selector();
    let message = format!(
        "`{selector}` needs a service that only Cloudflare has, so its result is unknown: in `include` and `require` it never matches, in `exclude` it denies every request"
    );
    body.reader().warn(body.place(), &message);
}

/// Returns a message if the text is not an email address.
pub(super) fn email_mistake(email: &str) -> Option<String> {
    if let Some(("" | "*", domain)) = email.rsplit_once('@') {
        let instead = format!("{{ email_domain = {{ domain = \"{domain}\" }} }}");
        return Some(format!(
            "`{email}` is not one address; for the whole domain write `{instead}`"
        ));
    }
    if email.contains('*') {
        return Some(format!(
            "`{email}`: there are no wildcards here; write a rule for each address"
        ));
    }
    let error = Email::parse(email).err()?;
    Some(format!(
        "`{email}` is not an address like `alice@example.com`: {error}"
    ))
}

fn domain_mistake(domain: &str) -> Option<String> {
    if let Some((_, host)) = domain.rsplit_once('@') {
        return Some(format!(
            "`{domain}` must be the part after the `@`; write `{host}`"
        ));
    }
    if domain.contains('*') {
        return Some(format!(
            "`{domain}`: there are no wildcards here; write a rule for each domain"
        ));
    }
    EmailDomain::parse(domain)
        .err()
        .map(|e| format!("`{domain}` is not a domain like `example.com`: {e}"))
}
