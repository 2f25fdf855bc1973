//! Finds policies that can never apply and policies that are never reached. No request is needed,
//! so only certain mistakes are reported.

use std::cell::Cell;
use std::collections::HashMap;

use ipnet::IpNet;

use super::order::{PolicyIndex, in_order};
use super::rule::{AccessGroup, List, ListItems, Policy, PolicyDecision, Rule};
use crate::model::{Email, EmailDomain, IdpId};

/// Finds mistakes within a bounded number of steps.
#[derive(Debug)]
pub struct Advisor<'a> {
    lists: HashMap<&'a str, &'a ListItems>,
    /// The number of comparisons left. Mistakes beyond it are not reported.
    budget: Cell<usize>,
}

/// About a second of comparing in an unoptimised build.
const BUDGET: usize = 2_000_000;

impl<'a> Advisor<'a> {
    /// Creates an advisor with the configured lists.
    pub fn new(lists: &'a [List]) -> Self {
        let lists = lists
            .iter()
            .map(|list| (list.id.as_str(), &list.items))
            .collect();
        Self {
            lists,
            budget: Cell::new(BUDGET),
        }
    }

    /// Returns the reason why a policy can never apply, and a remedy.
    pub fn policy(&self, policy: &Policy) -> Option<String> {
        self.clauses(&policy.include, &policy.require, &policy.exclude)
    }

    /// Returns the reason why an Access group is always empty, and a remedy.
    pub fn group(&self, group: &AccessGroup) -> Option<String> {
        self.clauses(&group.include, &group.require, &group.exclude)
    }

    /// Returns the policies of an application that are never reached, by their indices, with the
    /// reason.
    pub fn unreached(&self, policies: &[Policy]) -> Vec<(PolicyIndex, String)> {
        let order: Vec<(PolicyIndex, &Policy)> =
            in_order(policies).filter(|(_, p)| !p.shadow).collect();
        let mut found = Vec::new();
        for (at, (index, later)) in order.iter().enumerate() {
            if self.budget.get() == 0 {
                break;
            }
            let first = order
                .iter()
                .take(at)
                .find(|(_, first)| self.is_part(later, first));
            if let Some((_, first)) = first {
                found.push((*index, never_reached(first, later)));
            }
        }
        found
    }

    fn clauses(&self, include: &[Rule], require: &[Rule], exclude: &[Rule]) -> Option<String> {
        for (at, a) in require.iter().enumerate() {
            if self.budget.get() == 0 {
                return None;
            }
            if let Some(b) = require.iter().skip(at + 1).find(|b| self.contradict(a, b)) {
                let selector = a.selector();
                let and = if selector == b.selector() {
                    format!("two different `{selector}`")
                } else {
                    format!("this `{selector}` and this `{}`", b.selector())
                };
                return Some(format!(
                    "{and} can never hold at once, and every rule of `require` must; for one or the other, name an Access group that has them in its `include`"
                ));
            }
        }
        if let Some(rule) = require
            .iter()
            .find(|required| exclude.iter().any(|rule| self.covers(rule, required)))
        {
            return Some(format!(
                "`exclude` contains what `{}` in `require` demands, so this policy never applies",
                rule.selector()
            ));
        }
        let is_kept_out = |rule: &Rule| {
            exclude.iter().any(|out| self.covers(out, rule))
                || require.iter().any(|all| self.contradict(all, rule))
        };
        (!include.is_empty() && include.iter().all(is_kept_out))
            .then(|| "every user in `include` is excluded by `require` or `exclude`, so this policy never applies".to_owned())
    }

    /// Returns `true` if `whole` applies to every request that `part` applies to.
    fn is_part(&self, part: &Policy, whole: &Policy) -> bool {
        if !self.step() {
            return false;
        }
        let narrows = |rule: &Rule| {
            part.require
                .iter()
                .any(|required| self.covers(rule, required))
        };
        let required = whole.require.iter().all(narrows);
        let kept_out = |rule: &Rule| part.exclude.iter().any(|out| self.covers(out, rule));
        let included = |rule: &Rule| whole.include.iter().any(|wide| self.covers(wide, rule));
        required
            && whole.exclude.iter().all(kept_out)
            && (part.include.iter().all(included) || whole.include.iter().any(narrows))
    }

