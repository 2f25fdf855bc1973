mod property;
mod reference;

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{Email, Group, Groups, Identity, IdpId, IdpRef, UnixTime, UserId};
use reference::{Answer, Asked, World};

/// Policies, compiled and as configured.
struct Case {
    lists: Vec<List>,
    groups: Vec<AccessGroup>,
    policies: Vec<Policy>,
    set: PolicySet,
    compiled: Policies,
}

#[derive(Debug)]
struct Atlas(Option<Country>);

impl Countries for Atlas {
    fn country(&self, _ip: IpAddr) -> Option<Country> {
        self.0
    }
}

impl Case {
    fn new(lists: Value, groups: Value, policies: Value) -> Self {
        let lists: Vec<List> = serde_json::from_value(lists).unwrap();
        let groups: Vec<AccessGroup> = serde_json::from_value(groups).unwrap();
        Self::compile(lists, groups, serde_json::from_value(policies).unwrap())
    }

    fn compile(lists: Vec<List>, groups: Vec<AccessGroup>, policies: Vec<Policy>) -> Self {
        let (set, mut all) = PolicySet::compile(&lists, &groups, [policies.as_slice()]).unwrap();
        Self {
            lists,
            groups,
            policies,
            set,
            compiled: all.remove(0),
        }
    }

    fn ask(&self, asked: &Asked) -> Answer {
        let Asked {
            person,
            ip,
            method,
            now,
            country,
            service_token,
            certificate,
            linked_app,
        } = asked;
        let atlas = Atlas(*country);
        let facts = Facts {
            service_token: *service_token,
            certificate: *certificate,
            linked_app: *linked_app,
            ip: *ip,
            ..Facts::new(IpAddr::from([0; 16]), method, *now, Some(&atlas))
        };
        // A description may give the country without the IP address.
        if ip.is_none() {
            facts.country.set(*country).unwrap();
        }
        let early = self.set.early_verdict(&self.compiled, &facts);
        let who = person
            .as_ref()
            .map_or(Requester::Unknown, |(email, identity)| Requester::User {
                email,
                identity: identity.as_ref(),
            });
        let partial = self
            .set
            .partial_verdict(&self.compiled, &self.set.user_facts(who));
        let verdict = early.or_else(|| self.set.evaluate(&self.compiled, &partial, &facts));
        let walk = self.set.walk(&self.compiled, Some(who), &facts);
        assert_eq!(
            walk.verdict(),
            Some(verdict),
            "explained otherwise than decided"
        );
        (
            verdict.decision,
            verdict.policy.map(|index| index.0),
            verdict.unknown,
            verdict
                .shadow
                .map(|shadow| (shadow.policy.0, shadow.decision)),
        )
    }

    /// Returns the answer of both evaluators, which must agree.
    fn answer(&self, asked: &Asked) -> Answer {
        let answer = self.ask(asked);
        let world = World {
            lists: &self.lists,
            groups: &self.groups,
        };
        assert_eq!(
            answer,
            world.answer(&self.policies, asked),
            "{asked:?} {:?} {:?}",
            self.policies,
            self.groups
        );
        answer
    }
}

fn identity() -> Identity {
    Identity {
        user: UserId("u".into()),
        subject: "s".into(),
        email: Email::parse("alice@example.com").unwrap(),
        name: None,
        idp: IdpRef {
            id: IdpId("okta".into()),
            kind: "okta".into(),
        },
        groups: groups(&["Eng"]),
        groups_seen: None,
        amr: Some(vec!["pwd".into(), "mfa".into()]),
        claims: json!({"dept": ["eng", "ops"], "level": 3, "admin": true, "none": null})
            .as_object()
            .unwrap()
            .clone(),
        evaluations: BTreeMap::from([(
            "https://a.example/ https://a.example/keys".to_owned(),
            true,
        )]),
        beside: Vec::new(),
        session_ends: None,
        headers: Vec::new(),
        at: UnixTime(0),
        ip: None,
        revision: 0,
    }
}

