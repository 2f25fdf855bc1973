use serde_json::json;

use super::*;
use crate::model::IdpId;

fn policy(json: serde_json::Value) -> Policy {
    serde_json::from_value(json).unwrap()
}

struct World {
    set: PolicySet,
    policies: Policies,
}

fn world(groups: serde_json::Value, policies: serde_json::Value) -> World {
    let groups: Vec<AccessGroup> = serde_json::from_value(groups).unwrap();
    let policies: Vec<Policy> = serde_json::from_value(policies).unwrap();
    let (set, mut all) = PolicySet::compile(&groups, [policies.as_slice()]).unwrap();
    World { set, policies: all.remove(0) }
}

/// One person's facts, each known or unknown.
struct Person {
    email: Option<&'static str>,
    idp: Option<&'static str>,
    groups: Option<&'static [&'static str]>,
    ip: &'static str,
}

const ALICE: Person =
    Person { email: Some("alice@example.com"), idp: Some("okta"), groups: Some(&["Eng"]), ip: "203.0.113.7" };

impl World {
    fn ask(&self, person: &Person) -> (Outcome, Option<usize>) {
        let idp = person.idp.map(|id| IdpId(id.into()));
        let groups = person.groups.map_or(Groups::Unknown, |names| {
            Groups::Known(names.iter().map(|n| Group { id: (*n).to_owned(), name: (*n).to_owned() }).collect())
        });
        let membership = idp.as_ref().and_then(|idp| self.set.interner().membership(idp, &groups));
        let facts = Facts {
            email: person.email,
            idp: idp.as_ref().map(|idp| self.set.interner().provider_number(idp)),
            groups: membership.as_ref(),
            ip: person.ip.parse().unwrap(),
        };
        let verdict = self
            .set
            .bypass(&self.policies, &Facts::of_nobody(facts.ip))
            .unwrap_or_else(|| self.set.evaluate(&self.policies, &facts));
        (verdict.outcome, verdict.policy)
    }
}

/// Each selector × (known true, known false, unknown) × (include, require, exclude) × (allow, deny).
#[test]
fn truth_tables() {
    let selectors = [
        (
            json!({"email": {"email": "ALICE@example.com"}}),
            Person { email: Some("bob@example.com"), ..ALICE },
            Some(Person { email: None, ..ALICE }),
        ),
        (
            json!({"email_domain": {"domain": "EXAMPLE.com"}}),
            Person { email: Some("a@sub.example.com"), ..ALICE },
            Some(Person { email: None, ..ALICE }),
        ),
        (json!({"ip": {"ip": "203.0.113.0/24"}}), Person { ip: "198.51.100.1", ..ALICE }, None),
        (
            json!({"okta": {"name": "Eng", "identity_provider_id": "okta"}}),
            Person { groups: Some(&["eng", "Engineering"]), ..ALICE },
            Some(Person { groups: None, ..ALICE }),
        ),
        (
            json!({"okta": {"name": "Eng", "identity_provider_id": "okta"}}),
            Person { idp: Some("other"), ..ALICE },
            None,
        ),
        (
            json!({"login_method": {"id": "okta"}}),
            Person { idp: Some("other"), ..ALICE },
            Some(Person { idp: None, ..ALICE }),
        ),
        (json!({"group": {"id": "g"}}), Person { groups: Some(&[]), ..ALICE }, Some(Person { groups: None, ..ALICE })),
    ];
    let groups =
        json!([{"id": "g", "name": "G", "include": [{"okta": {"name": "Eng", "identity_provider_id": "okta"}}]}]);
    let everyone = json!({"everyone": {}});
    for (rule, no, unknown) in selectors {
        for (clause, applies_if_true, applies_if_false) in
            [("include", true, false), ("require", true, false), ("exclude", false, true)]
        {
            for decision in ["allow", "deny"] {
                let mut subject = json!({"name": "p", "decision": decision, "include": [everyone]});
                subject[clause] = json!([rule]);
                let fallback = if decision == "allow" { "deny" } else { "allow" };
                let world =
                    world(groups.clone(), json!([subject, {"name": "q", "decision": fallback, "include": [everyone]}]));
                let expect = |applies: bool| if applies { 0 } else { 1 };
                let says = |person: &Person| world.ask(person).1.unwrap();
                assert_eq!(says(&ALICE), expect(applies_if_true), "true: {clause} {decision} {rule}");
                assert_eq!(says(&no), expect(applies_if_false), "false: {clause} {decision} {rule}");
                if let Some(unknown) = &unknown {
                    // Unknown keeps an allow from applying and lets a deny apply: both times the outcome is a refusal.
                    assert_eq!(world.ask(unknown).0, Outcome::Deny, "unknown: {clause} {decision} {rule}");
                }
            }
        }
    }
}