    /// Returns `true` if no request can satisfy both.
    fn contradict(&self, a: &Rule, b: &Rule) -> bool {
        if !self.step() {
            return false;
        }
        if let (Some(a), Some(b)) = (provider(a), provider(b))
            && a != b
        {
            return true;
        }
        match (a, b) {
            (Rule::Email { email: a }, Rule::Email { email: b }) => {
                Email::parse(a).ok() != Email::parse(b).ok()
            }
            (Rule::Email { email }, Rule::EmailDomain { domain })
            | (Rule::EmailDomain { domain }, Rule::Email { email }) => !is_of(email, domain),
            (Rule::EmailDomain { domain: a }, Rule::EmailDomain { domain: b }) => {
                EmailDomain::parse(a).ok() != EmailDomain::parse(b).ok()
            }
            (Rule::Geo { country_code: a }, Rule::Geo { country_code: b }) => a != b,
            (Rule::CommonName { common_name: a }, Rule::CommonName { common_name: b }) => a != b,
            (Rule::ServiceToken { token_id: a }, Rule::ServiceToken { token_id: b }) => a != b,
            (Rule::LinkedAppToken { app_uid: a }, Rule::LinkedAppToken { app_uid: b }) => a != b,
            (Rule::PortcullisMethod { methods: a }, Rule::PortcullisMethod { methods: b }) => {
                !a.iter().any(|verb| b.contains(verb))
            }
            (Rule::Ip { ip: a }, Rule::Ip { ip: b }) => !overlap(a.net(), b.net()),
            _ => false,
        }
    }

    /// Returns `true` if every request that satisfies `part` satisfies `whole`.
    fn covers(&self, whole: &Rule, part: &Rule) -> bool {
        if !self.step() {
            return false;
        }
        match (whole, part) {
            (Rule::Everyone {}, _) => true,
            (whole, part) if whole == part => true,
            (Rule::EmailDomain { domain }, Rule::Email { email }) => is_of(email, domain),
            (Rule::EmailList { id }, Rule::Email { email }) => match self.items(id) {
                Some(ListItems::Email(emails)) => {
                    let email = Email::parse(email).ok();
                    email.is_some()
                        && emails
                            .iter()
                            .any(|listed| self.step() && Email::parse(&listed.value).ok() == email)
                }
                _ => false,
            },
            (Rule::Ip { ip: whole }, Rule::Ip { ip: part }) => whole.net().contains(&part.net()),
            (Rule::IpList { id }, Rule::Ip { ip }) => match self.items(id) {
                Some(ListItems::Ip(ranges)) => ranges
                    .iter()
                    .any(|range| self.step() && range.value.net().contains(&ip.net())),
                _ => false,
            },
            (Rule::AnyValidServiceToken {}, Rule::ServiceToken { .. })
            | (Rule::Certificate {}, Rule::CommonName { .. }) => true,
            (Rule::LoginMethod { id }, part) => provider(part) == Some(id),
            (
                Rule::PortcullisMethod { methods: whole },
                Rule::PortcullisMethod { methods: part },
            ) => part.iter().all(|verb| whole.contains(verb)),
            _ => false,
        }
    }

    fn items(&self, id: &str) -> Option<&ListItems> {
        self.lists.get(id).copied()
    }

    fn step(&self) -> bool {
        let left = self.budget.get();
        self.budget.set(left.saturating_sub(1));
        left > 0
    }
}