fn groups(names: &[&str]) -> Groups {
    Groups::Known(
        names
            .iter()
            .map(|name| Group {
                id: (*name).into(),
                name: (*name).into(),
            })
            .collect(),
    )
}

/// Alice in the office, on a Monday at noon in London.
fn alice() -> Asked {
    Asked {
        person: Some((Email::parse("alice@example.com").unwrap(), Some(identity()))),
        ip: "203.0.113.7".parse().ok(),
        method: Method::GET,
        now: UnixTime(1_768_824_000),
        country: Country::parse("DE"),
        service_token: Fact::Present("t1"),
        certificate: Fact::Present("host.example.com"),
        linked_app: Fact::Present("app1"),
    }
}

#[test]
fn claims_that_cannot_be_compared_are_unknown() {
    let role = json!({"oidc": {"claim_name": "role", "claim_value": "contractor", "identity_provider_id": "okta"}});
    let answer = |claim: &Value, excluded: bool| {
        let everyone = json!({"everyone": {}});
        let (include, exclude) = if excluded {
            (&everyone, vec![&role])
        } else {
            (&role, vec![])
        };
        let policy = json!({"id": "p", "name": "p", "decision": "allow", "include": [include], "exclude": exclude});
        let case = Case::new(json!([]), json!([]), json!([policy]));
        let (outcome, _, unknown, _) = case.answer(&who(|identity| {
            drop(identity.claims.insert("role".into(), claim.clone()))
        }));
        (outcome == PolicyDecision::Allow, unknown)
    };
    for has in [
        json!("contractor"),
        json!(["contractor"]),
        json!(["contractor", 7, true]),
        json!(["contractor", null, {}]),
        json!({"contractor": {"1": "org"}}),
        json!({"contractor": {"1": "org"}, "x": null}),
    ] {
        assert_eq!(
            (answer(&has, false), answer(&has, true)),
            ((true, false), (false, false)),
            "{has}"
        );
    }
    for has_not in [
        json!(null),
        json!("Contractor"),
        json!("x,contractor"),
        json!(""),
        json!(7),
        json!(true),
        json!([]),
        json!(["x", 7]),
        json!({}),
        json!({"x": {"1": "org"}}),
    ] {
        assert_eq!(
            (answer(&has_not, false), answer(&has_not, true)),
            ((false, false), (true, false)),
            "{has_not}"
        );
    }
    for may in [
        json!({"contractor": 1}),
        json!({"contractor": {}}),
        json!({"name": "contractor"}),
        json!({"x": {"1": "org"}, "contractor": null}),
        json!(["x", {"name": "contractor"}]),
        json!(["x", null]),
        json!([["contractor"]]),
    ] {
        assert_eq!(
            (answer(&may, false), answer(&may, true)),
            ((false, true), (false, true)),
            "{may}"
        );
    }
}

fn who(change: impl FnOnce(&mut Identity)) -> Asked {
    let mut identity = identity();
    change(&mut identity);
    Asked {
        person: Some((identity.email.clone(), Some(identity))),
        ..alice()
    }
}

fn unlearned() -> Asked {
    let mut alice = alice();
    alice.person = alice.person.map(|(email, _)| (email, None));
    alice
}

fn nobody() -> Asked {
    Asked {
        person: None,
        ..alice()
    }
}

