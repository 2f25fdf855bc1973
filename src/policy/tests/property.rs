//! Random policies and users, compared with the reference.

use super::selectors::selectors;
use super::*;

/// The group called random may name the others, but not itself.
fn rules(with_random: bool) -> impl Strategy<Value = Vec<Value>> {
    let mut known: Vec<Value> = selectors().into_iter().map(|(rule, ..)| rule).collect();
    known.extend([
        json!({"everyone": {}}),
        json!({"email": {"email": "bob@sub.example.com"}}),
        json!({"okta": {"name": "Ops", "identity_provider_id": "other"}}),
        json!({"device_posture": {"integration_uid": "d"}}),
        json!({"group": {"id": "nested"}}),
    ]);
    if with_random {
        known.push(json!({"group": {"id": "random"}}));
    }
    prop::collection::vec(prop::sample::select(known), 0..4)
}

fn clauses(with_random: bool) -> impl Strategy<Value = Value> {
    (rules(with_random), rules(with_random), rules(with_random))
        .prop_map(|(include, require, exclude)| json!({"include": include, "require": require, "exclude": exclude}))
}

fn policies() -> impl Strategy<Value = Vec<Policy>> {
    let decision = prop::sample::select(vec!["allow", "allow", "deny", "bypass", "non_identity"]);
    let policy = (clauses(true), decision, prop::bool::weighted(0.2)).prop_map(
        |(mut policy, decision, shadow)| {
            policy["name"] = json!("p");
            policy["decision"] = json!(decision);
            policy["shadow"] = json!(shadow);
            serde_json::from_value(policy).unwrap()
        },
    );
    prop::collection::vec(policy, 0..6)
}

fn asked() -> impl Strategy<Value = Asked> {
    let mut all = vec![alice(), nobody(), unlearned()];
    for (_, no, unknown) in selectors() {
        all.push(no);
        all.extend(unknown);
    }
    // Each part from another one.
    let any = || prop::sample::select(all.clone());
    (any(), any(), any(), any()).prop_map(|(a, b, c, d)| Asked {
        person: a.person,
        ip: b.ip,
        method: c.method,
        now: d.now,
        country: b.country,
        service_token: c.service_token,
        certificate: d.certificate,
        linked_app: a.linked_app,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// Compiled policies agree with the reference.
    #[test]
    fn compiled_policies_agree_with_the_reference(
        policies in policies(), mut random in clauses(false), asked in prop::collection::vec(asked(), 8),
    ) {
        random["id"] = json!("random");
        random["name"] = json!("R");
        let mut groups = access_groups();
        groups.as_array_mut().unwrap().insert(0, random);
        let groups = serde_json::from_value(groups).unwrap();
        let case = Case::compile(serde_json::from_value(lists()).unwrap(), groups, policies);
        for asked in &asked {
            case.answer(asked);
        }
    }

    /// A request that is admitted with unknown facts is admitted whatever they are: unknown never
    /// grants access.
    #[test]
    fn unknown_fact_never_grants_access(policies in policies(), known in asked(), hide in prop::array::uniform7(any::<bool>())) {
        let [country, token, certificate, app, groups, amr, record] = hide;
        let mut hidden = known.clone();
        hidden.country = hidden.country.filter(|_| !country);
        for (hide, fact) in [
            (token, &mut hidden.service_token),
            (certificate, &mut hidden.certificate),
            (app, &mut hidden.linked_app),
        ] {
            *fact = if hide { Fact::Unknown } else { *fact };
        }
        if let Some((_, identity)) = &mut hidden.person {
            if let Some(identity) = identity {
                identity.groups = if groups { Groups::Unknown } else { identity.groups.clone() };
                identity.amr = identity.amr.clone().filter(|_| !amr);
            }
            *identity = identity.clone().filter(|_| !record);
        }
        let case = Case::compile(
            serde_json::from_value(lists()).unwrap(),
            serde_json::from_value(access_groups()).unwrap(),
            policies.into_iter().filter(|policy| !format!("{policy:?}").contains("random")).collect(),
        );
        if case.ask(&hidden).0 != PolicyDecision::Deny {
            prop_assert_ne!(case.ask(&known).0, PolicyDecision::Deny, "{:?}", case.policies);
        }
    }
}