fn never_reached(first: &Policy, later: &Policy) -> String {
    let name = &first.name;
    match (first.decision, later.decision) {
        (
            PolicyDecision::Allow | PolicyDecision::Bypass | PolicyDecision::ServiceAuth,
            PolicyDecision::Deny,
        ) => {
            format!(
                "this never denies a request: `{name}` is evaluated first and allows every user it names; {}",
                if first.decision == PolicyDecision::Allow {
                    "move this above it"
                } else {
                    "bypass and Service Auth policies are always evaluated first; add an `exclude` there"
                }
            )
        }
        (PolicyDecision::Deny, PolicyDecision::Allow) => {
            format!(
                "this never allows a request: `{name}` is evaluated first and denies the same users"
            )
        }
        _ => format!(
            "this is never reached: `{name}` is evaluated first and covers every request this does"
        ),
    }
}

/// Returns the identity provider that a rule requires.
const fn provider(rule: &Rule) -> Option<&IdpId> {
    match rule {
        Rule::LoginMethod { id } => Some(id),
        Rule::Okta {
            identity_provider_id,
            ..
        }
        | Rule::Saml {
            identity_provider_id,
            ..
        }
        | Rule::Oidc {
            identity_provider_id,
            ..
        } => Some(identity_provider_id),
        _ => None,
    }
}