/// A rule that is true for Alice, with a user for whom it is false and one for whom it is unknown.
fn selectors() -> Vec<(Value, Asked, Option<Asked>)> {
    let okta = |name: &str| json!({"okta": {"name": name, "identity_provider_id": "okta"}});
    let other = |asked: fn(&mut Asked)| {
        let mut alice = alice();
        asked(&mut alice);
        alice
    };
    let bob = || {
        let email = Email::parse("bob@sub.example.com").unwrap();
        Asked {
            person: Some((
                email.clone(),
                Some(Identity {
                    email,
                    ..identity()
                }),
            )),
            ..alice()
        }
    };
    vec![
        (
            json!({"email": {"email": "ALICE@Example.com"}}),
            bob(),
            Some(nobody()),
        ),
        (
            json!({"email_domain": {"domain": "EXAMPLE.com"}}),
            bob(),
            Some(nobody()),
        ),
        (
            json!({"email_list": {"id": "people"}}),
            bob(),
            Some(nobody()),
        ),
        (
            json!({"ip": {"ip": "203.0.113.0/24"}}),
            other(|a| a.ip = "198.51.100.1".parse().ok()),
            Some(other(|a| a.ip = None)),
        ),
        (
            json!({"ip_list": {"id": "offices"}}),
            other(|a| a.ip = "198.51.100.1".parse().ok()),
            Some(other(|a| a.ip = None)),
        ),
        (
            json!({"geo": {"country_code": "DE"}}),
            other(|a| a.country = Country::parse("FR")),
            Some(other(|a| a.country = None)),
        ),
        (
            okta("Eng"),
            who(|i| i.groups = groups(&["eng", "Engineering"])),
            Some(who(|i| i.groups = Groups::Unknown)),
        ),
        (
            okta("Eng"),
            who(|i| i.idp.id = IdpId("other".into())),
            Some(unlearned()),
        ),
        (
            json!({"oidc": {"claim_name": "dept", "claim_value": "eng", "identity_provider_id": "okta"}}),
            who(|i| i.claims["dept"] = json!(null)),
            Some(who(|i| drop(i.claims.remove("dept")))),
        ),
        (
            json!({"saml": {"attribute_name": "level", "attribute_value": "3", "identity_provider_id": "okta"}}),
            who(|i| i.idp.id = IdpId("other".into())),
            Some(unlearned()),
        ),
        (
            json!({"login_method": {"id": "okta"}}),
            who(|i| i.idp.id = IdpId("other".into())),
            Some(unlearned()),
        ),
        (
            json!({"auth_method": {"auth_method": "mfa"}}),
            who(|i| i.amr = Some(vec!["MFA".into()])),
            Some(who(|i| i.amr = None)),
        ),
        (
            json!({"external_evaluation": {"evaluate_url": "https://a.example/", "keys_url": "https://a.example/keys"}}),
            who(|i| i.evaluations.values_mut().for_each(|holds| *holds = false)),
            Some(who(|i| i.evaluations.clear())),
        ),
        (
            json!({"external_evaluation": {"evaluate_url": "https://a.example/", "keys_url": "https://a.example/keys"}}),
            who(|i| i.evaluations.values_mut().for_each(|holds| *holds = false)),
            // An answer under other keys is that of another service.
            Some(who(|i| {
                i.evaluations =
                    BTreeMap::from([("https://a.example/ https://a.example/old".to_owned(), true)])
            })),
        ),
        (
            json!({"certificate": {}}),
            other(|a| a.certificate = Fact::Absent),
            Some(other(|a| a.certificate = Fact::Unknown)),
        ),
        (
            json!({"common_name": {"common_name": "host.example.com"}}),
            other(|a| a.certificate = Fact::Present("HOST.example.com")),
            Some(other(|a| a.certificate = Fact::Unknown)),
        ),
        (
            json!({"service_token": {"token_id": "t1"}}),
            other(|a| a.service_token = Fact::Present("t2")),
            Some(other(|a| a.service_token = Fact::Unknown)),
        ),
        (
            json!({"any_valid_service_token": {}}),
            other(|a| a.service_token = Fact::Absent),
            Some(other(|a| a.service_token = Fact::Unknown)),
        ),
        (
            json!({"linked_app_token": {"app_uid": "app1"}}),
            other(|a| a.linked_app = Fact::Absent),
            Some(other(|a| a.linked_app = Fact::Unknown)),
        ),
        (
            json!({"portcullis_method": {"methods": ["GET", "HEAD"]}}),
            other(|a| a.method = Method::POST),
            None,
        ),
        (
            json!({"portcullis_time": {"from": "08:00", "to": "18:00", "days": ["mon"], "time_zone": "Europe/London"}}),
            other(|a| a.now = UnixTime(a.now.0 + 86_400)),
            None,
        ),
        (
            json!({"group": {"id": "eng"}}),
            who(|i| i.groups = groups(&[])),
            Some(who(|i| i.groups = Groups::Unknown)),
        ),
        (
            json!({"group": {"id": "office"}}),
            other(|a| a.ip = "198.51.100.1".parse().ok()),
            Some(who(|i| i.groups = Groups::Unknown)),
        ),
    ]
}

