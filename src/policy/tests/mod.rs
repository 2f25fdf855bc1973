mod evaluation;
mod property;
mod reference;
mod selectors;
mod values;

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
        let (set, mut all) = PolicySet::compile(
            SharedRules {
                lists: &lists,
                groups: &groups,
            },
            [policies.as_slice()],
        )
        .unwrap();
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
        linked_logins: Vec::new(),
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

fn lists() -> Value {
    json!([
        {"id": "people", "name": "People", "items": {"email": [{"value": "Alice@EXAMPLE.com"}, {"value": "carol@example.com"}]}},
        {"id": "offices", "name": "Offices", "items": {"ip": [
            {"value": "203.0.113.0/25"}, {"value": "203.0.113.128/25"}, {"value": "2001:db8::/32"}, {"value": "10.0.0.0/8"},
        ]}},
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