fn is_of(email: &str, domain: &str) -> bool {
    match (Email::parse(email), EmailDomain::parse(domain)) {
        (Ok(email), Ok(domain)) => email.domain() == domain.as_str(),
        _ => false,
    }
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(decision: &str, include: Value, require: Value, exclude: Value) -> Policy {
        let policy = json!({"name": decision, "decision": decision, "include": include, "require": require, "exclude": exclude});
        serde_json::from_value(policy).unwrap()
    }

    fn okta(name: &str, idp: &str) -> Value {
        json!({"okta": {"name": name, "identity_provider_id": idp}})
    }

    fn geo(code: &str) -> Value {
        json!({"geo": {"country_code": code}})
    }

    fn lists() -> Vec<List> {
        serde_json::from_value(json!([
            {"id": "staff", "name": "staff", "items": {"email": [{"value": "Alice@example.com"}]}},
            {"id": "offices", "name": "offices", "items": {"ip": [{"value": "203.0.113.0/24"}]}},
        ]))
        .unwrap()
    }

    fn can_never_apply(include: Value, require: Value, exclude: Value) -> bool {
        let (policy, lists) = (policy("allow", include, require, exclude), lists());
        Advisor::new(&lists).policy(&policy).is_some()
    }

    fn everyone() -> Value {
        json!([{"everyone": {}}])
    }

    fn none() -> Value {
        json!([])
    }

    fn email(email: &str) -> Value {
        json!({"email": {"email": email}})
    }

    fn domain(domain: &str) -> Value {
        json!({"email_domain": {"domain": domain}})
    }

    fn ip(ip: &str) -> Value {
        json!({"ip": {"ip": ip}})
    }

    #[test]
    fn contradicting_requirements_are_reported() {
        let method = |methods: &[&str]| json!({"portcullis_method": {"methods": methods}});
        let login = json!({"login_method": {"id": "other"}});
        for (require, never) in [
            (json!([geo("DE"), geo("FR")]), true),
            (json!([geo("DE"), geo("de")]), false),
            (json!([okta("a", "okta"), okta("b", "okta")]), false),
            (json!([okta("a", "okta"), okta("b", "other")]), true),
            (json!([okta("a", "okta"), login]), true),
            (json!([ip("10.0.0.0/8"), ip("10.1.0.0/16")]), false),
            (json!([ip("10.0.0.0/8"), ip("2001:db8::/32")]), true),
            (json!([method(&["GET", "HEAD"]), method(&["POST"])]), true),
            (json!([method(&["GET", "HEAD"]), method(&["GET"])]), false),
        ] {
            let found = can_never_apply(everyone(), require.clone(), none());
            assert_eq!(found, never, "{require}");
        }
    }

    #[test]
    fn policy_that_excludes_all_its_users_is_reported() {
        let (de, fr) = (json!([geo("DE")]), json!([geo("FR")]));
        assert!(!can_never_apply(everyone(), de.clone(), fr));
        assert!(can_never_apply(everyone(), de.clone(), de));
        assert!(can_never_apply(everyone(), none(), everyone()));
        let two = json!([email("a@b.example"), email("c@b.example")]);
        assert!(can_never_apply(two, json!([domain("d.example")]), none()));
        let two = json!([email("a@b.example"), email("c@d.example")]);
        assert!(!can_never_apply(two, json!([domain("D.example")]), none()));
        let one = || json!([email("a@b.example")]);
        assert!(can_never_apply(one(), none(), json!([domain("b.example")])));
        assert!(!can_never_apply(
            one(),
            json!([email("A@B.example")]),
            none()
        ));
        let staff = json!([{"email_list": {"id": "staff"}}]);
        assert!(can_never_apply(
            json!([email("ALICE@example.com")]),
            none(),
            staff
        ));
        let offices = json!([{"ip_list": {"id": "offices"}}]);
        assert!(can_never_apply(json!([ip("203.0.113.7")]), none(), offices));
        let group = |id: &str| json!([{"group": {"id": id}}]);
        assert!(!can_never_apply(group("x"), none(), group("y")));
    }

    fn unreached(policies: &[Policy]) -> Vec<(PolicyIndex, String)> {
        Advisor::new(&lists()).unreached(policies)
    }

    #[test]
    fn policy_that_is_never_reached_is_reported() {
        let eng = || json!([okta("Eng", "okta")]);
        let allow_all = policy("allow", everyone(), none(), none());
        let deny_eng = policy("deny", eng(), none(), none());
        let found = unreached(&[allow_all.clone(), deny_eng.clone()]);
        assert!(
            matches!(found.as_slice(), [(PolicyIndex(1), advice)] if advice.starts_with("this never denies a request: `allow`")),
            "{found:?}"
        );
        assert_eq!(unreached(&[deny_eng.clone(), allow_all.clone()]), []);

        let bypass_office = policy(
            "bypass",
            json!([{"ip_list": {"id": "offices"}}]),
            none(),
            none(),
        );
        let deny_one = policy(
            "deny",
            json!([{"ip": {"ip": "203.0.113.7"}}]),
            none(),
            none(),
        );
        let found = unreached(&[deny_one, bypass_office]);
        assert!(
            matches!(found.as_slice(), [(PolicyIndex(0), advice)] if advice.contains("always evaluated first")),
            "{found:?}"
        );

        let allow_eng_here = policy("allow", eng(), json!([geo("DE")]), none());
        assert_eq!(
            unreached(&[deny_eng.clone(), allow_eng_here.clone()]).len(),
            1
        );
        assert_eq!(
            unreached(&[allow_eng_here.clone(), deny_eng.clone()]),
            [],
            "it names more"
        );
        let but = policy("allow", everyone(), none(), json!([okta("Bad", "okta")]));
        assert_eq!(
            unreached(&[but.clone(), deny_eng.clone()]),
            [],
            "some of them are left"
        );
        let eng_but = policy("allow", eng(), none(), json!([okta("Bad", "okta")]));
        assert_eq!(unreached(&[but, eng_but]).len(), 1);
        let shadow = Policy {
            shadow: true,
            ..allow_all
        };
        assert_eq!(
            unreached(&[shadow, deny_eng]),
            [],
            "a shadow reaches nothing"
        );
    }

    #[test]
    fn advice_on_many_policies_ends_in_time() {
        let rules: Vec<Value> = (0..20_000)
            .map(|i| json!({"email": {"email": format!("p{i}@example.com")}}))
            .collect();
        let large = policy(
            "allow",
            json!(rules),
            json!([{"email_domain": {"domain": "other.example"}}]),
            json!(rules),
        );
        let lists = lists();
        let advisor = Advisor::new(&lists);
        // The advice is cut off early, whatever it is.
        let _ = (
            advisor.policy(&large),
            advisor.unreached(&[large.clone(), large]),
        );
    }
}