fn lists() -> Value {
    json!([
        {"id": "people", "name": "People", "items": {"email": ["Alice@EXAMPLE.com", "carol@example.com"]}},
        {"id": "offices", "name": "Offices", "items": {"ip": ["203.0.113.0/25", "203.0.113.128/25", "2001:db8::/32", "10.0.0.0/8"]}},
    ])
}

/// `office` is in Eng and in the office; `nested` is everyone outside `office`.
fn access_groups() -> Value {
    let eng = json!({"okta": {"name": "Eng", "identity_provider_id": "okta"}});
    json!([
        {"id": "nested", "name": "N", "include": [{"everyone": {}}], "exclude": [{"group": {"id": "office"}}]},
        {"id": "office", "name": "O", "include": [{"group": {"id": "eng"}}], "require": [{"ip_list": {"id": "offices"}}]},
        {"id": "eng", "name": "E", "include": [eng]},
    ])
}

/// Each selector × (known true, known false, unknown) × (include, require, exclude) × (allow,
/// deny).
#[test]
fn every_selector_follows_its_truth_table() {
    let everyone = json!({"everyone": {}});
    for (rule, no, unknown) in selectors() {
        for (clause, if_true, if_false) in [
            ("include", true, false),
            ("require", true, false),
            ("exclude", false, true),
        ] {
            for decision in ["allow", "deny"] {
                let mut subject = json!({"name": "p", "decision": decision, "include": [everyone]});
                subject[clause] = json!([rule]);
                let fallback = if decision == "allow" { "deny" } else { "allow" };
                let last = json!({"name": "q", "decision": fallback, "include": [everyone]});
                let case = Case::new(lists(), access_groups(), json!([subject, last]));
                let decided = |asked: &Asked| case.answer(asked).1 == Some(0);
                assert_eq!(
                    decided(&alice()),
                    if_true,
                    "true: {clause} {decision} {rule}"
                );
                assert_eq!(decided(&no), if_false, "false: {clause} {decision} {rule}");
                if let Some(unknown) = &unknown {
                    // An allow does not apply, a deny does: both times the outcome is a refusal.
                    assert_eq!(
                        case.answer(unknown).0,
                        PolicyDecision::Deny,
                        "unknown: {clause} {decision} {rule}"
                    );
                }
            }
        }
    }
}

#[test]
fn rule_about_a_foreign_service_is_unknown() {
    for rule in [
        json!({"azureAD": {"id": "g", "identity_provider_id": "okta"}}),
        json!({"github-organization": {"name": "o", "identity_provider_id": "okta"}}),
        json!({"gsuite": {"email": "g@example.com", "identity_provider_id": "okta"}}),
        json!({"auth_context": {"id": "a", "ac_id": "c1", "identity_provider_id": "okta"}}),
        json!({"device_posture": {"integration_uid": "d"}}),
        json!({"user_risk_score": {"user_risk_score": ["low"]}}),
        json!({"cloudflare_account_member": {"account_id": "c"}}),
    ] {
        for clause in ["include", "require", "exclude"] {
            let mut policy =
                json!({"name": "p", "decision": "allow", "include": [{"everyone": {}}]});
            policy[clause] = json!([rule]);
            let answer = Case::new(json!([]), json!([]), json!([policy])).answer(&alice());
            assert_eq!(
                answer,
                (PolicyDecision::Deny, None, true, None),
                "{clause} {rule}"
            );
        }
    }
}