#[test]
fn order_and_default() {
    let eng = json!({"okta": {"name": "Eng", "identity_provider_id": "okta"}});
    let everyone = json!({"everyone": {}});
    let nothing = world(json!([]), json!([]));
    assert_eq!(nothing.ask(&ALICE), (Outcome::Deny, None));
    let world = world(
        json!([]),
        json!([
            {"name": "eng", "decision": "allow", "include": [eng]},
            {"name": "all", "decision": "deny", "include": [everyone]},
            {"name": "office", "decision": "bypass", "include": [{"ip": {"ip": "10.0.0.0/8"}}]},
        ]),
    );
    assert_eq!(world.ask(&ALICE), (Outcome::Allow, Some(0)));
    assert_eq!(world.ask(&Person { groups: Some(&[]), ..ALICE }), (Outcome::Deny, Some(1)));
    assert_eq!(
        world.ask(&Person { ip: "10.1.2.3", groups: None, ..ALICE }),
        (Outcome::Bypass, Some(2)),
        "bypass goes first"
    );
}

#[test]
fn no_include_applies_to_nobody() {
    let world = world(json!([]), json!([{"name": "p", "decision": "allow", "include": []}]));
    assert_eq!(world.ask(&ALICE), (Outcome::Deny, None));
}

#[test]
fn a_refusal_for_want_of_knowledge_says_so() {
    let eng = json!({"okta": {"name": "Eng", "identity_provider_id": "okta"}});
    let world = world(json!([]), json!([{"name": "p", "decision": "allow", "include": [eng]}]));
    let facts = Facts { email: Some("a@b.c"), idp: Some(0), groups: None, ip: "::1".parse().unwrap() };
    assert_eq!(
        world.set.evaluate(&world.policies, &facts),
        Verdict { outcome: Outcome::Deny, policy: None, unknown: true }
    );
}

#[test]
fn group_names_are_compared_byte_for_byte() {
    for name in ["On Call, EU", "Ops/Prod", "a\"b\\c", "R&D <x>", "Größe", "日本語グループ", " "] {
        let rule = json!({"okta": {"name": name, "identity_provider_id": "okta"}});
        let world = world(json!([]), json!([{"name": "p", "decision": "allow", "include": [rule]}]));
        let ask = |name: &str| {
            let groups = Groups::Known(vec![Group { id: "x".into(), name: name.into() }]);
            let idp = IdpId("okta".into());
            let set = world.set.interner().membership(&idp, &groups);
            let facts = Facts {
                email: None,
                idp: Some(world.set.interner().provider_number(&idp)),
                groups: set.as_ref(),
                ip: "::1".parse().unwrap(),
            };
            world.set.evaluate(&world.policies, &facts).outcome
        };
        assert_eq!(ask(name), Outcome::Allow, "{name}");
        assert_eq!(ask(&format!("{name} ")), Outcome::Deny, "{name}");
    }
}

#[test]
fn groups_nest_and_never_loop() {
    let group = |id: &str, inner: &str| json!({"id": id, "name": id, "include": [{"group": {"id": inner}}]});
    let compile = |groups: serde_json::Value| {
        let groups: Vec<AccessGroup> = serde_json::from_value(groups).unwrap();
        PolicySet::compile(&groups, []).map(|_| ())
    };
    assert_eq!(
        compile(json!([group("a", "b"), group("b", "c"), group("c", "b")])),
        Err(UnknownGroup::Cycle(vec!["b".into(), "c".into(), "b".into()]))
    );
    assert_eq!(compile(json!([group("a", "a")])), Err(UnknownGroup::Cycle(vec!["a".into(), "a".into()])));
    assert_eq!(compile(json!([group("a", "x")])), Err(UnknownGroup::Missing("x".into())));
    // The same group twice is no cycle.
    assert_eq!(
        compile(json!([group("a", "c"), group("b", "c"), {"id": "c", "name": "c", "include": [{"everyone": {}}]}])),
        Ok(())
    );
    let missing = [policy(json!({"name": "p", "decision": "allow", "include": [{"group": {"id": "nope"}}]}))];
    assert!(PolicySet::compile(&[], [missing.as_slice()]).is_err());
}