#[test]
fn early_policies_come_first_and_shadows_never_decide() {
    let everyone = json!({"everyone": {}});
    let office = json!({"ip": {"ip": "203.0.113.0/24"}});
    let named = |name: &str, decision: &str, rule: &Value| json!({"name": name, "decision": decision, "include": [rule]});
    let (allow, deny) = (
        named("a", "allow", &everyone),
        named("d", "deny", &everyone),
    );
    let (bypass, auth) = (
        named("b", "bypass", &office),
        named("s", "non_identity", &office),
    );
    let ask = |policies: Value| Case::new(json!([]), json!([]), policies).answer(&alice());
    assert_eq!(
        ask(json!([allow, deny])),
        (PolicyDecision::Allow, Some(0), false, None)
    );
    assert_eq!(
        ask(json!([deny, allow, bypass])),
        (PolicyDecision::Bypass, Some(2), false, None)
    );
    assert_eq!(
        ask(json!([auth, bypass])),
        (PolicyDecision::ServiceAuth, Some(0), false, None)
    );
    let shadow = |mut policy: Value| {
        policy["shadow"] = json!(true);
        policy
    };
    let would = |place, outcome| Some((place, outcome));
    assert_eq!(
        ask(json!([shadow(deny.clone()), allow])),
        (
            PolicyDecision::Allow,
            Some(1),
            false,
            would(0, PolicyDecision::Deny)
        )
    );
    assert_eq!(
        ask(json!([shadow(allow.clone())])),
        (
            PolicyDecision::Deny,
            None,
            false,
            would(0, PolicyDecision::Allow)
        )
    );
    assert_eq!(
        ask(json!([allow, shadow(bypass)])),
        (
            PolicyDecision::Allow,
            Some(0),
            false,
            would(1, PolicyDecision::Bypass)
        )
    );
    assert_eq!(
        ask(json!([allow, shadow(deny)])),
        (PolicyDecision::Allow, Some(0), false, None),
        "too late to matter"
    );
}

#[test]
fn policy_without_include_never_applies() {
    let case = Case::new(
        json!([]),
        json!([]),
        json!([{"name": "p", "decision": "allow", "include": []}]),
    );
    assert_eq!(
        case.answer(&alice()),
        (PolicyDecision::Deny, None, false, None)
    );
}

#[test]
fn names_and_values_are_compared_byte_for_byte() {
    for name in [
        "On Call, EU",
        "Ops/Prod",
        "a\"b\\c",
        "R&D <x>",
        "Größe",
        "日本語グループ",
        " ",
    ] {
        let rule = json!({"okta": {"name": name, "identity_provider_id": "okta"}});
        let case = Case::new(
            json!([]),
            json!([]),
            json!([{"name": "p", "decision": "allow", "include": [rule]}]),
        );
        assert_eq!(
            case.answer(&who(|i| i.groups = groups(&[name]))).0,
            PolicyDecision::Allow,
            "{name}"
        );
        assert_eq!(
            case.answer(&who(|i| i.groups = groups(&[&format!("{name} ")])))
                .0,
            PolicyDecision::Deny,
            "{name}"
        );
    }
    for (claim, value, holds) in [
        ("dept", "ops", true),
        ("dept", "Ops", false),
        ("dept", "eng,ops", false),
        ("level", "3", true),
        ("level", "3.0", false),
        ("admin", "true", true),
        ("none", "null", false),
        ("none", "", false),
    ] {
        let rule = json!({"oidc": {"claim_name": claim, "claim_value": value, "identity_provider_id": "okta"}});
        let case = Case::new(
            json!([]),
            json!([]),
            json!([{"name": "p", "decision": "allow", "include": [rule]}]),
        );
        assert_eq!(
            case.answer(&alice()).0 == PolicyDecision::Allow,
            holds,
            "{claim} {value}"
        );
    }
}

#[test]
fn mapped_address_equals_the_ipv4_address() {
    let rule = json!({"ip": {"ip": "::ffff:203.0.113.0/120"}});
    let case = Case::new(
        json!([]),
        json!([]),
        json!([{"name": "p", "decision": "allow", "include": [rule]}]),
    );
    assert_eq!(case.answer(&alice()).0, PolicyDecision::Allow);
}

#[test]
fn time_window_crosses_midnight_and_follows_summer_time() {
    let holds = |from: &str, to: &str, days: Value, now: &str| {
        let window = json!({"from": from, "to": to, "days": days, "time_zone": "Europe/Berlin"});
        let window: TimeWindow = serde_json::from_value(window).unwrap();
        let now: jiff::Timestamp = now.parse().unwrap();
        window
            .holds(UnixTime(now.as_second().try_into().unwrap()))
            .unwrap()
    };
    // Friday the 24th of July 2026: 22:30 in Berlin is 20:30 in Greenwich.
    assert!(holds(
        "22:00",
        "06:00",
        json!(["fri"]),
        "2026-07-24T20:30:00Z"
    ));
    assert!(!holds(
        "22:00",
        "06:00",
        json!(["fri"]),
        "2026-07-24T19:30:00Z"
    ));
    assert!(
        holds("22:00", "06:00", json!(["fri"]), "2026-07-25T03:59:59Z"),
        "until Saturday morning"
    );
    assert!(!holds(
        "22:00",
        "06:00",
        json!(["fri"]),
        "2026-07-25T04:00:00Z"
    ));
    assert!(
        !holds("22:00", "06:00", json!(["sat"]), "2026-07-25T03:00:00Z"),
        "which is still Friday's"
    );
    assert!(
        holds("08:00", "18:00", json!([]), "2026-01-15T07:00:00Z"),
        "one hour in winter"
    );
    assert!(!holds("08:00", "18:00", json!([]), "2026-01-15T06:59:59Z"));
    for (field, bad) in [
        ("from", json!("8:00")),
        ("from", json!("24:00")),
        ("to", json!("08:00")),
        ("days", json!(["Monday"])),
        ("time_zone", json!("Mars/Olympus")),
        ("time_zone", json!("CET ")),
    ] {
        let mut window = json!({"from": "08:00", "to": "18:00", "time_zone": "Europe/Berlin"});
        window[field] = bad;
        assert!(
            serde_json::from_value::<TimeWindow>(window.clone()).is_err(),
            "{window}"
        );
    }
}

#[test]
fn deeply_nested_groups_compile_and_loops_are_rejected() {
    let group = |id: &str, inner: &str| json!({"id": id, "name": id, "include": [{"group": {"id": inner}}]});
    let check = |groups: Value| {
        PolicySet::check(&serde_json::from_value::<Vec<AccessGroup>>(groups).unwrap())
    };
    assert_eq!(
        check(json!([group("a", "b"), group("b", "c"), group("c", "b")])),
        Err(UnknownName::Cycle(vec!["b".into(), "c".into(), "b".into()]))
    );
    assert_eq!(
        check(json!([group("a", "a")])),
        Err(UnknownName::Cycle(vec!["a".into(), "a".into()]))
    );
    assert_eq!(
        check(json!([group("a", "x")])),
        Err(UnknownName::Group("x".into()))
    );
    // The same group twice is no cycle.
    let leaf = json!({"id": "c", "name": "c", "include": [{"everyone": {}}]});
    assert_eq!(
        check(json!([group("a", "c"), group("b", "c"), leaf])),
        Ok(())
    );
    let policy =
        json!([{"name": "p", "decision": "allow", "include": [{"group": {"id": "nope"}}]}]);
    let policy: Vec<Policy> = serde_json::from_value(policy).unwrap();
    assert!(PolicySet::compile(&[], &[], [policy.as_slice()]).is_err());

    // Each of ten thousand names the next one twice. Recursion would run out of stack, or of time.
    let twice = |n: usize| json!({"id": n.to_string(), "name": "g", "include": [{"group": {"id": (n + 1).to_string()}}], "require": [{"group": {"id": (n + 1).to_string()}}]});
    let mut groups: Vec<Value> = (0..10_000).map(twice).collect();
    groups.push(json!({"id": "10000", "name": "g", "include": [{"ip": {"ip": "203.0.113.7"}}]}));
    let policy = json!([{"name": "p", "decision": "allow", "include": [{"group": {"id": "0"}}]}]);
    let case = Case::new(json!([]), json!(groups), policy);
    assert_eq!(case.ask(&alice()).0, PolicyDecision::Allow);
    assert_eq!(
        case.ask(&Asked {
            ip: "203.0.113.8".parse().ok(),
            ..alice()
        })
        .0,
        PolicyDecision::Deny
    );
}
